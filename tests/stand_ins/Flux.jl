"Stands in for Flux 0.16: the layers that the legs use, as Flux documents them; a step counts and changes nothing."
module Flux

using Naive
using Optimisers: Momentum, Adam

export Chain, Conv, Dense, Embedding, GRU, MaxPool, GlobalMeanPool, BatchNorm, Dropout, Parallel, Momentum, Adam
export relu, sigmoid_fast, tanh_fast, f64, cpu, gpu_device, cpu_device

const sigmoid_fast = sigmoid
const tanh_fast = tanh

macro layer(type)
    return nothing
end

struct Chain{T<:Union{Tuple,NamedTuple}}
    layers::T
end
Chain(layers...) = Chain(layers)
Chain(; layers...) = Chain(values(layers))
(chain::Chain)(x) = foldl((x, layer) -> layer(x), Tuple(chain.layers); init = x)
Base.getindex(chain::Chain, i) = chain.layers[i]

struct Conv{F,W,B}
    σ::F
    weight::W
    bias::B
    stride::Int
    pad::Int
end
function Conv(k::Tuple, (in, out)::Pair, σ = identity; stride = 1, pad = 0, bias = true)
    return Conv(σ, randn(Float32, k..., in, out), bias ? randn(Float32, out) : false, stride, pad)
end
function (layer::Conv)(x)
    y = convolve(x, layer.weight; stride = layer.stride, pad = layer.pad)
    return layer.σ.(layer.bias === false ? y : y .+ reshape(layer.bias, 1, 1, :, 1))
end

struct Dense{F,W,B}
    weight::W
    bias::B
    σ::F
end
Dense((in, out)::Pair, σ = identity) = Dense(randn(Float32, out, in), randn(Float32, out), σ)
(layer::Dense)(x) = layer.σ.(layer.weight * x .+ layer.bias)

struct Embedding{W}
    weight::W
end
Embedding((in, out)::Pair) = Embedding(randn(Float32, out, in))
(layer::Embedding)(x) = layer.weight[:, x]

"Reset after the product, one bias: h' = (1 - z) tanh(W x + r (U h) + b) + z h."
struct GRUCell{I,H,B}
    Wi::I
    Wh::H
    b::B
end
struct GRU{C}
    cell::C
end
GRU((in, out)::Pair) = GRU(GRUCell(randn(Float32, 3out, in), randn(Float32, 3out, out), randn(Float32, 3out)))
function (gru::GRU)(x)
    cell, hidden = gru.cell, size(gru.cell.Wh, 2)
    h = zeros(eltype(x), hidden, size(x, 3))
    part(array, k) = array[(k-1)*hidden+1:k*hidden, :]
    states = map(axes(x, 2)) do t
        i, k = cell.Wi * x[:, t, :], cell.Wh * h
        r = sigmoid.(part(i, 1) .+ part(k, 1) .+ part(cell.b, 1))
        z = sigmoid.(part(i, 2) .+ part(k, 2) .+ part(cell.b, 2))
        h = (1 .- z) .* tanh.(part(i, 3) .+ r .* part(k, 3) .+ part(cell.b, 3)) .+ z .* h
    end
    return permutedims(cat(states...; dims = 3), (1, 3, 2))
end

struct MaxPool
    window::Int
    stride::Int
    pad::Int
end
MaxPool(window::Tuple; stride = window[1], pad = 0) = MaxPool(window[1], stride, pad)
(layer::MaxPool)(x) = maximum_pool(x; window = layer.window, stride = layer.stride, pad = layer.pad)

struct GlobalMeanPool end
(::GlobalMeanPool)(x) = mean_pool(x; window = size(x, 1))

flatten(x) = reshape(x, :, size(x, 4))

mutable struct BatchNorm{F,V}
    λ::F
    β::V
    γ::V
    μ::V
    σ²::V
end
BatchNorm(width::Int, λ = identity) = BatchNorm(λ, (randn(Float32, width) for _ in 1:4)...)
(layer::BatchNorm)(x) = layer.λ.(normalise(x, layer.γ, layer.β, layer.μ, layer.σ²))

"On inside `withgradient` alone."
struct Dropout
    p::Float64
end
const ACTIVE = Ref(false)
(layer::Dropout)(x) = ACTIVE[] ? x .* (rand(size(x)...) .> layer.p) ./ eltype(x)(1 - layer.p) : x

struct Parallel{F,T}
    connection::F
    layers::T
end
Parallel(connection, first, second) = Parallel(connection, (first, second))
(layer::Parallel)(x) = layer.connection(map(part -> part(x), layer.layers)...)

setup(rule, network) = Ref(0)
update!(state, network, gradient) = (state[] += 1)

function withgradient(f, network)
    ACTIVE[] = true
    loss = f(network)
    ACTIVE[] = false
    return (val = loss, grad = (nothing,))
end

logitcrossentropy(scores, labels) = cross_entropy(scores, labels)
onehotbatch(y, labels) = labels .== permutedims(y)
zeros_like(x, dims) = zeros(eltype(x), dims)
chunk(x, n; dims) = (rows = size(x, 1) ÷ n; [x[(k-1)*rows+1:k*rows, :] for k in 1:n])
glorot_uniform(dims...) = randn(Float32, dims...)

cpu_device() = identity
cpu(x) = x

"Every array of numbers as Float64, whatever it is in."
f64(x::AbstractArray{<:AbstractFloat}) = Float64.(x)
f64(x::Union{Tuple,NamedTuple}) = map(f64, x)
f64(x::Union{Number,Function}) = x
function f64(x)
    fieldcount(typeof(x)) == 0 && return x
    return Base.typename(typeof(x)).wrapper((f64(getfield(x, i)) for i in 1:fieldcount(typeof(x)))...)
end

end
