# CNN on CIFAR-10 in Flux.
# Pictures are (W, H, C, N): the memory of NCHW. Kernels are turned, because Conv is a true convolution; CrossCor would
# take them as they are. Dense weights are (out, in). Flattening goes W, H, C, which is the canonical C, H, W in memory. On a
# CPU the pooling is our own, because MaxPool's gradient may miss the maximum (../nnlib/maxima.jl).

# Setup
using Flux
include("setup.jl")
include("../nnlib/zygote.jl")

const CONVOLUTIONS = (:conv1, :conv2, :conv3, :conv4)
const DENSES = (:dense1, :dense2)

# Build
function build(task, weights)
    Random.seed!(task.seed)
    task.device == "cuda" && Main.CUDA.seed!(task.seed)
    pool = task.device == "cuda" || task.as_shipped ? MaxPool((2, 2)) : maxima
    dropout(p) = task.dropout ? Dropout(p) : identity
    network = Chain(
        conv1 = Conv((3, 3), 3 => 50, relu; pad = 1),
        conv2 = Conv((3, 3), 50 => 50; pad = 1),
        pool2 = pool,
        relu2 = x -> relu.(x),
        dropout2 = dropout(0.25f0),
        conv3 = Conv((3, 3), 50 => 100, relu; pad = 1),
        conv4 = Conv((3, 3), 100 => 100; pad = 1),
        pool4 = pool,
        relu4 = x -> relu.(x),
        dropout4 = dropout(0.25f0),
        flatten = Flux.flatten,
        dense1 = Dense(6400 => 512, relu),
        dropout_dense = dropout(0.5f0),
        dense2 = Dense(512 => task.classes),
    )
    model = Model(network, Momentum(task.learning_rate, task.momentum), task)
    load(model, weights)
    return model
end

# Load
function load(model, weights)
    layers = model.network.layers
    for name in CONVOLUTIONS
        fill_in!(layers[name].weight, turned(weights["$name.weight"]))
        fill_in!(layers[name].bias, weights["$name.bias"])
    end
    for name in DENSES
        fill_in!(layers[name].weight, permutedims(weights["$name.weight"]))
        fill_in!(layers[name].bias, weights["$name.bias"])
    end
    model.state = Flux.setup(model.rule, model.network)
end

# Place
place(model, x::Array{<:AbstractFloat}) = pictures(model.task, x)
place(model, y::Array{Int64}) = device(model.task)(Flux.onehotbatch(y, 0:model.task.classes-1))

# Train
function train(model, x, y, order)
    losses = Float64[]
    for batch in batches(order, model.task.batch)
        # Outside of the gradient: inside it, Zygote would make a gradient of all of `x`.
        samples, labels = x[:, :, :, batch], y[:, batch]
        loss, gradients = Flux.withgradient(model.network) do network
            Flux.logitcrossentropy(network(samples), labels)
        end
        Flux.update!(model.state, model.network, gradients[1])
        push!(losses, loss)
    end
    return losses
end

# Predict: dropout is on inside a gradient alone.
function predict(model, x)
    n = model.task.batch
    return reduce(hcat, [cpu(model.network(x[:, :, :, first:first+n-1])) for first in 1:n:size(x, 4)])
end

# Weights
function weights(model)
    layers = model.network.layers
    found = Dict{String,Array}()
    for name in CONVOLUTIONS
        found["$name.weight"] = turned(Array(layers[name].weight))
        found["$name.bias"] = Array(layers[name].bias)
    end
    for name in DENSES
        found["$name.weight"] = permutedims(Array(layers[name].weight))
        found["$name.bias"] = Array(layers[name].bias)
    end
    return found
end

# Synchronize
synchronize(model) = model.task.device == "cuda" && Main.CUDA.synchronize()
