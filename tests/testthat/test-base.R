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
