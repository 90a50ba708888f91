"""
What the stand-ins of Flux, Lux and Knet share: the operations as those libraries document them, written once, slowly and without
gradients. A stand-in shows that a leg hands its weights over in the library's layout and puts its layers together rightly; it says
nothing of the library itself.
"""
module Naive

export convolve, correlate, relu, sigmoid, maximum_pool, mean_pool, normalise, cross_entropy

relu(x) = max(x, zero(x))
sigmoid(x) = 1 / (1 + exp(-x))

"Pads the first two dimensions."
function padded(x, pad, value)
    y = fill(eltype(x)(value), size(x, 1) + 2pad, size(x, 2) + 2pad, size(x, 3), size(x, 4))
    y[pad+1:pad+size(x, 1), pad+1:pad+size(x, 2), :, :] = x
    return y
end

"Cross-correlation of x (W, H, in, N) and w (kw, kh, in, out)."
function correlate(x, w; pad = 0, stride = 1)
    width, height = ((size(x, d) + 2pad - size(w, d)) ÷ stride + 1 for d in 1:2)
    source = padded(x, pad, 0)
    y = zeros(eltype(x), width * height, size(w, 4), size(x, 4))
    for sample in axes(x, 4), j in axes(w, 2), i in axes(w, 1)
        patch = source[i:stride:i+stride*(width-1), j:stride:j+stride*(height-1), :, sample]
        y[:, :, sample] .+= reshape(patch, width * height, :) * w[i, j, :, :]
    end
    return reshape(y, width, height, size(w, 4), size(x, 4))
end

"True convolution: the kernel is turned by 180 degrees."
convolve(x, w; options...) = correlate(x, w[end:-1:1, end:-1:1, :, :]; options...)

function pooled(reduce, x, window, stride, pad, value)
    width, height = ((size(x, d) + 2pad - window) ÷ stride + 1 for d in 1:2)
    source = padded(x, pad, value)
    parts = [
        source[i:stride:i+stride*(width-1), j:stride:j+stride*(height-1), :, :] for j in 1:window for i in 1:window
    ]
    return foldl((a, b) -> reduce.(a, b), parts)
end

maximum_pool(x; window = 2, stride = window, pad = 0) = pooled(max, x, window, stride, pad, -Inf)
mean_pool(x; window = 2, stride = window, pad = 0) = pooled(+, x, window, stride, pad, 0) ./ eltype(x)(window^2)

"Batch norm in inference, of x (W, H, C, N)."
function normalise(x, scale, shift, mean, variance; epsilon = 1f-5)
    channels(v) = reshape(v, 1, 1, :, 1)
    return (x .- channels(mean)) ./ sqrt.(channels(variance) .+ eltype(x)(epsilon)) .* channels(scale) .+ channels(shift)
end

"Mean cross-entropy of scores (classes, N), `labels` as columns with a single 1."
function cross_entropy(scores, labels)
    shifted = scores .- maximum(scores; dims = 1)
    return -sum(labels .* (shifted .- log.(sum(exp.(shifted); dims = 1)))) / size(scores, 2)
end

end
