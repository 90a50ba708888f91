# GRU on IMDB in plain Julia: one BLAS product for the inputs of all tokens, a loop over the tokens, gradients by hand.
# Arrays are column-major: token ids (tokens, N), embedding (dim, vocabulary), gates r, z, n stacked in the last
# dimension of weight_ih (dim, 3H) and weight_hh (H, 3H). Both biases stay apart: the reset gate acts on the hidden one.

# Setup
using LinearAlgebra
include("layers.jl")

"Everything a step reads or writes is allocated once. `moments` are Adam's: of the gradients and of their squares."
struct RNN{T,A}
    weights::Dict{String,Array{T}}
    gradients::Dict{String,Array{T}}
    moments::NTuple{2,Dict{String,Array{T}}}
    settings::NTuple{4,T}
    step::Base.RefValue{Int}
    batch::Int
    arrays::A
end

# Build
function build(task, weights)
    T = task.precision == "fp64" ? Float64 : Float32
    dim, hidden, n, tokens = 125, 100, task.batch, 150
    array(size...) = Array{T}(undef, size)
    arrays = (
        x = array(dim, n, tokens), dx = array(dim, n, tokens),
        h = array(hidden, n, tokens + 1), dh = array(hidden, n),
        gates = array(3hidden, n, tokens), dgates = array(3hidden, n, tokens),
        recurrent = array(3hidden, n, tokens), drecurrent = array(3hidden, n, tokens),
        scores = array(task.classes, n), dscores = array(task.classes, n),
    )
    copies() = Dict{String,Array{T}}(name => zeros(T, size(array)) for (name, array) in weights)
    settings = T.((task.learning_rate, task.beta1, task.beta2, task.epsilon))
    model = RNN(copies(), copies(), (copies(), copies()), settings, Ref(0), n, arrays)
    load(model, weights)
    return model
end

# Load
function load(model, weights)
    for (name, array) in weights
        copyto!(model.weights[name], array)
        foreach(moment -> fill!(moment[name], 0), model.moments)
    end
    model.step[] = 0
end

# Place
place(::RNN, array::Array{Int64}) = copy(array)

# Train
function train(model::RNN{T}, x, y, order) where {T}
    losses = T[]
    for positions in Iterators.partition(order, model.batch)
        tokens = x[:, positions.+1]
        forward!(model, tokens)
        push!(losses, backward!(model, tokens, y[positions.+1]))
        model.step[] += 1
        for (name, weight) in model.weights
            mean, square = model.moments[1][name], model.moments[2][name]
            adam!(weight, mean, square, model.gradients[name], model.step[], model.settings...)
        end
        clear_rows!(model.gradients["embedding.weight"], tokens)
    end
    return losses
end

function forward!(model, tokens)
    a, w = model.arrays, model.weights
    embed!(a.x, w["embedding.weight"], tokens)
    gemm!(steps(a.gates), w["gru.weight_ih"], 'T', steps(a.x), 'N')
    fill!(view(a.h, :, :, 1), 0)
    for t in axes(a.x, 3)
        gemm!(view(a.recurrent, :, :, t), w["gru.weight_hh"], 'T', view(a.h, :, :, t), 'N')
        gates!(a.h, a.gates, a.recurrent, w["gru.bias_ih"], w["gru.bias_hh"], t)
    end
    return dense!(a.scores, view(a.h, :, :, size(a.h, 3)), w["dense.weight"], w["dense.bias"])
end

function backward!(model, tokens, labels)
    a, w, g = model.arrays, model.weights, model.gradients
    loss = cross_entropy!(a.dscores, a.scores, labels)
    dense_gradients!(g["dense.weight"], g["dense.bias"], a.dscores, view(a.h, :, :, size(a.h, 3)))
    gemm!(a.dh, w["dense.weight"], 'N', a.dscores, 'N')
    for t in reverse(axes(a.x, 3))
        gate_gradients!(a.dh, a.dgates, a.drecurrent, a.h, a.gates, a.recurrent, t)
        gemm!(a.dh, w["gru.weight_hh"], 'N', view(a.drecurrent, :, :, t), 'N', add = 1)
    end
    dense_gradients!(g["gru.weight_ih"], g["gru.bias_ih"], steps(a.dgates), steps(a.x))
    dense_gradients!(g["gru.weight_hh"], g["gru.bias_hh"], steps(a.drecurrent), steps(view(a.h, :, :, axes(a.x, 3))))
    gemm!(steps(a.dx), w["gru.weight_ih"], 'N', steps(a.dgates), 'N')
    scatter!(g["embedding.weight"], a.dx, tokens)
    return loss
end

"All tokens of all samples side by side."
steps(array) = reshape(array, size(array, 1), :)

sigmoid(x) = one(x) / (one(x) + exp(-x))

"Hidden state after token `t`; `gates` go from W_ih x to r, z, n, and `recurrent` from W_hh h to W_hh h + b_hh."
function gates!(h, gates, recurrent, bias_ih, bias_hh, t)
    hidden = size(h, 1)
    @inbounds for sample in axes(h, 2)
        for i in 1:2hidden
            gates[i, sample, t] = sigmoid(gates[i, sample, t] + bias_ih[i] + recurrent[i, sample, t] + bias_hh[i])
        end
        for i in 1:hidden
            k = 2hidden + i
            recurrent[k, sample, t] += bias_hh[k]
            r, z = gates[i, sample, t], gates[hidden+i, sample, t]
            n = tanh(gates[k, sample, t] + bias_ih[k] + r * recurrent[k, sample, t])
            gates[k, sample, t] = n
            h[i, sample, t+1] = (1 - z) * n + z * h[i, sample, t]
        end
    end
end

"Takes `dh` from behind token `t` to the part that passes by the gates; the part through them is W_hh `drecurrent`."
function gate_gradients!(dh, dgates, drecurrent, h, gates, recurrent, t)
    hidden = size(h, 1)
    @inbounds for sample in axes(h, 2)
        @simd for i in 1:hidden
            r, z, n = gates[i, sample, t], gates[hidden+i, sample, t], gates[2hidden+i, sample, t]
            d = dh[i, sample]
            dn = d * (1 - z) * (1 - n^2)
            dr = dn * recurrent[2hidden+i, sample, t] * r * (1 - r)
            dz = d * (h[i, sample, t] - n) * z * (1 - z)
            dgates[i, sample, t] = drecurrent[i, sample, t] = dr
            dgates[hidden+i, sample, t] = drecurrent[hidden+i, sample, t] = dz
            dgates[2hidden+i, sample, t] = dn
            drecurrent[2hidden+i, sample, t] = dn * r
            dh[i, sample] = d * z
        end
    end
end

# Predict
function predict(model, x)
    batches = Iterators.partition(axes(x, 2), model.batch)
    return reduce(hcat, [copy(forward!(model, x[:, positions])) for positions in batches])
end

# Weights
weights(model) = Dict{String,Array}(name => copy(array) for (name, array) in model.weights)

# Synchronize
synchronize(model) = nothing
