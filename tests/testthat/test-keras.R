# The functions of r/frameworks/keras that need no Keras, which is stood in for where they call it.
task <- list(learning_rate = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-3, precision = "fp32")

test_that("a convolution with a stride is padded on both sides alike, every other one as Keras does", {
  calls <- list()
  resnet50 <- functions_of(
    "../../r/frameworks/keras/resnet50.R",
    layer_zero_padding_2d = function(x, size) {
      calls[[length(calls) + 1L]] <<- size
      paste(x, "padded")
    }
  )
  expect_equal(resnet50$pad("x", 1, 2, shipped = FALSE), list(x = "x", padding = "same"))
  expect_equal(resnet50$pad("x", 3, 1, shipped = FALSE), list(x = "x", padding = "same"))
  expect_equal(resnet50$pad("x", 3, 2, shipped = FALSE), list(x = "x padded", padding = "valid"))
  expect_equal(resnet50$pad("x", 7, 2, shipped = FALSE)$padding, "valid")
  expect_equal(resnet50$pad("x", 3, 2, shipped = TRUE), list(x = "x", padding = "same"))
  expect_identical(calls, list(1L, 3L))
})

test_that("the epsilon of each step makes Keras's Adam the paper's", {
  tf <- list(cast = function(x, type) x, constant = function(x, dtype) x, sqrt = sqrt, pow = `^`)
  rnn <- functions_of("../../r/frameworks/keras/rnn.R", tf = tf, floats = function(task) "float32")
  set_epsilon <- rnn$exact_epsilon(task)
  gradients <- c(0.5, -0.2, 0.003)
  for (done in 0:2) {
    optimizer <- list2env(list(iterations = list(value = done)))
    set_epsilon(optimizer)
    seen <- gradients[seq_len(done + 1L)]
    expect_equal(adam_hat_update(seen, task, optimizer$epsilon), adam_update(seen, task))
  }
})

test_that("float64 is asked for by the proof alone", {
  setup <- functions_of("../../r/frameworks/keras/setup.R", np = list(float64 = function(x) paste("float64", x)))
  expect_equal(setup$floats(list(precision = "fp64")), "float64")
  expect_equal(setup$floats(list(precision = "bf16")), "float32")
  expect_equal(setup$exact(list(precision = "fp64"), 0.9), "float64 0.9")
  expect_equal(setup$exact(list(precision = "fp32"), 0.9), 0.9)
})
