"Stands in for Lux 1.31: the layers that the legs use, as Lux documents them; a step counts and changes nothing."
module Lux

using Naive, Random

export Chain, Conv, Dense, Embedding, GRUCell, Recurrence, MaxPool, GlobalMeanPool, BatchNorm, Dropout, Parallel
export WrappedFunction, NoOpLayer, FlattenLayer, CrossEntropyLoss, Training, AutoZygote, Xoshiro
export relu, f64, gpu_device, cpu_device

"Julia 1.7 has it among its own."
Xoshiro(seed) = MersenneTwister(seed)

abstract type Layer end

initial_parameters(::Layer) = NamedTuple()
initial_states(::Layer) = NamedTuple()
setup(rng, network) = (initial_parameters(network), initial_states(network))

struct Chain{L} <: Layer
    layers::L
end
Chain(; layers...) = Chain(values(layers))
Chain(layers::Layer...) = Chain(NamedTuple{Tuple(Symbol("layer_", i) for i in 1:length(layers))}(layers))
initial_parameters(chain::Chain) = map(initial_parameters, chain.layers)
initial_states(chain::Chain) = map(initial_states, chain.layers)
function (chain::Chain)(x, parameters, states)
    for name in keys(chain.layers)
        x, _ = chain.layers[name](x, parameters[name], states[name])
    end
    return x, states
end

struct Conv{F} <: Layer
    kernel::Tuple{Int,Int}
    widths::Pair{Int,Int}
    activation::F
    stride::Int
    pad::Int
    use_bias::Bool
    cross_correlation::Bool
end
function Conv(kernel, widths, activation = identity; stride = 1, pad = 0, use_bias = true, cross_correlation = false)
    return Conv(kernel, widths, activation, stride, pad, use_bias, cross_correlation)
end
function initial_parameters(layer::Conv)
    weight = randn(Float32, layer.kernel..., layer.widths...)
    return layer.use_bias ? (weight = weight, bias = randn(Float32, layer.widths[2])) : (weight = weight,)
end
function (layer::Conv)(x, parameters, states)
    product = layer.cross_correlation ? correlate : convolve
    y = product(x, parameters.weight; stride = layer.stride, pad = layer.pad)
    return layer.activation.(layer.use_bias ? y .+ reshape(parameters.bias, 1, 1, :, 1) : y), states
end

struct Dense{F} <: Layer
    widths::Pair{Int,Int}
    activation::F
end
Dense(widths) = Dense(widths, identity)
initial_parameters(layer::Dense) =
    (weight = randn(Float32, reverse(Tuple(layer.widths))...), bias = randn(Float32, layer.widths[2]))
(layer::Dense)(x, parameters, states) = layer.activation.(parameters.weight * x .+ parameters.bias), states

struct Embedding <: Layer
    widths::Pair{Int,Int}
end
initial_parameters(layer::Embedding) = (weight = randn(Float32, reverse(Tuple(layer.widths))...),)
(layer::Embedding)(x, parameters, states) = parameters.weight[:, x], states

"h' = (1 - z) tanh(W x + b_ih + r (U h + b_hh)) + z h, gates r, z, n."
struct GRUCell <: Layer
    widths::Pair{Int,Int}
end
function initial_parameters(cell::GRUCell)
    in, out = cell.widths
    array(dims...) = randn(Float32, dims...)
    return (weight_ih = array(3out, in), weight_hh = array(3out, out), bias_ih = array(3out), bias_hh = array(3out))
end
struct Recurrence <: Layer
    cell::GRUCell
end
initial_parameters(layer::Recurrence) = initial_parameters(layer.cell)
function (layer::Recurrence)(x, p, states)
    hidden = layer.cell.widths[2]
    h = zeros(eltype(x), hidden, size(x, 3))
    part(array, k) = array[(k-1)*hidden+1:k*hidden, :]
    for t in axes(x, 2)
        i, k = p.weight_ih * x[:, t, :] .+ p.bias_ih, p.weight_hh * h .+ p.bias_hh
        r, z = sigmoid.(part(i, 1) .+ part(k, 1)), sigmoid.(part(i, 2) .+ part(k, 2))
        h = (1 .- z) .* tanh.(part(i, 3) .+ r .* part(k, 3)) .+ z .* h
    end
    return h, states
end

struct MaxPool <: Layer
    window::Int
    stride::Int
    pad::Int
end
MaxPool(window::Tuple; stride = window[1], pad = 0) = MaxPool(window[1], stride, pad)
(layer::MaxPool)(x, _, states) = maximum_pool(x; window = layer.window, stride = layer.stride, pad = layer.pad), states

struct GlobalMeanPool <: Layer end
(::GlobalMeanPool)(x, _, states) = mean_pool(x; window = size(x, 1)), states

struct FlattenLayer <: Layer end
(::FlattenLayer)(x, _, states) = reshape(x, :, size(x, 4)), states

struct NoOpLayer <: Layer end
(::NoOpLayer)(x, _, states) = x, states

struct WrappedFunction{F} <: Layer
    f::F
end
(layer::WrappedFunction)(x, _, states) = layer.f(x), states

struct BatchNorm{F} <: Layer
    width::Int
    activation::F
end
BatchNorm(width) = BatchNorm(width, identity)
initial_parameters(layer::BatchNorm) = (scale = randn(Float32, layer.width), bias = randn(Float32, layer.width))
initial_states(layer::BatchNorm) =
    (running_mean = zeros(Float32, layer.width), running_var = ones(Float32, layer.width), training = Val(true))
function (layer::BatchNorm)(x, p, states)
    states.training isa Val{false} || error("the stand-in normalises in test mode only")
    return layer.activation.(normalise(x, p.scale, p.bias, states.running_mean, states.running_var)), states
end

struct Dropping <: Layer
    p::Float64
end
Dropout(p) = p == 0 ? NoOpLayer() : Dropping(p)
initial_states(::Dropping) = (training = Val(true),)
(layer::Dropping)(x, _, states) =
    (states.training isa Val{true} ? x .* (rand(size(x)...) .> layer.p) ./ eltype(x)(1 - layer.p) : x), states

struct Parallel{F,L} <: Layer
    connection::F
    layers::L
end
Parallel(connection; layers...) = Parallel(connection, values(layers))
initial_parameters(layer::Parallel) = map(initial_parameters, layer.layers)
initial_states(layer::Parallel) = map(initial_states, layer.layers)
function (layer::Parallel)(x, parameters, states)
    parts = [first(layer.layers[name](x, parameters[name], states[name])) for name in keys(layer.layers)]
    return layer.connection(parts...), states
end

testmode(states::NamedTuple) =
    NamedTuple{keys(states)}(map((name, value) -> name === :training ? Val(false) : testmode(value), keys(states), values(states)))
testmode(state) = state

CrossEntropyLoss(; logits) = cross_entropy

struct AutoZygote end

module Training

struct TrainState{M,P,S,R}
    model::M
    parameters::P
    states::S
    rule::R
    step::Int
end
TrainState(model, parameters, states, rule) = TrainState(model, parameters, states, rule, 0)

function single_train_step!(backend, loss, (x, y), ts)
    scores, states = ts.model(x, ts.parameters, ts.states)
    return nothing, loss(scores, y), nothing, TrainState(ts.model, ts.parameters, states, ts.rule, ts.step + 1)
end

end

cpu_device() = identity

f64(x::AbstractArray) = Float64.(x)
f64(x::NamedTuple) = map(f64, x)
f64(x) = x

end
