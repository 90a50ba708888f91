# MXNet Gluon from R: the CNN on CIFAR-10.

# Setup -----------------------------------------------------------------------

# MXNet's layouts are the canonical ones (OIHW, [out, in], flatten as C, H, W): nothing is permuted. The class is Python's,
# its methods are R functions; once the block is hybridized they only run while the graph is traced.
source("setup.R", local = TRUE)
source("optimizers.R", local = TRUE)

layer_names <- c("conv1", "conv2", "conv3", "conv4", "dense1", "dense2")

CNN <- reticulate::PyClass("CNN", inherit = gluon$HybridBlock, defs = list(
  `__init__` = function(self, dropout) {
    super()$`__init__`()
    with(self$name_scope(), {
      self$conv1 <- nn$Conv2D(50L, 3L, padding = 1L, in_channels = 3L)
      self$conv2 <- nn$Conv2D(50L, 3L, padding = 1L, in_channels = 50L)
      self$conv3 <- nn$Conv2D(100L, 3L, padding = 1L, in_channels = 50L)
      self$conv4 <- nn$Conv2D(100L, 3L, padding = 1L, in_channels = 100L)
      self$dense1 <- nn$Dense(512L, in_units = 6400L)
      self$dense2 <- nn$Dense(10L, in_units = 512L)
      self$pool <- nn$MaxPool2D(2L)
      self$dropout_conv <- nn$Dropout(if (dropout) 0.25 else 0)
      self$dropout_dense <- nn$Dropout(if (dropout) 0.5 else 0)
    })
    invisible(NULL)
  },
  hybrid_forward = function(self, ops, x) {
    relu <- ops$relu
    x <- relu(self$conv1(x))
    x <- relu(self$pool(self$conv2(x)))
    x <- self$dropout_conv(x)
    x <- relu(self$conv3(x))
    x <- relu(self$pool(self$conv4(x)))
    x <- self$dropout_conv(x)
    x <- relu(self$dense1(x)) # Dense flattens by itself
    self$dense2(self$dropout_dense(x))
  }
))

#' The parameter that the canonical `name` stands for.
parameter <- function(model, name) {
  parts <- strsplit(name, ".", fixed = TRUE)[[1L]]
  model$network[[parts[1L]]][[parts[2L]]]
}

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  setup(task)
  built <- trained_model(CNN(task$dropout), task)
  load(built, weights)
  built
}

# Load ------------------------------------------------------------------------

load <- function(model, weights) {
  task <- model$task
  for (name in names(weights)) set_parameter(parameter(model, name), weights[[name]], task)
  optimizer <- if (task$precision == "fp64") {
    double_sgd(task)
  } else {
    mx$optimizer$SGD(learning_rate = task$learning_rate, momentum = task$momentum)
  }
  begin(model, optimizer)
}

# Place -----------------------------------------------------------------------

place <- function(model, array) {
  pictures <- reticulate::py_to_r(array$ndim) == 4
  mx$nd$array(array, mx$cpu(), if (pictures) floats(model$task) else "int32")
}

# Train -----------------------------------------------------------------------

train <- train_in_order

# Predict ---------------------------------------------------------------------

predict <- predict_in_order

# Weights ---------------------------------------------------------------------

weights <- function(model) {
  names <- as.vector(outer(layer_names, c("weight", "bias"), paste, sep = "."))
  stats::setNames(lapply(names, function(name) numbers(parameter(model, name))), names)
}
