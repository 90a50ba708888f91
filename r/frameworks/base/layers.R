# What the two networks in base R are built from. d is always the gradient of the
# loss by a layer's output; a matrix has one sample (or pixel) in each column.

#' Columns that the 3x3 neighbourhood of each pixel reads, padding 1. `columns`
#' [W, H, N] says in which column a pixel stands; beyond the last stand the zeros.
neighbours <- function(columns) {
  size <- dim(columns)
  padded <- array(length(columns) + 1L, size + c(2L, 2L, 0L))
  padded[seq_len(size[1L]) + 1L, seq_len(size[2L]) + 1L, ] <- columns
  tap <- function(i, j) {
    c(padded[seq_len(size[1L]) + i, seq_len(size[2L]) + j, ])
  }
  rbind(
    tap(0L, 0L), tap(1L, 0L), tap(2L, 0L),
    tap(0L, 1L), tap(1L, 1L), tap(2L, 1L),
    tap(0L, 2L), tap(1L, 2L), tap(2L, 2L)
  )
}

#' A layer in front of a pooling one leaves its pixels in the order of `quads`:
#' the four pixels of a pooling window lie a quarter of the matrix apart.
gathers <- function(size, batch) {
  pixels <- size * size * batch
  plain <- array(seq_len(pixels), c(size, size, batch))
  quads <- array(plain, c(2L, size / 2L, 2L, size / 2L, batch))
  quads <- c(aperm(quads, c(2L, 4L, 5L, 1L, 3L)))
  from_quads <- plain
  from_quads[quads] <- seq_len(pixels)
  list(
    plain = neighbours(plain),
    quads = neighbours(plain)[, quads],
    back = neighbours(from_quads)
  )
}

#' Patches [channels * 9, pixels] of pictures [channels, pixels]: one gather of
#' columns; `gather` [9, pixels] is one of those that gathers() makes.
patches <- function(x, gather) {
  x <- cbind(x, 0)[, gather]
  dim(x) <- c(length(x) / ncol(gather), ncol(gather))
  x
}

#' Convolves the gradient with the turned kernel: [pixels in], as the layer's input.
conv_back <- function(kernel, d, gather) {
  channels <- nrow(kernel) / 9L
  dim(kernel) <- c(channels, 9L, ncol(kernel))
  turned <- aperm(kernel[, 9:1, , drop = FALSE], c(3L, 2L, 1L))
  crossprod(matrix(turned, ncol = channels), patches(d, gather))
}

#' Position of the largest of the four pixels of each window, the first if equal.
pool_winner <- function(x) {
  windows <- length(x) / 4L
  dim(x) <- c(windows, 4L)
  seq_len(windows) + (max.col(x, "first") - 1L) * windows
}

#' Gradient [channels, 4 n] of a pooling layer's input, d [channels, n] of its output:
#' all of it goes to the winner that pool_winner() found.
pool_back <- function(d, winner) {
  back <- matrix(0, nrow(d), ncol(d) * 4L)
  back[winner] <- d
  back
}

#' Inverted dropout for an array like `x`: 0 with probability `rate`, else 1 / (1 - rate).
dropout_mask <- function(x, rate) (runif(length(x)) >= rate) / (1 - rate)

#' Sums over the columns of d [n, samples], by BLAS: what a bias gets of a gradient.
row_sums <- function(d) drop(d %*% rep(1, ncol(d)))

#' Mean softmax cross-entropy of scores [classes, n], and its gradient.
cross_entropy <- function(scores, labels) {
  n <- ncol(scores)
  truth <- cbind(labels + 1L, seq_len(n))
  scores <- scores - rep(apply(scores, 2L, max), each = nrow(scores))
  total <- colSums(exp(scores))
  d <- exp(scores) / rep(total, each = nrow(scores))
  d[truth] <- d[truth] - 1
  list(loss = mean(log(total) - scores[truth]), gradient = d / n)
}
