# torch for R: the GRU on IMDB.

# Setup -----------------------------------------------------------------------

# nn_gru() is the canonical form (gates r, z, n; two biases; reset after the product). Layers and ids count from 1.
source("setup.R", local = TRUE)

own_names <- c(
  embedding.weight = "embedding.weight", gru.weight_ih = "gru.weight_ih_l1", gru.weight_hh = "gru.weight_hh_l1",
  gru.bias_ih = "gru.bias_ih_l1", gru.bias_hh = "gru.bias_hh_l1", dense.weight = "dense.weight", dense.bias = "dense.bias"
)

RNN <- nn_module(
  "RNN",
  initialize = function() {
    self$embedding <- nn_embedding(30000, 125)
    self$gru <- nn_gru(125, 100, batch_first = TRUE)
    self$dense <- nn_linear(100, 2)
  },
  forward = function(x) {
    hidden <- self$gru(self$embedding(x))[[2]]
    self$dense(hidden$squeeze(1))
  }
)

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  model <- new.env()
  model$task <- task
  model$device <- setup(task)
  model$network <- RNN()$to(device = model$device, dtype = floats(task))
  load(model, weights)
  model
}

# Load ------------------------------------------------------------------------

load <- function(model, weights) {
  put_weights(model$network, weights, function(name) own_names[[name]])
  task <- model$task
  model$optimizer <- optim_ignite_adam(
    model$network$parameters, lr = task$learning_rate, betas = c(task$beta1, task$beta2), eps = task$epsilon
  )
}

# Place -----------------------------------------------------------------------

place <- function(model, array) {
  if (is.null(dim(array))) return(torch_tensor(array + 1L, dtype = torch_int64(), device = model$device))
  tensor_of(array + 1L, torch_int64(), model$device)
}

# Train -----------------------------------------------------------------------

train <- train_in_order

# Predict ---------------------------------------------------------------------

predict <- predict_in_order

# Weights ---------------------------------------------------------------------

weights <- function(model) {
  tensors <- model$network$state_dict()
  lapply(own_names, function(own) array_of(tensors[[own]]))
}
