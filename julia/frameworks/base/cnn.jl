# CNN on CIFAR-10 in plain Julia: neighbourhoods laid out as columns, BLAS products, gradients by hand.
# Arrays are column-major: pictures (W, H, C, N), kernels (kw, kh, in, out), dense weights (in, out). That is the memory
# of the canonical C-order arrays: nothing is transposed on the way in or out.

# Setup
using LinearAlgebra, Random
include("layers.jl")

const DROPOUT = (0.25, 0.25, 0.5)

"Everything a step reads or writes is allocated once. `derivatives` are those of the activations."
struct CNN{T,A,S}
    weights::Dict{String,Array{T}}
    gradients::Dict{String,Array{T}}
    velocities::Dict{String,Array{T}}
    rate::T
    momentum::T
    dropout::NTuple{3,Float64}
    random::MersenneTwister
    batch::Int
    activations::A
    derivatives::A
    scratch::S
end

# Build
function build(task, weights)
    T = task.precision == "fp64" ? Float64 : Float32
    n = task.batch
    array(size...) = Array{T}(undef, size)
    activations = (
        conv1 = array(32, 32, 50, n), conv2 = array(32, 32, 50, n), pool2 = array(16, 16, 50, n),
        conv3 = array(16, 16, 100, n), conv4 = array(16, 16, 100, n), pool4 = array(8, 8, 100, n),
        dense1 = array(512, n), dense2 = array(task.classes, n),
    )
    columns = (conv1 = array(1024, 27), conv2 = array(1024, 450), conv3 = array(256, 450), conv4 = array(256, 900))
    scratch = (
        x = array(32, 32, 3, n), columns = columns,
        winner2 = Array{UInt8}(undef, 16, 16, 50, n), winner4 = Array{UInt8}(undef, 8, 8, 100, n),
    )
    copies() = Dict{String,Array{T}}(name => zeros(T, size(array)) for (name, array) in weights)
    dropout = task.dropout ? DROPOUT : (0.0, 0.0, 0.0)
    model = CNN(
        copies(), copies(), copies(), T(task.learning_rate), T(task.momentum), dropout, MersenneTwister(task.seed), n,
        activations, map(similar, activations), scratch)
    load(model, weights)
    return model
end

# Load
function load(model, weights)
    for (name, array) in weights
        copyto!(model.weights[name], array)
        fill!(model.velocities[name], 0)
    end
end

# Place
place(::CNN{T}, pictures::Array{Float32,4}) where {T} = Array{T,4}(pictures)
place(::CNN, labels::Vector{Int64}) = copy(labels)

"The samples at `positions` (from 0), side by side."
function gather!(batch, pictures, positions)
    values = length(batch) ÷ length(positions)
    for (n, position) in enumerate(positions)
        copyto!(batch, (n - 1) * values + 1, pictures, position * values + 1, values)
    end
end

# Train
function train(model::CNN{T}, x, y, order) where {T}
    losses = T[]
    for positions in Iterators.partition(order, model.batch)
        gather!(model.scratch.x, x, positions)
        forward!(model, model.dropout)
        push!(losses, backward!(model, y[positions.+1]))
        for (name, weight) in model.weights
            sgd!(weight, model.velocities[name], model.gradients[name], model.rate, model.momentum)
        end
    end
    return losses
end

function forward!(model, dropout)
    a, d, w, s = model.activations, model.derivatives, model.weights, model.scratch
    drop!(y, noise, rate) = rate > 0 && dropout!(y, rate, noise, model.random)
    relu!(convolve!(a.conv1, s.x, w["conv1.weight"], w["conv1.bias"], s.columns.conv1))
    convolve!(a.conv2, a.conv1, w["conv2.weight"], w["conv2.bias"], s.columns.conv2)
    pool_relu!(a.pool2, s.winner2, a.conv2)
    drop!(a.pool2, d.pool2, dropout[1])
    relu!(convolve!(a.conv3, a.pool2, w["conv3.weight"], w["conv3.bias"], s.columns.conv3))
    convolve!(a.conv4, a.conv3, w["conv4.weight"], w["conv4.bias"], s.columns.conv4)
    pool_relu!(a.pool4, s.winner4, a.conv4)
    drop!(a.pool4, d.pool4, dropout[2])
    relu!(dense!(a.dense1, flat(a.pool4), w["dense1.weight"], w["dense1.bias"]))
    drop!(a.dense1, d.dense1, dropout[3])
    return dense!(a.dense2, a.dense1, w["dense2.weight"], w["dense2.bias"])
end

function backward!(model, labels)
    a, d, w, s = model.activations, model.derivatives, model.weights, model.scratch
    g = model.gradients
    loss = cross_entropy!(d.dense2, a.dense2, labels)
    dense_gradients!(g["dense2.weight"], g["dense2.bias"], d.dense2, a.dense1)
    gemm!(d.dense1, w["dense2.weight"], 'N', d.dense2, 'N')
    relu_dropout_gradient!(d.dense1, a.dense1, model.dropout[3])
    dense_gradients!(g["dense1.weight"], g["dense1.bias"], d.dense1, flat(a.pool4))
    gemm!(flat(d.pool4), w["dense1.weight"], 'N', d.dense1, 'N')

    pool_gradient!(d.conv4, relu_dropout_gradient!(d.pool4, a.pool4, model.dropout[2]), s.winner4)
    convolution_gradients!(g["conv4.weight"], g["conv4.bias"], d.conv4, a.conv3, s.columns.conv4)
    convolution_input_gradient!(d.conv3, d.conv4, w["conv4.weight"], s.columns.conv4)
    relu_dropout_gradient!(d.conv3, a.conv3, 0)
    convolution_gradients!(g["conv3.weight"], g["conv3.bias"], d.conv3, a.pool2, s.columns.conv3)
    convolution_input_gradient!(d.pool2, d.conv3, w["conv3.weight"], s.columns.conv4)

    pool_gradient!(d.conv2, relu_dropout_gradient!(d.pool2, a.pool2, model.dropout[1]), s.winner2)
    convolution_gradients!(g["conv2.weight"], g["conv2.bias"], d.conv2, a.conv1, s.columns.conv2)
    convolution_input_gradient!(d.conv1, d.conv2, w["conv2.weight"], s.columns.conv2)
    relu_dropout_gradient!(d.conv1, a.conv1, 0)
    convolution_gradients!(g["conv1.weight"], g["conv1.bias"], d.conv1, s.x, s.columns.conv1)
    return loss
end

"(W, H, C, N) as (W*H*C, N): in this layout already the canonical order."
flat(pictures) = reshape(pictures, :, size(pictures, 4))

# Predict
function predict(model, x)
    return reduce(hcat, map(Iterators.partition(0:size(x, 4)-1, model.batch)) do positions
        gather!(model.scratch.x, x, positions)
        copy(forward!(model, (0.0, 0.0, 0.0)))
    end)
end

# Weights
weights(model) = Dict{String,Array}(name => copy(array) for (name, array) in model.weights)

# Synchronize
synchronize(model) = nothing
