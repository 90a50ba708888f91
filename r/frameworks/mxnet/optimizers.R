# The optimizers of the two trained legs, where MXNet's own are not the reference's.

#' A network with its loss as a graph whose memory is planned once, at the first batch.
trained_model <- function(network, task) {
  prepare(network, task)
  # Along the last axis log_softmax is oneDNN's, 1e-6 off in float32; along the first it is MXNet's own, and exact.
  network$loss <- gluon$loss$SoftmaxCrossEntropyLoss(axis = 0L, batch_axis = 1L)
  network$hybridize(static_alloc = TRUE, static_shape = TRUE)
  model <- new.env()
  model$network <- network
  model$task <- task
  model
}

#' A fresh optimizer. One device has no gradients to sum: no key-value store.
begin <- function(model, optimizer) {
  model$optimizer <- optimizer
  model$steps <- 0L
  model$trainer <- gluon$Trainer(model$network$collect_params(), optimizer, kvstore = NULL)
}

#' MXNet's Adam divides by sqrt(v) + epsilon and corrects the rate: w -= rate c m / (sqrt(v) + epsilon) with
#' c = sqrt(1 - beta2^t) / (1 - beta1^t). An epsilon of epsilon sqrt(1 - beta2^t) makes that the reference's.
exact_epsilon <- function(model) {
  task <- model$task
  function() {
    model$steps <- model$steps + 1L
    model$optimizer$epsilon <- task$epsilon * sqrt(1 - task$beta2^model$steps)
  }
}

#' MXNet's fused updates take rate, momentum and betas as float32, for float64 weights too: .01 then means .00999999978.
#' Doubles reach only the scalars of its arithmetic, so these two carry fp64; the fused ones pass over memory once.
double_sgd <- function(task) {
  DoubleSGD <- reticulate::PyClass("DoubleSGD", inherit = mx$optimizer$Optimizer, defs = list(
    create_state = function(self, index, weight) mx$nd$zeros_like(weight),
    update = function(self, index, weight, gradient, velocity) {
      new <- velocity * task$momentum - gradient * (task$learning_rate * reticulate::py_to_r(self$rescale_grad))
      new$copyto(velocity)
      (weight + new)$copyto(weight)
      invisible(NULL)
    }
  ))
  DoubleSGD(learning_rate = task$learning_rate)
}

#' w -= rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon): the reference's form, all in double.
double_adam <- function(task) {
  steps <- new.env()
  DoubleAdam <- reticulate::PyClass("DoubleAdam", inherit = mx$optimizer$Optimizer, defs = list(
    create_state = function(self, index, weight) reticulate::tuple(mx$nd$zeros_like(weight), mx$nd$zeros_like(weight)),
    update = function(self, index, weight, gradient, state) {
      key <- as.character(index)
      step <- (if (is.null(steps[[key]])) 0 else steps[[key]]) + 1
      steps[[key]] <- step
      mean <- state[[1L]]
      square <- state[[2L]]
      gradient <- gradient * reticulate::py_to_r(self$rescale_grad)
      (mean * task$beta1 + gradient * (1 - task$beta1))$copyto(mean)
      (square * task$beta2 + gradient$square() * (1 - task$beta2))$copyto(square)
      root <- (square * (1 / (1 - task$beta2^step)))$sqrt() + task$epsilon
      (weight - mean * (task$learning_rate / (1 - task$beta1^step)) / root)$copyto(weight)
      invisible(NULL)
    }
  ))
  DoubleAdam(learning_rate = task$learning_rate)
}
