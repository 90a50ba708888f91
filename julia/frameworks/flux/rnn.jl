# GRU on IMDB in Flux.
# Token ids are (tokens, N) and count from 1; the embedding is (dim, vocabulary), its output (dim, tokens, N). Flux's own GRU
# resets after the product, as the reference does, but has one bias where the reference has two: what is reset is W_hh h
# without b_hh. So the exact cell is written here, in Flux's own words; the row flux-gru runs the library's layer.

# Setup
using Flux
include("setup.jl")

"The reference's GRU: gates r, z, n one below the other in `Wi` (3H, dim) and `Wh` (3H, H), with the second bias `bh`."
struct ReferenceGRU{M,V}
    Wi::M
    Wh::M
    bi::V
    bh::V
end

Flux.@layer ReferenceGRU

ReferenceGRU((in, out)::Pair) =
    ReferenceGRU(Flux.glorot_uniform(3out, in), Flux.glorot_uniform(3out, out), zeros(Float32, 3out), zeros(Float32, 3out))

"The last hidden state (H, N) of `x` (dim, tokens, N). The inputs of all tokens are one product."
function (gru::ReferenceGRU)(x)
    inputs = reshape(gru.Wi * reshape(x, size(x, 1), :) .+ gru.bi, :, size(x, 2), size(x, 3))
    h = Flux.zeros_like(gru.Wh, (size(gru.Wh, 2), size(x, 3)))
    for input in eachslice(inputs; dims = 2)
        h = advance(gru, input, h)
    end
    return h
end

function advance(gru, input, h)
    xr, xz, xn = Flux.chunk(input, 3; dims = 1)
    hr, hz, hn = Flux.chunk(gru.Wh * h .+ gru.bh, 3; dims = 1)
    r = @. sigmoid_fast(xr + hr)
    z = @. sigmoid_fast(xz + hz)
    n = @. tanh_fast(xn + r * hn)
    return @. (1 - z) * n + z * h
end

last_hidden(h) = h[:, end, :]

# Build
function build(task, weights)
    library = task.as_shipped || task.library_layer
    network = Chain(
        embedding = Embedding(30_000 => 125),
        gru = library ? Chain(GRU(125 => 100), last_hidden) : ReferenceGRU(125 => 100),
        dense = Dense(100 => task.classes),
    )
    model = Model(network, Adam(task.learning_rate, (task.beta1, task.beta2), task.epsilon), task)
    load(model, weights)
    return model
end

# Load: gates are r, z, n in Flux too.
function load(model, weights)
    layers = model.network.layers
    fill_in!(layers.embedding.weight, weights["embedding.weight"])
    load_gru(layers.gru, weights)
    fill_in!(layers.dense.weight, permutedims(weights["dense.weight"]))
    fill_in!(layers.dense.bias, weights["dense.bias"])
    model.state = Flux.setup(model.rule, model.network)
end

function load_gru(gru::ReferenceGRU, weights)
    fill_in!(gru.Wi, permutedims(weights["gru.weight_ih"]))
    fill_in!(gru.Wh, permutedims(weights["gru.weight_hh"]))
    fill_in!(gru.bi, weights["gru.bias_ih"])
    fill_in!(gru.bh, weights["gru.bias_hh"])
end

function load_gru(library::Chain, weights)
    cell = library[1].cell
    fill_in!(cell.Wi, permutedims(weights["gru.weight_ih"]))
    fill_in!(cell.Wh, permutedims(weights["gru.weight_hh"]))
    fill_in!(cell.b, weights["gru.bias_ih"] .+ weights["gru.bias_hh"])
end

# Place
place(model, ids::Matrix{Int64}) = device(model.task)(ids .+ 1)
place(model, y::Vector{Int64}) = device(model.task)(Flux.onehotbatch(y, 0:model.task.classes-1))

# Train
function train(model, x, y, order)
    losses = Float64[]
    for batch in batches(order, model.task.batch)
        tokens, labels = x[:, batch], y[:, batch]
        loss, gradients = Flux.withgradient(model.network) do network
            Flux.logitcrossentropy(network(tokens), labels)
        end
        Flux.update!(model.state, model.network, gradients[1])
        push!(losses, loss)
    end
    return losses
end

# Predict
function predict(model, x)
    n = model.task.batch
    return reduce(hcat, [cpu(model.network(x[:, first:first+n-1])) for first in 1:n:size(x, 2)])
end

# Weights
function weights(model)
    layers = model.network.layers
    found = gru_weights(layers.gru)
    found["embedding.weight"] = Array(layers.embedding.weight)
    found["dense.weight"] = permutedims(Array(layers.dense.weight))
    found["dense.bias"] = Array(layers.dense.bias)
    return found
end

gru_weights(gru::ReferenceGRU) = Dict{String,Array}(
    "gru.weight_ih" => permutedims(Array(gru.Wi)),
    "gru.weight_hh" => permutedims(Array(gru.Wh)),
    "gru.bias_ih" => Array(gru.bi),
    "gru.bias_hh" => Array(gru.bh),
)

function gru_weights(library::Chain)
    cell = library[1].cell
    return Dict{String,Array}(
        "gru.weight_ih" => permutedims(Array(cell.Wi)),
        "gru.weight_hh" => permutedims(Array(cell.Wh)),
        "gru.bias_ih" => Array(cell.b),
        "gru.bias_hh" => zero(Array(cell.b)),
    )
end

# Synchronize
synchronize(model) = model.task.device == "cuda" && Main.CUDA.synchronize()
