# MXNet Gluon from R: ResNet-50 features, forward only.

# Setup -----------------------------------------------------------------------

# torchvision's network without its last dense layer. Gluon's own resnet50_v1 has the stride in the first 1x1 convolution of a
# block instead of the 3x3. Layouts are the canonical ones; BatchNorm's epsilon is 1e-5 as in PyTorch.
source("setup.R", local = TRUE)

norm_names <- c(weight = "gamma", bias = "beta", running_mean = "running_mean", running_var = "running_var")

#' A convolution without bias, padded symmetrically.
convolution <- function(width, size, width_in, stride = 1L) {
  nn$Conv2D(width, size, stride, padding = size %/% 2L, use_bias = FALSE, in_channels = width_in)
}

Bottleneck <- reticulate::PyClass("Bottleneck", inherit = gluon$HybridBlock, defs = list(
  `__init__` = function(self, width_in, width, stride) {
    super()$`__init__`()
    with(self$name_scope(), {
      self$conv1 <- convolution(width, 1L, width_in)
      self$bn1 <- nn$BatchNorm(in_channels = width)
      self$conv2 <- convolution(width, 3L, width, stride)
      self$bn2 <- nn$BatchNorm(in_channels = width)
      self$conv3 <- convolution(4L * width, 1L, width)
      self$bn3 <- nn$BatchNorm(in_channels = 4L * width)
      self$downsample <- nn$HybridSequential()
      if (width_in != 4L * width) {
        self$downsample$add(convolution(4L * width, 1L, width_in, stride), nn$BatchNorm(in_channels = 4L * width))
      }
    })
    invisible(NULL)
  },
  hybrid_forward = function(self, ops, x) {
    relu <- ops$relu
    shortcut <- self$downsample(x) # an empty HybridSequential gives x back
    x <- relu(self$bn1(self$conv1(x)))
    x <- relu(self$bn2(self$conv2(x)))
    relu(self$bn3(self$conv3(x)) + shortcut)
  }
))

ResNet50 <- reticulate::PyClass("ResNet50", inherit = gluon$HybridBlock, defs = list(
  `__init__` = function(self) {
    super()$`__init__`()
    with(self$name_scope(), {
      self$conv1 <- convolution(64L, 7L, 3L, 2L)
      self$bn1 <- nn$BatchNorm(in_channels = 64L)
      self$pool <- nn$MaxPool2D(3L, 2L, padding = 1L)
      self$layer1 <- stage(64L, 64L, 3L, 1L)
      self$layer2 <- stage(256L, 128L, 4L, 2L)
      self$layer3 <- stage(512L, 256L, 6L, 2L)
      self$layer4 <- stage(1024L, 512L, 3L, 2L)
      self$average <- nn$GlobalAvgPool2D()
    })
    invisible(NULL)
  },
  hybrid_forward = function(self, ops, x) {
    x <- self$pool(ops$relu(self$bn1(self$conv1(x))))
    x <- self$layer4(self$layer3(self$layer2(self$layer1(x))))
    self$average(x)$flatten()
  }
))

#' `blocks` bottlenecks in a row; the first has the stride and projects its shortcut.
stage <- function(width_in, width, blocks, stride) {
  layers <- nn$HybridSequential()
  layers$add(Bottleneck(width_in, width, stride))
  for (block in seq_len(blocks - 1L)) layers$add(Bottleneck(4L * width, width, 1L))
  layers
}

#' The parameter that the canonical `name` stands for; batch norms call their weight and bias gamma and beta.
parameter <- function(block, name) {
  path <- strsplit(name, ".", fixed = TRUE)[[1L]]
  kind <- path[length(path)]
  for (part in path[-length(path)]) {
    block <- if (grepl("^[0-9]+$", part)) block$`__getitem__`(as.integer(part)) else block[[part]]
  }
  block[[if (inherits(block, "mxnet.gluon.nn.basic_layers.BatchNorm")) norm_names[[kind]] else kind]]
}

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  setup(task)
  network <- prepare(ResNet50(), task)
  for (name in names(weights)) set_parameter(parameter(network, name), weights[[name]], task)
  # The graph is handed to oneDNN (then MKL-DNN), which folds batch norms and ReLUs into the convolutions: float32 only.
  backend <- if (task$precision == "fp32") "MKLDNN"
  network$hybridize(static_alloc = TRUE, static_shape = TRUE, backend = backend)
  list(network = network, task = task)
}

# Place -----------------------------------------------------------------------

place <- function(model, array) mx$nd$array(array, mx$cpu(), floats(model$task))

# Predict ---------------------------------------------------------------------

predict <- predict_in_order
