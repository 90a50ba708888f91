# Keras 3 from R: the GRU on IMDB.

# Setup -----------------------------------------------------------------------

# reset_after = TRUE, the default, is the canonical form with two biases, kept as one array [2, 3H]. The gates stand in the
# order z, r, h; kernels are [in, 3H].
source("setup.R", local = TRUE)

#' Exchanges the first two gates: r, z, n becomes z, r, h and back.
swap <- function(gates) {
  parts <- reticulate::iterate(np$split(gates, 3L))
  np$concatenate(parts[c(2L, 1L, 3L)])
}

#' Adam with the epsilon of the paper's Algorithm 1, after the bias correction: Keras adds it before ("epsilon hat"), the
#' same number once it is scaled by sqrt(1 - beta2^t).
exact_epsilon <- function(task) {
  function(optimizer) {
    step <- tf$cast(optimizer$iterations$value + 1L, floats(task))
    beta <- tf$constant(task$beta2, dtype = floats(task))
    optimizer$epsilon <- tf$constant(task$epsilon, dtype = floats(task)) * tf$sqrt(1 - tf$pow(beta, step))
  }
}

network <- function() {
  keras_model_sequential(input_shape = 150L, input_dtype = "int32") |>
    layer_embedding(30000, 125, name = "embedding") |>
    layer_gru(100, name = "gru") |>
    layer_dense(2, name = "dense")
}

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  setup(task)
  model <- network()
  model |> compile(
    optimizer = optimizer_adam(task$learning_rate, exact(task, task$beta1), exact(task, task$beta2), task$epsilon),
    loss = loss_sparse_categorical_crossentropy(from_logits = TRUE)
  )
  model$optimizer$build(model$trainable_variables)
  step <- if (task$as_shipped) training_step(model, task) else training_step(model, task, exact_epsilon(task))
  built <- list(keras = model, task = task, step = step, forward = forward_pass(model, task))
  load(built, weights)
  built
}

# Load ------------------------------------------------------------------------

load <- function(model, weights) {
  embedding <- get_layer(model$keras, "embedding")
  cell <- get_layer(model$keras, "gru")$cell
  dense <- get_layer(model$keras, "dense")
  embedding$embeddings$assign(weights$embedding.weight)
  cell$kernel$assign(np$transpose(swap(weights$gru.weight_ih)))
  cell$recurrent_kernel$assign(np$transpose(swap(weights$gru.weight_hh)))
  cell$bias$assign(np$stack(list(swap(weights$gru.bias_ih), swap(weights$gru.bias_hh))))
  dense$kernel$assign(np$transpose(weights$dense.weight))
  dense$bias$assign(weights$dense.bias)
  forget(model$keras$optimizer, model$task)
}

# Place -----------------------------------------------------------------------

place <- function(model, array) tf$constant(array)

# Train -----------------------------------------------------------------------

train <- train_in_order

# Predict ---------------------------------------------------------------------

predict <- predict_in_order

# Weights ---------------------------------------------------------------------

weights <- function(model) {
  cell <- get_layer(model$keras, "gru")$cell
  dense <- get_layer(model$keras, "dense")
  biases <- reticulate::iterate(np$array(cell$bias))
  list(
    embedding.weight = np$array(get_layer(model$keras, "embedding")$embeddings),
    gru.weight_ih = swap(np$transpose(np$array(cell$kernel))),
    gru.weight_hh = swap(np$transpose(np$array(cell$recurrent_kernel))),
    gru.bias_ih = swap(biases[[1L]]),
    gru.bias_hh = swap(biases[[2L]]),
    dense.weight = np$transpose(np$array(dense$kernel)),
    dense.bias = np$array(dense$bias)
  )
}
