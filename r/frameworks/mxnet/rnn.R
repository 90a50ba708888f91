# MXNet Gluon from R: the GRU on IMDB.

# Setup -----------------------------------------------------------------------

# Gluon's fused GRU is the canonical form (gates r, z, n; two biases; reset after the product). Its layout is TNC: time first.
source("setup.R", local = TRUE)
source("optimizers.R", local = TRUE)

own_names <- c(
  embedding.weight = "embedding.weight", gru.weight_ih = "gru.l0_i2h_weight", gru.weight_hh = "gru.l0_h2h_weight",
  gru.bias_ih = "gru.l0_i2h_bias", gru.bias_hh = "gru.l0_h2h_bias", dense.weight = "dense.weight", dense.bias = "dense.bias"
)

RNN <- reticulate::PyClass("RNN", inherit = gluon$HybridBlock, defs = list(
  `__init__` = function(self) {
    super()$`__init__`()
    with(self$name_scope(), {
      self$embedding <- nn$Embedding(30000L, 125L)
      self$gru <- gluon$rnn$GRU(100L, input_size = 125L)
      self$dense <- nn$Dense(2L, in_units = 100L)
    })
    invisible(NULL)
  },
  hybrid_forward = function(self, ops, x) {
    outputs <- self$gru(self$embedding(x$transpose()))
    last <- ops$slice_axis(outputs, axis = 0L, begin = -1L, end = NULL)
    self$dense(last$squeeze(axis = 0L))
  }
))

#' The parameter that the canonical `name` stands for.
parameter <- function(model, name) {
  parts <- strsplit(own_names[[name]], ".", fixed = TRUE)[[1L]]
  model$network[[parts[1L]]][[parts[2L]]]
}

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  setup(task)
  built <- trained_model(RNN(), task)
  load(built, weights)
  built
}

# Load ------------------------------------------------------------------------

load <- function(model, weights) {
  task <- model$task
  for (name in names(weights)) set_parameter(parameter(model, name), weights[[name]], task)
  optimizer <- if (task$precision == "fp64") {
    double_adam(task)
  } else {
    mx$optimizer$Adam(learning_rate = task$learning_rate, beta1 = task$beta1, beta2 = task$beta2, epsilon = task$epsilon)
  }
  begin(model, optimizer)
}

# Place -----------------------------------------------------------------------

place <- function(model, array) mx$nd$array(array, mx$cpu(), "int32")

# Train -----------------------------------------------------------------------

train <- function(model, x, y, order) {
  if (model$task$as_shipped) return(train_in_order(model, x, y, order))
  train_in_order(model, x, y, order, before_step = exact_epsilon(model))
}

# Predict ---------------------------------------------------------------------

predict <- predict_in_order

# Weights ---------------------------------------------------------------------

weights <- function(model) {
  lapply(stats::setNames(names(own_names), names(own_names)), function(name) numbers(parameter(model, name)))
}
