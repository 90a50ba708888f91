"Stands in for Knet 1.4.10: the primitives that the legs use, as Knet documents them; a step counts and changes nothing."
module Knet

using Naive

module AutoGrad
macro primitive1(definition, gradient)
    return nothing
end
end

export AutoGrad, @diff, Param, Adam, Momentum, RNN, CuArray, batchnorm, bnmoments, conv4, dropout, grad, mat, nll, pool, relu, rnnparam
export update!, value

struct CuArray end

mutable struct Param{T}
    value::T
    opt::Any
end
Param(value) = Param(value, nothing)
value(x) = x
value(p::Param) = p.value
Base.broadcastable(p::Param) = p.value
Base.getindex(p::Param, i...) = p.value[i...]
Base.size(p::Param, d...) = size(p.value, d...)
Base.:*(p::Param, x) = p.value * x

Base.@kwdef struct Momentum
    lr::AbstractFloat
    gamma::AbstractFloat
end
Base.@kwdef struct Adam
    lr::AbstractFloat
    beta1::AbstractFloat
    beta2::AbstractFloat
    eps::AbstractFloat
end

struct Tape
    value::Any
end
value(tape::Tape) = tape.value
const RECORDING = Ref(false)
macro diff(expression)
    return quote
        RECORDING[] = true
        tape = Tape($(esc(expression)))
        RECORDING[] = false
        tape
    end
end
grad(::Tape, ::Param) = nothing
update!(p::Param, ::Nothing) = p.opt === nothing ? error("a Param without an optimizer") : p

conv4(w, x; padding = 0, stride = 1, mode = 0) =
    (mode == 1 ? correlate : convolve)(x, value(w); pad = padding, stride = stride)
pool(x; window = 2, stride = window, padding = 0, mode = 0) =
    (mode == 0 ? maximum_pool : mean_pool)(x; window = window, stride = stride, pad = padding)
mat(x) = reshape(x, :, size(x, ndims(x)))
dropout(x, p) = RECORDING[] ? x .* (rand(size(x)...) .> p) ./ eltype(x)(1 - p) : x

bnmoments(; mean, var) = (mean = mean, var = var)
function batchnorm(x, moments, parameters)
    width = length(parameters) ÷ 2
    return normalise(x, parameters[1:width], parameters[width+1:end], moments.mean, moments.var; epsilon = 1e-5)
end

"Labels count from 1."
nll(scores, labels) = cross_entropy(scores, (1:size(scores, 1)) .== permutedims(labels))

"One vector: the matrices of r, z, n for the input, then for the hidden state, each (rows, H), then the biases in that order."
struct RNN
    w::Param
    input::Int
    hidden::Int
end
function RNN(input, hidden; rnnType, atype)
    rnnType == :gru || error("the stand-in has the GRU only")
    return RNN(Param(atype(randn(1, 1, 3hidden * (input + hidden + 2)))), input, hidden)
end
function rnnparam(rnn::RNN, layer, id, kind)
    layer == 1 || error("the stand-in has one layer")
    rows = id <= 3 ? rnn.input : rnn.hidden
    matrices = 3rnn.hidden * (rnn.input + rnn.hidden)
    if kind == 2
        start = matrices + (id - 1) * rnn.hidden
        return view(rnn.w.value, start+1:start+rnn.hidden)
    end
    start = id <= 3 ? (id - 1) * rnn.input * rnn.hidden : 3rnn.input * rnn.hidden + (id - 4) * rnn.hidden^2
    return reshape(view(rnn.w.value, start+1:start+rows*rnn.hidden), :, rnn.hidden)
end
"x (X, B, T) to y (H, B, T)."
function (rnn::RNN)(x)
    W, b = [rnnparam(rnn, 1, id, 1) for id in 1:6], [rnnparam(rnn, 1, id, 2) for id in 1:6]
    h = zeros(eltype(x), rnn.hidden, size(x, 2))
    states = map(axes(x, 3)) do t
        e = x[:, :, t]
        r = sigmoid.(W[1]' * e .+ W[4]' * h .+ b[1] .+ b[4])
        z = sigmoid.(W[2]' * e .+ W[5]' * h .+ b[2] .+ b[5])
        n = tanh.(W[3]' * e .+ r .* (W[6]' * h .+ b[6]) .+ b[3])
        h = (1 .- z) .* n .+ z .* h
    end
    return cat(states...; dims = 3)
end

end
