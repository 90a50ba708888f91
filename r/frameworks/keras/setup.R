# What the three Keras legs share: precision, threads and the traced step.
#
# The package keras3 drives Python's Keras by reticulate, in this process; TensorFlow computes. Arrays are NumPy's and
# TensorFlow's all the way: modules are imported with convert = FALSE, so that nothing becomes an R array unasked.

library(keras3)

python_arrays <- TRUE

tf <- reticulate::import("tensorflow", convert = FALSE)
np <- reticulate::import("numpy", convert = FALSE)

#' TensorFlow's name of the type that weights and pictures have: bf16 keeps them in float32 too.
floats <- function(task) if (task$precision == "fp64") "float64" else "float32"

#' Threads are TensorFlow's own variables TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS, which the harness has set: the
#' package starts TensorFlow's context when it is loaded, and in it they are fixed.
setup <- function(task) {
  if (task$device == "cuda" && reticulate::py_len(tf$config$list_physical_devices("GPU")) == 0L) {
    stop("TensorFlow sees no GPU, and would compute on the CPU without a word")
  }
  tf$config$experimental$enable_tensor_float_32_execution(task$precision == "tf32")
  set_random_seed(task$seed)
  config_set_floatx(floats(task))
  # Whatever the user's keras.json says.
  config_set_image_data_format("channels_last")
  config_set_dtype_policy(if (task$precision == "bf16") "mixed_bfloat16" else floats(task))
}

#' A hyperparameter that Keras would read as float32, whatever the policy, were it an R number.
exact <- function(task, number) if (task$precision == "fp64") np$float64(number) else number

#' Clears the optimizer's state: moments, the count of steps, and the learning rate, which it keeps in a variable too.
forget <- function(optimizer, task) {
  for (variable in optimizer$variables) variable$assign(tf$zeros_like(variable$value))
  optimizer$learning_rate <- task$learning_rate
}

#' XLA pays for the many small operations of the GRU on a CPU, not for convolutions; on a GPU the other way round.
takes_xla <- function(task) (task$device == "cuda") != (task$name == "rnn")

#' `fit()` reports the running mean of the losses; a loss for each step takes a loop of one's own, as the package's guide
#' to TensorFlow writes it. An embedding's gradient lists a token as often as it occurs, and Adam would sum the squares of the
#' pieces instead of squaring their sum: made dense, the pieces are summed first.
training_step <- function(model, task, before_update = function(optimizer) NULL) {
  weights <- model$trainable_weights
  optimizer <- model$optimizer
  step <- function(x, y, batch) {
    with(tf$GradientTape() %as% tape, {
      loss <- model$loss(tf$gather(y, batch), model(tf$gather(x, batch), training = TRUE))
    })
    gradients <- reticulate::iterate(tape$gradient(loss, weights))
    if (!task$as_shipped) gradients <- lapply(gradients, tf$convert_to_tensor)
    before_update(optimizer)
    optimizer$apply(gradients, weights)
    loss
  }
  tensorflow::tf_function(step, autograph = FALSE, jit_compile = takes_xla(task))
}

#' The traced forward pass, dropout off: scores [batch, classes], or features, of one batch.
forward_pass <- function(model, task) {
  forward <- function(x) model(x, training = FALSE)
  tensorflow::tf_function(forward, autograph = FALSE, jit_compile = takes_xla(task))
}

#' One pass over the samples at the positions `order`; the losses are read when every step has been queued.
train_in_order <- function(model, x, y, order) {
  batches <- tf$unstack(tf$constant(np$reshape(order, c(-1L, model$task$batch))))
  losses <- reticulate::iterate(batches, function(batch) model$step(x, y, batch))
  tf$stack(losses)
}

#' Scores [n, classes], or features, of all samples, a batch at a time.
predict_in_order <- function(model, x) {
  count <- reticulate::py_len(x) %/% model$task$batch
  parts <- reticulate::iterate(tf$split(x, as.integer(count)), model$forward)
  tf$cast(tf$concat(parts, axis = 0L), floats(model$task))
}

#' Waits until TensorFlow's devices have done what was queued.
synchronize <- function(model) {
  tf$test$experimental$sync_devices()
  invisible(NULL)
}
