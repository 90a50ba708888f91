# The CNN on CIFAR-10 in base R: one column gather (im2col), matrix products by
# BLAS, and a backward pass written by hand.
#
# Activations are matrices [channels, pixels], pixels ordered W, H, N: with the
# channels fastest, the patches of a convolution are one gather of columns, and
# giving the result the dimensions [channels * 9, pixels] moves no memory.

# Setup -----------------------------------------------------------------------

source("layers.R", local = TRUE)

# R has no float32: every task$precision is computed in double.

#' A convolution's kernel is kept as [channels in * 9, channels out], a dense
#' layer's as [in, out]. dense1 reads the flattened C, H, W; here the channels
#' come first, so its inputs are put into that order once.
from_canonical <- function(weights) {
  for (name in paste0("conv", 1:4, ".weight")) {
    kernel <- aperm(weights[[name]], c(3L, 1L, 2L, 4L))
    weights[[name]] <- matrix(kernel, ncol = dim(kernel)[4L])
  }
  dense1 <- array(weights$dense1.weight, c(8L, 8L, 100L, 512L))
  weights$dense1.weight <- matrix(aperm(dense1, c(3L, 1L, 2L, 4L)), ncol = 512L)
  weights
}

#' The other way round.
to_canonical <- function(weights) {
  for (name in paste0("conv", 1:4, ".weight")) {
    kernel <- weights[[name]]
    dim(kernel) <- c(nrow(kernel) / 9L, 3L, 3L, ncol(kernel))
    weights[[name]] <- aperm(kernel, c(2L, 3L, 1L, 4L))
  }
  dense1 <- array(weights$dense1.weight, c(100L, 8L, 8L, 512L))
  weights$dense1.weight <- matrix(aperm(dense1, c(2L, 3L, 1L, 4L)), ncol = 512L)
  weights
}

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  # R looks for NaN in both factors before each product unless it is told not to.
  options(matprod = "blas")
  set.seed(task$seed)
  model <- new.env()
  model$task <- task
  model$at32 <- gathers(32L, task$batch)
  model$at16 <- gathers(16L, task$batch)
  load(model, weights)
  model
}

# Load ------------------------------------------------------------------------

load <- function(model, weights) {
  model$weights <- from_canonical(weights)
  model$velocity <- lapply(model$weights, function(w) 0 * w)
}

# Place -----------------------------------------------------------------------

place <- function(model, array) array

# Train -----------------------------------------------------------------------

#' Scores [classes, n], and what the backward pass needs. The bias of a pooled
#' layer is added after the pooling: the maximum does not mind, and it is a quarter.
forward <- function(model, x, dropout = FALSE) {
  w <- model$weights
  mask <- function(x, rate) {
    if (dropout) (x > 0) * dropout_mask(x, rate) else x > 0
  }
  f <- list()
  f$patches1 <- patches(matrix(aperm(x, c(3L, 1L, 2L, 4L)), 3L), model$at32$plain)
  x <- crossprod(w$conv1.weight, f$patches1) + w$conv1.bias
  f$on1 <- x > 0
  f$patches2 <- patches(x * f$on1, model$at32$quads)
  x <- crossprod(w$conv2.weight, f$patches2)
  f$winner2 <- pool_winner(x)
  x <- matrix(x[f$winner2], 50L) + w$conv2.bias
  f$on2 <- mask(x, 0.25)
  f$patches3 <- patches(x * f$on2, model$at16$plain)
  x <- crossprod(w$conv3.weight, f$patches3) + w$conv3.bias
  f$on3 <- x > 0
  f$patches4 <- patches(x * f$on3, model$at16$quads)
  x <- crossprod(w$conv4.weight, f$patches4)
  f$winner4 <- pool_winner(x)
  x <- matrix(x[f$winner4], 100L) + w$conv4.bias
  f$on4 <- mask(x, 0.25)
  f$flat <- matrix(x * f$on4, 6400L)
  x <- crossprod(w$dense1.weight, f$flat) + w$dense1.bias
  f$on5 <- mask(x, 0.5)
  f$hidden <- x * f$on5
  f$scores <- crossprod(w$dense2.weight, f$hidden) + w$dense2.bias
  f
}

#' Gradients of all weights; d is the gradient of what was computed last.
backward <- function(model, f, d) {
  w <- model$weights
  g <- list()
  g$dense2.weight <- tcrossprod(f$hidden, d)
  g$dense2.bias <- row_sums(d)
  d <- (w$dense2.weight %*% d) * f$on5
  g$dense1.weight <- tcrossprod(f$flat, d)
  g$dense1.bias <- row_sums(d)
  d <- matrix(w$dense1.weight %*% d, 100L) * f$on4
  g$conv4.bias <- row_sums(d)
  d <- pool_back(d, f$winner4)
  g$conv4.weight <- tcrossprod(f$patches4, d)
  d <- conv_back(w$conv4.weight, d, model$at16$back) * f$on3
  g$conv3.bias <- row_sums(d)
  g$conv3.weight <- tcrossprod(f$patches3, d)
  d <- conv_back(w$conv3.weight, d, model$at16$plain) * f$on2
  g$conv2.bias <- row_sums(d)
  d <- pool_back(d, f$winner2)
  g$conv2.weight <- tcrossprod(f$patches2, d)
  d <- conv_back(w$conv2.weight, d, model$at32$back) * f$on1
  g$conv1.bias <- row_sums(d)
  g$conv1.weight <- tcrossprod(f$patches1, d)
  g
}

#' v <- momentum v + g; w <- w - rate v, PyTorch's form.
sgd <- function(model, gradients) {
  task <- model$task
  for (name in names(gradients)) {
    velocity <- task$momentum * model$velocity[[name]] + gradients[[name]]
    model$velocity[[name]] <- velocity
    model$weights[[name]] <- model$weights[[name]] - task$learning_rate * velocity
  }
}

train <- function(model, x, y, order) {
  batches <- matrix(order + 1L, model$task$batch)
  losses <- numeric(ncol(batches))
  for (step in seq_along(losses)) {
    batch <- batches[, step]
    f <- forward(model, x[, , , batch], model$task$dropout)
    error <- cross_entropy(f$scores, y[batch])
    sgd(model, backward(model, f, error$gradient))
    losses[step] <- error$loss
  }
  losses
}

# Predict ---------------------------------------------------------------------

predict <- function(model, x) {
  batches <- matrix(seq_len(dim(x)[4L]), model$task$batch)
  scores <- apply(batches, 2L, function(batch) forward(model, x[, , , batch])$scores)
  matrix(scores, model$task$classes)
}

# Weights ---------------------------------------------------------------------

weights <- function(model) to_canonical(model$weights)

# Synchronize -----------------------------------------------------------------

synchronize <- function(model) invisible()
