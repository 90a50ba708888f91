# torch for R: the CNN on CIFAR-10.

# Setup -----------------------------------------------------------------------

# Layouts are the canonical ones (OIHW, [out, in], flatten as C, H, W): nothing is permuted but what R reverses.
source("setup.R", local = TRUE)

CNN <- nn_module(
  "CNN",
  initialize = function(dropout) {
    self$conv1 <- nn_conv2d(3, 50, 3, padding = 1)
    self$conv2 <- nn_conv2d(50, 50, 3, padding = 1)
    self$conv3 <- nn_conv2d(50, 100, 3, padding = 1)
    self$conv4 <- nn_conv2d(100, 100, 3, padding = 1)
    self$dense1 <- nn_linear(100 * 8 * 8, 512)
    self$dense2 <- nn_linear(512, 10)
    self$dropout_conv <- nn_dropout(if (dropout) 0.25 else 0)
    self$dropout_dense <- nn_dropout(if (dropout) 0.5 else 0)
  },
  forward = function(x) {
    x <- nnf_relu(self$conv1(x))
    x <- nnf_relu(nnf_max_pool2d(self$conv2(x), 2))
    x <- self$dropout_conv(x)
    x <- nnf_relu(self$conv3(x))
    x <- nnf_relu(nnf_max_pool2d(self$conv4(x), 2))
    x <- self$dropout_conv(x)
    x <- nnf_relu(self$dense1(torch_flatten(x, start_dim = 2)))
    self$dense2(self$dropout_dense(x))
  }
)

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  model <- new.env()
  model$task <- task
  model$device <- setup(task)
  model$network <- CNN(task$dropout)$to(device = model$device, dtype = floats(task))
  load(model, weights)
  model
}

# Load ------------------------------------------------------------------------

load <- function(model, weights) {
  put_weights(model$network, weights)
  task <- model$task
  # The optimizers named ignite are libtorch's own: one call for all parameters.
  model$optimizer <- optim_ignite_sgd(model$network$parameters, lr = task$learning_rate, momentum = task$momentum)
}

# Place -----------------------------------------------------------------------

place <- function(model, array) {
  if (is.null(dim(array))) return(torch_tensor(array + 1L, dtype = torch_int64(), device = model$device))
  tensor_of(array, floats(model$task), model$device)
}

# Train -----------------------------------------------------------------------

train <- train_in_order

# Predict ---------------------------------------------------------------------

predict <- predict_in_order

# Weights ---------------------------------------------------------------------

weights <- function(model) lapply(model$network$state_dict(), array_of)
