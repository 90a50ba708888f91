# What the three MXNet legs share: types, waiting, and the loop over batches.
#
# MXNet's own package for R was retired with MXNet in 2023 and never was on CRAN. These legs drive its Gluon from R, by
# reticulate, in this process. Arrays are MXNet's all the way: modules are imported with convert = FALSE.

python_arrays <- TRUE

mx <- reticulate::import("mxnet", convert = FALSE)
gluon <- mx$gluon
nn <- gluon$nn

#' MXNet's name of the type that weights and pictures have.
floats <- function(task) if (task$precision == "fp64") "float64" else "float32"

#' Threads are OpenMP's, whose number MXNet reads from OMP_NUM_THREADS when it is imported: the harness has set it.
setup <- function(task) mx$random$seed(task$seed)

#' A block in the task's type, its arrays in place; `network` is a Python object of a class that PyClass() made.
prepare <- function(network, task) {
  network$cast(floats(task))
  network$initialize(ctx = mx$cpu())
  network
}

#' Puts a canonical array into a parameter, in the task's type.
set_parameter <- function(parameter, array, task) parameter$set_data(mx$nd$array(array, dtype = floats(task)))

#' The array of a parameter, as NumPy's: objects of a class made here convert, MXNet's own do not.
numbers <- function(parameter) mx$nd$identity(parameter$data())$asnumpy()

#' One pass over the samples at the positions `order`. What the loop calls is fetched before it: each `$` is a call of its own.
train_in_order <- function(model, x, y, order, before_step = function() NULL) {
  size <- model$task$batch
  network <- model$network
  loss_of <- network$loss
  step <- model$trainer$step
  record <- mx$autograd$record
  take_x <- x$take
  take_y <- y$take
  part <- mx$nd$slice_axis
  starts <- seq(0L, reticulate::py_to_r(order$shape[0L]) - 1L, by = size)
  order <- mx$nd$array(order, dtype = "int32")
  losses <- lapply(starts, function(start) {
    before_step()
    batch <- part(order, axis = 0L, begin = start, end = start + size)
    with(record(), loss <- loss_of(network(take_x(batch))$T, take_y(batch)))
    # One loss a sample: backward() sums them, step() divides the gradients by the batch.
    loss$backward()
    step(size)
    loss$mean()
  })
  do.call(mx$nd$concat, c(losses, list(dim = 0L)))$asnumpy()
}

#' Scores [n, classes], or features, of all samples, a batch at a time, as NumPy's array.
predict_in_order <- function(model, x) {
  size <- model$task$batch
  network <- model$network
  part <- mx$nd$slice_axis
  starts <- seq(0L, reticulate::py_to_r(x$shape[0L]) - 1L, by = size)
  parts <- lapply(starts, function(start) network(part(x, axis = 0L, begin = start, end = start + size)))
  do.call(mx$nd$concat, c(parts, list(dim = 0L)))$asnumpy()
}

#' Waits until MXNet's engine has done what was queued.
synchronize <- function(model) {
  mx$nd$waitall()
  invisible(NULL)
}
