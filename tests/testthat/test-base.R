# The layers of r/frameworks/base against definitions written out.
layers <- new.env()
sys.source("../../r/frameworks/base/layers.R", layers)

test_that("the cross-entropy is its definition, and its gradient that of a finite difference", {
  set.seed(1)
  scores <- matrix(rnorm(12), 4, 3)
  labels <- c(0L, 3L, 1L)
  found <- layers$cross_entropy(scores, labels)
  by_hand <- mean(vapply(1:3, function(n) log(sum(exp(scores[, n]))) - scores[labels[n] + 1L, n], 0))
  expect_equal(found$loss, by_hand)
  step <- 1e-6
  moved <- scores
  moved[2, 3] <- moved[2, 3] + step
  slope <- (layers$cross_entropy(moved, labels)$loss - found$loss) / step
  expect_equal(found$gradient[2, 3], slope, tolerance = 1e-5)
})

test_that("pooling finds the first of the largest, and hands the gradient to it alone", {
  windows <- matrix(c(1, 5, 5, 2, 9, 9, 9, 9), nrow = 2, byrow = TRUE)
  # One channel, two windows: pixels of a window lie a quarter of the matrix apart.
  x <- matrix(as.vector(windows), 1)
  winner <- layers$pool_winner(x)
  expect_equal(x[winner], c(5, 9))
  expect_equal(winner, c(3L, 2L))
  expect_equal(sum(layers$pool_back(matrix(c(1, 2), 1), winner) != 0), 2L)
})

test_that("dropout keeps the mean and cuts the given share", {
  set.seed(2)
  mask <- layers$dropout_mask(numeric(1e5), 0.25)
  expect_setequal(unique(mask), c(0, 1 / 0.75))
  expect_equal(mean(mask == 0), 0.25, tolerance = 0.02)
  expect_equal(mean(mask), 1, tolerance = 0.02)
})

test_that("a convolution by gathered columns is the sum over taps, and its backward pass its adjoint", {
  set.seed(3)
  gather <- layers$gathers(4L, 2L)
  x <- array(rnorm(3 * 4 * 4 * 2), c(3, 4, 4, 2)) # channels, W, H, N
  kernel <- array(rnorm(3 * 9 * 5), c(3, 3, 3, 5)) # channels in, W, H, channels out
  columns <- matrix(kernel, 27)
  found <- array(crossprod(columns, layers$patches(matrix(x, 3), gather$plain)), c(5, 4, 4, 2))
  # The top right pixel of the second picture, of whose nine neighbours five lie outside.
  by_hand <- 0
  for (i in 3:4) for (j in 1:2) by_hand <- by_hand + sum(x[, i, j, 2] * kernel[, i - 2, j + 1, 4])
  expect_equal(found[4, 4, 1, 2], by_hand)
  d <- matrix(rnorm(5 * 32), 5)
  back <- layers$conv_back(columns, d, gather$plain)
  expect_equal(sum(back * matrix(x, 3)), sum(d * matrix(found, 5)))
})

test_that("quads have the pixels of a pooling window a quarter of the matrix apart, and `back` undoes their order", {
  gather <- layers$gathers(4L, 1L)
  pixels <- matrix(seq_len(16), 1)
  # The middle tap of a patch is the pixel itself.
  order <- layers$patches(pixels, gather$quads)[5, ]
  expect_equal(order[c(1, 5, 9, 13)], c(1, 2, 5, 6))
  expect_equal(layers$patches(matrix(order, 1), gather$back)[5, ], seq_len(16))
})

test_that("rows are summed", {
  expect_equal(layers$row_sums(matrix(1:6, 2)), c(9, 12))
})
