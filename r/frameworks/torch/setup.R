# What the three legs of torch for R share: device, precision, threads, and arrays between R and libtorch.
# Written to the documentation and the sources of torch 0.17.0.

library(torch)

#' Sets threads and seed; the device that the task computes on.
setup <- function(task) {
  torch_set_num_threads(task$threads)
  torch_manual_seed(task$seed)
  torch_device(task$device)
}

#' The type that weights and pictures have.
floats <- function(task) if (task$precision == "fp64") torch_float64() else torch_float32()

#' A canonical array, whose dimensions R has reversed, as a tensor in its own order.
tensor_of <- function(array, dtype, device) {
  dimensions <- if (is.null(dim(array))) 1L else length(dim(array))
  torch_tensor(array, dtype = dtype, device = device)$permute(rev(seq_len(dimensions)))$contiguous()
}

#' The other way round: an R array with its dimensions reversed.
array_of <- function(tensor) {
  array <- as_array(tensor$detach()$cpu()$to(dtype = torch_float64()))
  if (is.null(dim(array)) || length(dim(array)) == 1L) as.vector(array) else aperm(array, rev(seq_along(dim(array))))
}

#' Copies canonical weights into a module's parameters or buffers; `own` gives the module's name for a canonical one.
put_weights <- function(network, weights, own = identity) {
  tensors <- network$state_dict()
  with_no_grad({
    for (name in names(weights)) {
      target <- tensors[[own(name)]]
      target$copy_(tensor_of(weights[[name]], target$dtype, target$device))
    }
  })
}

#' Positions count from 0, torch for R from 1.
batches <- function(model, order) {
  starts <- seq(1L, length(order), by = model$task$batch)
  lapply(starts, function(start) {
    torch_tensor(order[start - 1L + seq_len(model$task$batch)] + 1L, dtype = torch_int64(), device = model$device)
  })
}

#' One pass over the samples at the positions `order`; the losses are read when every step has been queued.
train_in_order <- function(model, x, y, order) {
  model$network$train()
  losses <- lapply(batches(model, order), function(batch) {
    model$optimizer$zero_grad()
    loss <- nnf_cross_entropy(model$network(x$index_select(1, batch)), y$index_select(1, batch))
    loss$backward()
    model$optimizer$step()
    loss$detach()
  })
  array_of(torch_stack(losses))
}

#' Scores [classes, n], or features, of all samples, a batch at a time, as an R array.
predict_in_order <- function(model, x) {
  model$network$eval()
  with_no_grad(array_of(torch_cat(lapply(x$split(model$task$batch), model$network))))
}

#' Waits for the GPU's stream; on a CPU libtorch does not queue.
synchronize <- function(model) {
  if (model$task$device == "cuda") cuda_synchronize()
  invisible(NULL)
}
