# CNN on CIFAR-10 in Lux.
# Pictures are (W, H, C, N): the memory of NCHW. With cross_correlation=true the canonical kernels are Lux's as they are; without
# it they would have to be turned, as in Flux. Dense weights are (out, in). Flattening goes W, H, C: the canonical C, H, W.
# On a CPU the pooling is our own, because MaxPool's gradient may miss the maximum (../nnlib/maxima.jl).

# Setup
using Lux
include("setup.jl")
include("../nnlib/zygote.jl")

const CONVOLUTIONS = (:conv1, :conv2, :conv3, :conv4)
const DENSES = (:dense1, :dense2)

convolution(widths, activation = identity) = Conv((3, 3), widths, activation; pad = 1, cross_correlation = true)

# Build
function build(task, weights)
    pool = task.device == "cuda" || task.as_shipped ? MaxPool((2, 2)) : WrappedFunction(maxima)
    rate(p) = task.dropout ? p : zero(p)  # a Dropout of rate 0 becomes a NoOpLayer
    network = Chain(;
        conv1 = convolution(3 => 50, relu),
        conv2 = convolution(50 => 50),
        pool2 = pool,
        relu2 = WrappedFunction(x -> relu.(x)),
        dropout2 = Dropout(rate(0.25f0)),
        conv3 = convolution(50 => 100, relu),
        conv4 = convolution(100 => 100),
        pool4 = pool,
        relu4 = WrappedFunction(x -> relu.(x)),
        dropout4 = Dropout(rate(0.25f0)),
        flatten = FlattenLayer(),
        dense1 = Dense(6400 => 512, relu),
        dropout_dense = Dropout(rate(0.5f0)),
        dense2 = Dense(512 => task.classes),
    )
    model = Model(network, Momentum(task.learning_rate, task.momentum), nothing, task)
    load(model, weights)
    return model
end

# Load
function load(model, weights)
    begin_training(model, function (T)
        convolutions = map(CONVOLUTIONS) do name
            (weight = T.(weights["$name.weight"]), bias = T.(weights["$name.bias"]))
        end
        denses = map(DENSES) do name
            (weight = T.(permutedims(weights["$name.weight"])), bias = T.(weights["$name.bias"]))
        end
        return NamedTuple{(CONVOLUTIONS..., DENSES...)}((convolutions..., denses...))
    end)
end

# Place
place(model, x::Array{<:AbstractFloat}) = pictures(model.task, x)
place(model, y::Array{Int64}) = columns(model.task, y)

# Train
train(model, x, y, order) =
    train_batches!(model, batch -> (x[:, :, :, batch], y[:, batch]), batches(order, model.task.batch))

# Predict
function predict(model, x)
    n = model.task.batch
    return reduce(hcat, [scores(model, x[:, :, :, first:first+n-1]) for first in 1:n:size(x, 4)])
end

# Weights
function weights(model)
    parameters = model.training.parameters
    found = Dict{String,Array}()
    for name in CONVOLUTIONS
        found["$name.weight"] = Array(parameters[name].weight)
        found["$name.bias"] = Array(parameters[name].bias)
    end
    for name in DENSES
        found["$name.weight"] = permutedims(Array(parameters[name].weight))
        found["$name.bias"] = Array(parameters[name].bias)
    end
    return found
end

# Synchronize
synchronize(model) = model.task.device == "cuda" && Main.CUDA.synchronize()
