#' The functions of an R file, without what it loads or runs besides: the packages that it stands on need not be there.
functions_of <- function(file, ...) {
  own <- list2env(list(...), parent = globalenv())
  for (line in parse(file)) {
    defines <- is.call(line) && identical(line[[1L]], as.name("<-"))
    if (defines && is.call(line[[3L]]) && identical(line[[3L]][[1L]], as.name("function"))) eval(line, own)
  }
  own
}

#' Adam's two moments after the gradients, which start at zero.
moments <- function(gradients, task) {
  found <- c(0, 0)
  for (g in gradients) found <- c(task$beta1, task$beta2) * found + c(1 - task$beta1, 1 - task$beta2) * c(g, g^2)
  found
}

#' The last update by Algorithm 1 of Kingma and Ba (2014): the epsilon beside the corrected root.
adam_update <- function(gradients, task) {
  step <- length(gradients)
  corrected <- moments(gradients, task) / (1 - c(task$beta1, task$beta2)^step)
  -task$learning_rate * corrected[1L] / (sqrt(corrected[2L]) + task$epsilon)
}

#' The last update as Keras and MXNet compute it: "epsilon hat" beside the root as it is, both corrections in the rate.
adam_hat_update <- function(gradients, task, epsilon) {
  step <- length(gradients)
  found <- moments(gradients, task)
  rate <- task$learning_rate * sqrt(1 - task$beta2^step) / (1 - task$beta1^step)
  -rate * found[1L] / (sqrt(found[2L]) + epsilon)
}
