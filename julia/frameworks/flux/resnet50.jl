# ResNet-50 features in Flux, forward only. Outside of a gradient batch norms use their running statistics.
# Kernels are turned, as in cnn.jl. Padding is symmetric, as in the reference.

# Setup
using Flux
include("setup.jl")

convolution(k, widths; stride = 1) = Conv((k, k), widths; stride = stride, pad = k ÷ 2, bias = false)

function bottleneck(width_in, width, stride)
    block = Chain(
        convolution(1, width_in => width), BatchNorm(width, relu),
        convolution(3, width => width; stride = stride), BatchNorm(width, relu),
        convolution(1, width => 4width), BatchNorm(4width),
    )
    shortcut = identity
    if width_in != 4width
        shortcut = Chain(convolution(1, width_in => 4width; stride = stride), BatchNorm(4width))
    end
    return Parallel((x, y) -> relu.(x .+ y), block, shortcut)
end

stage(width_in, width, blocks, stride) =
    Chain(bottleneck(width_in, width, stride), [bottleneck(4width, width, 1) for _ in 2:blocks]...)

# Build
function build(task, weights)
    network = Chain(
        conv1 = convolution(7, 3 => 64; stride = 2),
        bn1 = BatchNorm(64, relu),
        pool = MaxPool((3, 3); stride = 2, pad = 1),
        layer1 = stage(64, 64, 3, 1),
        layer2 = stage(256, 128, 4, 2),
        layer3 = stage(512, 256, 6, 2),
        layer4 = stage(1024, 512, 3, 2),
        mean = GlobalMeanPool(),
        flatten = Flux.flatten,
    )
    for (name, layer) in named(network)
        fill_layer!(layer, name, weights)
    end
    network = device(task)(task.precision == "fp64" ? f64(network) : network)
    return (network = network, task = task)
end

"Pairs of torchvision's name and the layer that has it."
function named(network)
    layers = network.layers
    found = Pair{String,Any}["conv1" => layers.conv1, "bn1" => layers.bn1]
    for stage in (:layer1, :layer2, :layer3, :layer4), (number, pair) in enumerate(layers[stage].layers)
        prefix = "$stage.$(number - 1)"
        block, shortcut = pair.layers
        for k in 1:3
            push!(found, "$prefix.conv$k" => block[2k-1], "$prefix.bn$k" => block[2k])
        end
        if shortcut !== identity
            push!(found, "$prefix.downsample.0" => shortcut[1], "$prefix.downsample.1" => shortcut[2])
        end
    end
    return found
end

fill_layer!(layer::Conv, name, weights) = fill_in!(layer.weight, turned(weights["$name.weight"]))

function fill_layer!(layer::BatchNorm, name, weights)
    fill_in!(layer.γ, weights["$name.weight"])
    fill_in!(layer.β, weights["$name.bias"])
    fill_in!(layer.μ, weights["$name.running_mean"])
    fill_in!(layer.σ², weights["$name.running_var"])
end

# Place
place(model, x) = pictures(model.task, x)

# Predict
function predict(model, x)
    n = model.task.batch
    return reduce(hcat, [cpu(model.network(x[:, :, :, first:first+n-1])) for first in 1:n:size(x, 4)])
end

# Synchronize
synchronize(model) = model.task.device == "cuda" && Main.CUDA.synchronize()
