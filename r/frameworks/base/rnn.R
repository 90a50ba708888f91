# The GRU on IMDB in base R: the products of all inputs in one go, one small
# product a token for the state, and a backward pass through time by hand.
#
# Gates are rows r, z, n. A matrix has one sample in each column; what holds all
# tokens orders its columns sample by sample, then token by token.

# Setup -----------------------------------------------------------------------

source("layers.R", local = TRUE)

# R has no float32: every task$precision is computed in double. The canonical
# layout as R sees it, [in, out] and [dim, vocabulary], is the one to compute in.

#' The logistic function, elementwise.
sigmoid <- function(x) 1 / (1 + exp(-x))

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  # R looks for NaN in both factors before each product unless it is told not to.
  options(matprod = "blas")
  model <- new.env()
  model$task <- task
  load(model, weights)
  model
}

# Load ------------------------------------------------------------------------

load <- function(model, weights) {
  model$weights <- weights
  model$mean <- lapply(weights, function(w) 0 * w)
  model$square <- model$mean
  model$step <- 0L
}

# Place -----------------------------------------------------------------------

place <- function(model, array) array

# Train -----------------------------------------------------------------------

#' Scores [classes, n] of tokens [150, n], and what the backward pass needs.
forward <- function(model, tokens) {
  w <- model$weights
  steps <- nrow(tokens)
  units <- nrow(w$gru.weight_hh)
  rz <- seq_len(2L * units)
  words <- c(t(tokens)) + 1L
  inputs <- w$embedding.weight[, words]
  # The state's biases of r and z can be added beforehand; that of n is gated by r.
  bias_rz <- w$gru.bias_ih[rz] + w$gru.bias_hh[rz]
  inputs_rz <- crossprod(w$gru.weight_ih[, rz], inputs) + bias_rz
  inputs_n <- crossprod(w$gru.weight_ih[, -rz], inputs) + w$gru.bias_ih[-rz]
  dim(inputs_rz) <- c(2L * units, ncol(tokens), steps)
  dim(inputs_n) <- c(units, ncol(tokens), steps)
  weight_rz <- w$gru.weight_hh[, rz]
  weight_n <- w$gru.weight_hh[, -rz]
  bias_n <- w$gru.bias_hh[-rz]
  before <- r <- z <- k <- n <- vector("list", steps)
  h <- matrix(0, units, ncol(tokens))
  for (t in seq_len(steps)) {
    before[[t]] <- h
    gates <- sigmoid(inputs_rz[, , t] + crossprod(weight_rz, h))
    r[[t]] <- gates[seq_len(units), ]
    z[[t]] <- gates[-seq_len(units), ]
    k[[t]] <- crossprod(weight_n, h) + bias_n
    n[[t]] <- tanh(inputs_n[, , t] + r[[t]] * k[[t]])
    h <- n[[t]] + z[[t]] * (h - n[[t]])
  }
  scores <- crossprod(w$dense.weight, h) + w$dense.bias
  list(
    words = words, inputs = inputs, before = before, r = r, z = z, k = k, n = n,
    last = h, scores = scores
  )
}

#' Gradients of all weights; the embedding's as a column for each of `unique(words)`.
backward <- function(model, f, d) {
  w <- model$weights
  g <- list(dense.weight = tcrossprod(f$last, d), dense.bias = row_sums(d))
  d_input <- d_state <- f$n
  d <- w$dense.weight %*% d
  for (t in rev(seq_along(f$n))) {
    r <- f$r[[t]]
    z <- f$z[[t]]
    n <- f$n[[t]]
    d_n <- d * (1 - z) * (1 - n * n)
    d_r <- d_n * f$k[[t]] * r * (1 - r)
    d_z <- d * (f$before[[t]] - n) * z * (1 - z)
    d_input[[t]] <- rbind(d_r, d_z, d_n)
    d_state[[t]] <- rbind(d_r, d_z, d_n * r)
    d <- w$gru.weight_hh %*% d_state[[t]] + d * z
  }
  d_input <- do.call(cbind, d_input)
  d_state <- do.call(cbind, d_state)
  g$gru.weight_ih <- tcrossprod(f$inputs, d_input)
  g$gru.bias_ih <- row_sums(d_input)
  g$gru.weight_hh <- tcrossprod(do.call(cbind, f$before), d_state)
  g$gru.bias_hh <- row_sums(d_state)
  # The gradients of a word that stands in several places are summed.
  places <- crossprod(d_input, t(w$gru.weight_ih))
  g$embedding.weight <- t(rowsum(places, f$words, reorder = FALSE))
  g
}

#' Every row of the embedding is updated in each step; only those of `words` have
#' a gradient. Both corrections go into the two factors of a whole array.
adam <- function(model, gradients, words) {
  task <- model$task
  model$step <- model$step + 1L
  root <- sqrt(1 - task$beta2^model$step)
  rate <- task$learning_rate * root / (1 - task$beta1^model$step)
  for (name in names(gradients)) {
    gradient <- gradients[[name]]
    mean <- task$beta1 * model$mean[[name]]
    square <- task$beta2 * model$square[[name]]
    if (name == "embedding.weight") {
      mean[, words] <- mean[, words] + (1 - task$beta1) * gradient
      square[, words] <- square[, words] + (1 - task$beta2) * gradient^2
    } else {
      mean <- mean + (1 - task$beta1) * gradient
      square <- square + (1 - task$beta2) * gradient^2
    }
    model$weights[[name]] <- model$weights[[name]] -
      rate * mean / (sqrt(square) + task$epsilon * root)
    model$mean[[name]] <- mean
    model$square[[name]] <- square
  }
}

train <- function(model, x, y, order) {
  batches <- matrix(order + 1L, model$task$batch)
  losses <- numeric(ncol(batches))
  for (step in seq_along(losses)) {
    batch <- batches[, step]
    f <- forward(model, x[, batch])
    error <- cross_entropy(f$scores, y[batch])
    adam(model, backward(model, f, error$gradient), unique(f$words))
    losses[step] <- error$loss
  }
  losses
}

# Predict ---------------------------------------------------------------------

predict <- function(model, x) {
  batches <- matrix(seq_len(ncol(x)), model$task$batch)
  scores <- apply(batches, 2L, function(batch) forward(model, x[, batch])$scores)
  matrix(scores, model$task$classes)
}

# Weights ---------------------------------------------------------------------

weights <- function(model) model$weights

# Synchronize -----------------------------------------------------------------

synchronize <- function(model) invisible()
