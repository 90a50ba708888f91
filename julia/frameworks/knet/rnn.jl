# GRU on IMDB in Knet.
# Knet's RNN is the reference's form: gates r, z, n, two biases, reset after the product. All its arrays are one vector, of
# which rnnparam gives views; matrices are (dim, H) in them, which is the canonical [H, dim] in memory. The input is
# (dim, N, tokens), so token ids are turned to (N, tokens); they count from 1.

# Setup
using Knet
include("setup.jl")

const DIM, HIDDEN = 125, 100

function scores(model, tokens)
    p = model.parameters
    h = model.rnn(p["embedding.weight"][:, tokens])  # (H, N, tokens)
    return p["dense.weight"] * h[:, :, size(tokens, 2)] .+ p["dense.bias"]
end

"Knet's RNN object, whose vector of weights is one Param among the others."
struct GRU{P,T,R}
    parameters::P
    task::T
    rnn::R
end

# Build
function build(task, weights)
    rnn = RNN(DIM, HIDDEN; rnnType = :gru, atype = Array{floats(task)})  # by itself it takes a GPU where it finds one
    model = GRU(Dict{String,Param}("gru" => rnn.w), task, rnn)
    load(model, weights)
    return model
end

# Load
function load(model, weights)
    task = model.task
    adam() = Adam(lr = task.learning_rate, beta1 = task.beta1, beta2 = task.beta2, eps = task.epsilon)
    parameter(array) = Param(floats(task).(array), adam())
    model.parameters["embedding.weight"] = parameter(weights["embedding.weight"])
    model.parameters["dense.weight"] = parameter(permutedims(weights["dense.weight"]))
    model.parameters["dense.bias"] = parameter(weights["dense.bias"])
    for (name, first_gate) in (("ih", 1), ("hh", 4)), gate in 0:2
        rows = gate*HIDDEN+1:(gate+1)*HIDDEN
        fill_in!(view_of(model, first_gate + gate, 1), weights["gru.weight_$name"][:, rows])
        fill_in!(view_of(model, first_gate + gate, 2), weights["gru.bias_$name"][rows])
    end
    model.rnn.w.opt = adam()
end

"A matrix (kind 1) or a bias (kind 2) of gate 1 to 6: r, z, n of the input, then of the hidden state."
view_of(model, gate, kind) = rnnparam(model.rnn, 1, gate, kind)

# Place: nll wants classes from 1.
place(::GRU, ids::Matrix{Int64}) = ids .+ 1
place(::GRU, y::Vector{Int64}) = y .+ 1

# Train
train(model, x, y, order) =
    train_batches!(model, batch -> nll(scores(model, permutedims(x[:, batch])), y[batch]), batches(order, model.task.batch))

# Predict
function predict(model, x)
    n = model.task.batch
    return reduce(hcat, [Array(scores(model, permutedims(x[:, first:first+n-1]))) for first in 1:n:size(x, 2)])
end

# Weights
function weights(model)
    p = model.parameters
    gates(first_gate, kind) = [Array(view_of(model, gate, kind)) for gate in first_gate:first_gate+2]
    return Dict{String,Array}(
        "embedding.weight" => Array(value(p["embedding.weight"])),
        "gru.weight_ih" => reduce(hcat, gates(1, 1)),
        "gru.weight_hh" => reduce(hcat, gates(4, 1)),
        "gru.bias_ih" => reduce(vcat, gates(1, 2)),
        "gru.bias_hh" => reduce(vcat, gates(4, 2)),
        "dense.weight" => permutedims(Array(value(p["dense.weight"]))),
        "dense.bias" => Array(value(p["dense.bias"])),
    )
end

# Synchronize
synchronize(model) = nothing
