# GRU on IMDB in Lux.
# Token ids are (tokens, N) and count from 1; the embedding is (dim, vocabulary), its output (dim, tokens, N). GRUCell is the
# reference's form: gates r, z, n, two biases, reset after the product; its weights are (3H, dim) and (3H, H).

# Setup
using Lux
include("setup.jl")

# Build
function build(task, weights)
    network = Chain(;
        embedding = Embedding(30_000 => 125),
        gru = Recurrence(GRUCell(125 => 100)),
        dense = Dense(100 => task.classes),
    )
    model = Model(network, Adam(task.learning_rate, (task.beta1, task.beta2), task.epsilon), nothing, task)
    load(model, weights)
    return model
end

# Load
function load(model, weights)
    begin_training(model, T -> (
        embedding = (weight = T.(weights["embedding.weight"]),),
        gru = (
            weight_ih = T.(permutedims(weights["gru.weight_ih"])),
            weight_hh = T.(permutedims(weights["gru.weight_hh"])),
            bias_ih = T.(weights["gru.bias_ih"]),
            bias_hh = T.(weights["gru.bias_hh"]),
        ),
        dense = (weight = T.(permutedims(weights["dense.weight"])), bias = T.(weights["dense.bias"])),
    ))
end

# Place
place(model, ids::Matrix{Int64}) = device(model.task)(ids .+ 1)
place(model, y::Vector{Int64}) = columns(model.task, y)

# Train
train(model, x, y, order) =
    train_batches!(model, batch -> (x[:, batch], y[:, batch]), batches(order, model.task.batch))

# Predict
function predict(model, x)
    n = model.task.batch
    return reduce(hcat, [scores(model, x[:, first:first+n-1]) for first in 1:n:size(x, 2)])
end

# Weights
function weights(model)
    embedding, gru, dense = (map(Array, model.training.parameters[name]) for name in (:embedding, :gru, :dense))
    return Dict{String,Array}(
        "embedding.weight" => embedding.weight,
        "gru.weight_ih" => permutedims(gru.weight_ih),
        "gru.weight_hh" => permutedims(gru.weight_hh),
        "gru.bias_ih" => gru.bias_ih,
        "gru.bias_hh" => gru.bias_hh,
        "dense.weight" => permutedims(dense.weight),
        "dense.bias" => dense.bias,
    )
end

# Synchronize
synchronize(model) = model.task.device == "cuda" && Main.CUDA.synchronize()
