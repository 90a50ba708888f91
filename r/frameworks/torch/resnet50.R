# torch for R: ResNet-50 features, forward only.

# Setup -----------------------------------------------------------------------

# torchvision's network without its last dense layer; layouts and names are the canonical ones, but blocks count from 1 here
# only in R's lists: nn_sequential() names its parts from 0.
source("setup.R", local = TRUE)

#' A convolution without bias, padded symmetrically.
convolution <- function(width_in, width, size = 1, stride = 1) {
  nn_conv2d(width_in, width, size, stride = stride, padding = size %/% 2, bias = FALSE)
}

Bottleneck <- nn_module(
  "Bottleneck",
  initialize = function(width_in, width, stride) {
    self$conv1 <- convolution(width_in, width)
    self$bn1 <- nn_batch_norm2d(width)
    self$conv2 <- convolution(width, width, 3, stride)
    self$bn2 <- nn_batch_norm2d(width)
    self$conv3 <- convolution(width, 4 * width)
    self$bn3 <- nn_batch_norm2d(4 * width)
    self$downsample <- if (width_in == 4 * width) {
      nn_identity()
    } else {
      nn_sequential(convolution(width_in, 4 * width, 1, stride), nn_batch_norm2d(4 * width))
    }
  },
  forward = function(x) {
    y <- nnf_relu(self$bn1(self$conv1(x)))
    y <- nnf_relu(self$bn2(self$conv2(y)))
    nnf_relu(self$bn3(self$conv3(y)) + self$downsample(x))
  }
)

#' `blocks` bottlenecks in a row; the first has the stride and projects its shortcut.
stage <- function(width_in, width, blocks, stride) {
  others <- lapply(seq_len(blocks - 1), function(block) Bottleneck(4 * width, width, 1))
  do.call(nn_sequential, c(list(Bottleneck(width_in, width, stride)), others))
}

ResNet50 <- nn_module(
  "ResNet50",
  initialize = function() {
    self$conv1 <- convolution(3, 64, 7, 2)
    self$bn1 <- nn_batch_norm2d(64)
    self$layer1 <- stage(64, 64, 3, 1)
    self$layer2 <- stage(256, 128, 4, 2)
    self$layer3 <- stage(512, 256, 6, 2)
    self$layer4 <- stage(1024, 512, 3, 2)
  },
  forward = function(x) {
    x <- nnf_max_pool2d(nnf_relu(self$bn1(self$conv1(x))), 3, stride = 2, padding = 1)
    x <- self$layer4(self$layer3(self$layer2(self$layer1(x))))
    x$mean(dim = c(3, 4))
  }
)

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  device <- setup(task)
  network <- ResNet50()$to(device = device, dtype = floats(task))
  put_weights(network, weights)
  list(network = network, task = task, device = device)
}

# Place -----------------------------------------------------------------------

place <- function(model, array) tensor_of(array, floats(model$task), model$device)

# Predict ---------------------------------------------------------------------

predict <- predict_in_order
