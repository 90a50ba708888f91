# Keras 3 from R: the CNN on CIFAR-10.

# Setup -----------------------------------------------------------------------

# A convolution's kernel is HWIO, a dense one [in, out], and layer_flatten() sees H, W, C.
source("setup.R", local = TRUE)

layer_names <- c("conv1", "conv2", "conv3", "conv4", "dense1", "dense2")

network <- function(dropout) {
  rate <- if (dropout) 1 else 0
  keras_model_sequential(input_shape = c(32L, 32L, 3L)) |>
    layer_conv_2d(50, 3, padding = "same", activation = "relu", name = "conv1") |>
    layer_conv_2d(50, 3, padding = "same", name = "conv2") |>
    layer_max_pooling_2d(2) |>
    layer_activation_relu() |>
    layer_dropout(0.25 * rate) |>
    layer_conv_2d(100, 3, padding = "same", activation = "relu", name = "conv3") |>
    layer_conv_2d(100, 3, padding = "same", name = "conv4") |>
    layer_max_pooling_2d(2) |>
    layer_activation_relu() |>
    layer_dropout(0.25 * rate) |>
    layer_flatten() |>
    layer_dense(512, activation = "relu", name = "dense1") |>
    layer_dropout(0.5 * rate) |>
    layer_dense(10, name = "dense2")
}

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  setup(task)
  model <- network(task$dropout)
  model |> compile(
    # v = momentum v - rate g; w += v: the same path as PyTorch's while the rate is constant.
    optimizer = optimizer_sgd(task$learning_rate, momentum = exact(task, task$momentum)),
    loss = loss_sparse_categorical_crossentropy(from_logits = TRUE)
  )
  model$optimizer$build(model$trainable_variables)
  built <- list(keras = model, task = task, step = training_step(model, task), forward = forward_pass(model, task))
  load(built, weights)
  built
}

# Load ------------------------------------------------------------------------

load <- function(model, weights) {
  for (name in layer_names) {
    kernel <- weights[[paste0(name, ".weight")]]
    if (name == "dense1") { # its inputs from C, H, W to H, W, C
      kernel <- np$transpose(np$reshape(kernel, c(512L, 100L, 8L, 8L)), c(0L, 2L, 3L, 1L))
      kernel <- np$reshape(kernel, c(512L, 6400L))
    }
    axes <- if (startsWith(name, "conv")) c(2L, 3L, 1L, 0L) else c(1L, 0L)
    layer <- get_layer(model$keras, name)
    layer$kernel$assign(np$transpose(kernel, axes))
    layer$bias$assign(weights[[paste0(name, ".bias")]])
  }
  forget(model$keras$optimizer, model$task)
}

# Place -----------------------------------------------------------------------

place <- function(model, array) {
  if (reticulate::py_to_r(array$ndim) < 4) return(tf$constant(array))
  tf$constant(np$transpose(array, c(0L, 2L, 3L, 1L)), dtype = floats(model$task))
}

# Train -----------------------------------------------------------------------

train <- train_in_order

# Predict ---------------------------------------------------------------------

predict <- predict_in_order

# Weights ---------------------------------------------------------------------

weights <- function(model) {
  canonical <- list()
  for (name in layer_names) {
    layer <- get_layer(model$keras, name)
    axes <- if (startsWith(name, "conv")) c(3L, 2L, 0L, 1L) else c(1L, 0L)
    kernel <- np$transpose(np$array(layer$kernel), axes)
    if (name == "dense1") {
      kernel <- np$transpose(np$reshape(kernel, c(512L, 8L, 8L, 100L)), c(0L, 3L, 1L, 2L))
      kernel <- np$reshape(kernel, c(512L, 6400L))
    }
    canonical[[paste0(name, ".weight")]] <- kernel
    canonical[[paste0(name, ".bias")]] <- np$array(layer$bias)
  }
  canonical
}
