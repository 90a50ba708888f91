# CNN on CIFAR-10 in Knet, by its primitives.
# Pictures are (W, H, C, N): the memory of NCHW. mode=1 asks conv4 for the cross-correlation, so the canonical kernels are
# Knet's as they are. Dense weights are (out, in). `mat` flattens W, H, C: the canonical C, H, W. The pooling is our own,
# because the gradient of NNlib's, which `pool` calls, may miss the maximum (../nnlib/maxima.jl).

# Setup
using Knet
include("setup.jl")
include("../nnlib/maxima.jl")

AutoGrad.@primitive1 maxima(x),dy,y maxima_gradient(value(x), value(y), value(dy))

const CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")
const DENSES = ("dense1", "dense2")

function scores(model, x)
    p = model.parameters
    pool2 = model.task.as_shipped ? pool : maxima
    rate(share) = model.task.dropout ? share : 0.0
    conv(name, x) = conv4(p["$name.weight"], x; padding = 1, mode = 1) .+ p["$name.bias"]
    dense(name, x) = p["$name.weight"] * x .+ p["$name.bias"]
    x = relu.(conv("conv1", x))
    x = relu.(pool2(conv("conv2", x)))
    x = dropout(x, rate(0.25))  # only inside @diff
    x = relu.(conv("conv3", x))
    x = relu.(pool2(conv("conv4", x)))
    x = dropout(x, rate(0.25))
    x = relu.(dense("dense1", mat(x)))
    return dense("dense2", dropout(x, rate(0.5)))
end

# Build
function build(task, weights)
    Random.seed!(task.seed)
    model = Model(Dict{String,Param}(), task)
    load(model, weights)
    return model
end

# Load
function load(model, weights)
    task = model.task
    parameter(array) =
        Param(floats(task).(array), Momentum(lr = task.learning_rate, gamma = task.momentum))
    for name in CONVOLUTIONS
        model.parameters["$name.weight"] = parameter(weights["$name.weight"])
        model.parameters["$name.bias"] = parameter(channels(weights["$name.bias"]))
    end
    for name in DENSES
        model.parameters["$name.weight"] = parameter(permutedims(weights["$name.weight"]))
        model.parameters["$name.bias"] = parameter(weights["$name.bias"])
    end
end

# Place: nll wants classes from 1.
place(model, x::Array{<:AbstractFloat}) = pictures(model.task, x)
place(::Model, y::Array{Int64}) = y .+ 1

# Train
train(model, x, y, order) =
    train_batches!(model, batch -> nll(scores(model, x[:, :, :, batch]), y[batch]), batches(order, model.task.batch))

# Predict
function predict(model, x)
    n = model.task.batch
    return reduce(hcat, [Array(scores(model, x[:, :, :, first:first+n-1])) for first in 1:n:size(x, 4)])
end

# Weights
function weights(model)
    found = Dict{String,Array}()
    for (name, parameter) in model.parameters
        array = Array(value(parameter))
        found[name] = endswith(name, "bias") ? vec(array) : ndims(array) == 2 ? permutedims(array) : array
    end
    return found
end

# Synchronize
synchronize(model) = nothing
