# The functions of r/frameworks/mxnet that need no MXNet.
task <- list(learning_rate = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-3)

test_that("the epsilon of each step makes MXNet's Adam the paper's", {
  optimizers <- functions_of("../../r/frameworks/mxnet/optimizers.R")
  model <- list2env(list(task = task, optimizer = new.env(), steps = 0L))
  before_step <- optimizers$exact_epsilon(model)
  gradients <- c(0.5, -0.2, 0.003)
  for (step in 1:3) {
    before_step()
    seen <- gradients[seq_len(step)]
    expect_equal(adam_hat_update(seen, task, model$optimizer$epsilon), adam_update(seen, task))
  }
})

test_that("a canonical name leads to the block that has the parameter", {
  rnn <- functions_of("../../r/frameworks/mxnet/rnn.R", own_names = c(gru.bias_ih = "gru.l0_i2h_bias"))
  model <- list(network = list(gru = list(l0_i2h_bias = "found")))
  expect_equal(rnn$parameter(model, "gru.bias_ih"), "found")
  norm_names <- c(weight = "gamma", running_var = "running_var")
  resnet50 <- functions_of("../../r/frameworks/mxnet/resnet50.R", norm_names = norm_names)
  norm <- structure(list(gamma = "scale", running_var = "variance"), class = "mxnet.gluon.nn.basic_layers.BatchNorm")
  blocks <- list(conv1 = list(weight = "kernel"), bn1 = norm)
  network <- list(layer1 = list(`__getitem__` = function(index) if (index == 2L) blocks), conv1 = list(weight = "first"))
  expect_equal(resnet50$parameter(network, "conv1.weight"), "first")
  expect_equal(resnet50$parameter(network, "layer1.2.conv1.weight"), "kernel")
  expect_equal(resnet50$parameter(network, "layer1.2.bn1.weight"), "scale")
  expect_equal(resnet50$parameter(network, "layer1.2.bn1.running_var"), "variance")
})
