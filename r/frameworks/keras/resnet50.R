# Keras 3 from R: ResNet-50 features, forward only.

# Setup -----------------------------------------------------------------------

# torchvision's network without its last dense layer, as a functional model. Its layers bear torchvision's names, with _ for
# the dots. (application_resnet50() is another one: its stride sits in the 1x1, and its convolutions have biases.)
source("setup.R", local = TRUE)

#' A convolution without bias and its batch norm, both under their canonical names.
convolution <- function(x, names, width, size = 1, stride = 1, shipped = FALSE) {
  padded <- pad(x, size, stride, shipped)
  padded$x |>
    layer_conv_2d(width, size, stride, padding = padded$padding, use_bias = FALSE, name = names[1L]) |>
    layer_batch_normalization(epsilon = if (shipped) 1e-3 else 1e-5, name = names[2L])
}

#' Symmetric padding, as torch's: with a stride, "same" would pad one pixel more behind than before.
pad <- function(x, size, stride, shipped) {
  if (size == 1 || stride == 1 || shipped) return(list(x = x, padding = "same"))
  list(x = layer_zero_padding_2d(x, as.integer(size %/% 2)), padding = "valid")
}

#' 1x1, 3x3 (it has the stride, as in torchvision), 1x1; the shortcut is projected where shapes differ.
bottleneck <- function(x, name, width, stride, shipped) {
  shortcut <- x
  if (x$shape[[4L]] != 4 * width) {
    shortcut <- convolution(x, paste0(name, c("downsample_0", "downsample_1")), 4 * width, 1, stride, shipped)
  }
  y <- convolution(x, paste0(name, c("conv1", "bn1")), width, shipped = shipped) |> layer_activation_relu()
  y <- convolution(y, paste0(name, c("conv2", "bn2")), width, 3, stride, shipped) |> layer_activation_relu()
  y <- convolution(y, paste0(name, c("conv3", "bn3")), 4 * width, shipped = shipped)
  layer_add(list(y, shortcut)) |> layer_activation_relu()
}

#' Pictures [n, 224, 224, 3] to features [n, 2048].
resnet50 <- function(shipped) {
  pictures <- keras_input(c(224L, 224L, 3L))
  x <- convolution(pictures, c("conv1", "bn1"), 64, 7, 2, shipped) |> layer_activation_relu()
  # Zeros serve as padding here too, since nothing is below zero behind the relu.
  padded <- pad(x, 3, 2, shipped)
  x <- layer_max_pooling_2d(padded$x, 3, 2, padding = padded$padding)
  widths <- c(64, 128, 256, 512)
  blocks <- c(3, 4, 6, 3)
  for (stage in 1:4) {
    for (block in seq_len(blocks[stage])) {
      stride <- if (block == 1 && stage > 1) 2 else 1
      x <- bottleneck(x, sprintf("layer%d_%d_", stage, block - 1L), widths[stage], stride, shipped)
    }
  }
  keras_model(pictures, layer_global_average_pooling_2d(x))
}

# Build -----------------------------------------------------------------------

build <- function(task, weights) {
  setup(task)
  model <- resnet50(task$as_shipped)
  kinds <- c(gamma = ".weight", beta = ".bias", moving_mean = ".running_mean", moving_variance = ".running_var")
  for (layer in model$layers) {
    name <- gsub("_", ".", layer$name, fixed = TRUE)
    if (paste0(name, ".running_mean") %in% names(weights)) {
      for (own in names(kinds)) layer[[own]]$assign(weights[[paste0(name, kinds[[own]])]])
    } else if (paste0(name, ".weight") %in% names(weights)) {
      layer$kernel$assign(np$transpose(weights[[paste0(name, ".weight")]], c(2L, 3L, 1L, 0L)))
    }
  }
  list(keras = model, task = task, forward = forward_pass(model, task))
}

# Place -----------------------------------------------------------------------

place <- function(model, array) tf$constant(np$transpose(array, c(0L, 2L, 3L, 1L)), dtype = floats(model$task))

# Predict ---------------------------------------------------------------------

predict <- predict_in_order
