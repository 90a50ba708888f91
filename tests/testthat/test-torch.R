# The functions of r/frameworks/torch that need no libtorch, which is stood in for where they call it.

test_that("positions count from 0 outside and from 1 in torch for R, in batches of the task's size", {
  setup <- functions_of(
    "../../r/frameworks/torch/setup.R",
    torch_tensor = function(data, ...) data, torch_int64 = function() "int64"
  )
  model <- list(task = list(batch = 2L), device = "cpu")
  expect_equal(setup$batches(model, c(4L, 0L, 3L, 1L)), list(c(5L, 1L), c(4L, 2L)))
})

test_that("an array comes back with its dimensions reversed, a vector as it is", {
  # A tensor whose every conversion gives itself back.
  tensor <- function(data) {
    self <- list(data = data)
    self$detach <- self$cpu <- function() self
    self$to <- function(dtype) self
    self
  }
  setup <- functions_of(
    "../../r/frameworks/torch/setup.R",
    as_array = function(tensor) tensor$data, torch_float64 = function() "float64"
  )
  expect_equal(setup$array_of(tensor(matrix(1:6, 2))), t(matrix(1:6, 2)))
  expect_equal(dim(setup$array_of(tensor(array(0, 2:4)))), 4:2)
  expect_equal(setup$array_of(tensor(array(1:3))), 1:3)
})
