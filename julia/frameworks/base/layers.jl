# The layers of both networks, forward and backward, the loss and the optimizers. Results are written into arrays that
# exist already. A gradient has the name of its array with a d in front; the last dimension of x and y counts samples.

"""
Lays the 3x3 neighbourhoods of one picture out as the rows of `columns` (W*H, 9C), with zeros around the picture.

`x` is (W, H, C, N), `sample` counts from 1. A neighbour is the same plane shifted: each column is one block copy, and
only what the shift carried over an edge is put to zero.
"""
function neighbourhoods!(columns, x, sample)
    width, height, channels, _ = size(x)
    pixels = width * height
    column = 0
    for channel in 1:channels, down in -1:1, right in -1:1
        shift = down * width + right
        start, stop = max(1, 1 - shift), min(pixels, pixels - shift)
        source = ((sample - 1) * channels + channel - 1) * pixels + start + shift
        copyto!(columns, column * pixels + start, x, source, stop - start + 1)
        column += 1
        @inbounds begin
            for pixel in 1:start-1
                columns[pixel, column] = 0
            end
            for pixel in stop+1:pixels
                columns[pixel, column] = 0
            end
            if right != 0
                for pixel in (right < 0 ? 1 : width):width:pixels
                    columns[pixel, column] = 0
                end
            end
        end
    end
    return columns
end

"""
`c` = `a` `b`, or `c` + `a` `b` with `add = 1`; a 'T' behind a matrix transposes it. BLAS by its own name: `mul!` gives
the same, but compiles for seconds in every process.
"""
gemm!(c, a, ta, b, tb; add = 0) = BLAS.gemm!(ta, tb, one(eltype(c)), a, b, eltype(c)(add), c)

"The pictures of a batch as one matrix (W*H, C) each."
matrices(x) = reshape(x, size(x, 1) * size(x, 2), size(x, 3), size(x, 4))

"Convolution 3x3 with padding 1: `y` (W, H, out, N) from `x` (W, H, in, N), `weight` (3, 3, in, out) and `bias`."
function convolve!(y, x, weight, bias, columns)
    kernel = reshape(weight, :, size(weight, 4))
    for sample in axes(x, 4)
        neighbourhoods!(columns, x, sample)
        scores = view(matrices(y), :, :, sample)
        for channel in axes(scores, 2)
            fill!(view(scores, :, channel), bias[channel])
        end
        gemm!(scores, columns, 'N', kernel, 'N', add = 1)
    end
    return y
end

"Gradients of `weight` and `bias` from `dy`, summed over the batch."
function convolution_gradients!(dweight, dbias, dy, x, columns)
    fill!(dweight, 0)
    fill!(dbias, 0)
    dkernel = reshape(dweight, :, size(dweight, 4))
    for sample in axes(x, 4)
        neighbourhoods!(columns, x, sample)
        dscores = view(matrices(dy), :, :, sample)
        gemm!(dkernel, columns, 'T', dscores, 'N', add = 1)
        for channel in axes(dscores, 2)
            dbias[channel] += sum(view(dscores, :, channel))
        end
    end
end

"Gradient of a convolution's input: `dy` convolved with the kernels turned by 180 degrees, `in` and `out` exchanged."
function convolution_input_gradient!(dx, dy, weight, columns)
    turned = similar(weight, 3, 3, size(weight, 4), size(weight, 3))
    for out in axes(weight, 4), in in axes(weight, 3), j in 1:3, i in 1:3
        turned[i, j, out, in] = weight[4-i, 4-j, in, out]
    end
    kernel = reshape(turned, :, size(turned, 4))
    for sample in axes(dy, 4)
        neighbourhoods!(columns, dy, sample)
        gemm!(view(matrices(dx), :, :, sample), columns, 'N', kernel, 'N')
    end
    return dx
end

"Maximum of each 2x2 square, not below 0 (pooling, then relu); `winner` keeps which of the four it was."
function pool_relu!(y, winner, x)
    width, height, planes = size(y, 1), size(y, 2), size(y, 3) * size(y, 4)
    @inbounds for plane in 1:planes, j in 1:height
        above = ((plane - 1) * 2height + 2j - 2) * 2width
        below = above + 2width
        target = ((plane - 1) * height + j - 1) * width
        @simd for i in 1:width
            a, b, c, d = x[above+2i-1], x[above+2i], x[below+2i-1], x[below+2i]
            upper, lower = max(a, b), max(c, d)
            y[target+i] = max(upper, lower, zero(a))
            winner[target+i] = ifelse(upper >= lower, ifelse(a >= b, 0x01, 0x02), ifelse(c >= d, 0x03, 0x04))
        end
    end
    return y
end

"Hands the gradient of each 2x2 square to its winner."
function pool_gradient!(dx, dy, winner)
    width, height, planes = size(dy, 1), size(dy, 2), size(dy, 3) * size(dy, 4)
    @inbounds for plane in 1:planes, j in 1:height
        above = ((plane - 1) * 2height + 2j - 2) * 2width
        below = above + 2width
        source = ((plane - 1) * height + j - 1) * width
        @simd for i in 1:width
            gradient, won = dy[source+i], winner[source+i]
            dx[above+2i-1] = ifelse(won == 0x01, gradient, zero(gradient))
            dx[above+2i] = ifelse(won == 0x02, gradient, zero(gradient))
            dx[below+2i-1] = ifelse(won == 0x03, gradient, zero(gradient))
            dx[below+2i] = ifelse(won == 0x04, gradient, zero(gradient))
        end
    end
    return dx
end

"Negative values become 0."
relu!(y) = (y .= max.(y, zero(eltype(y))))

"""
Inverted dropout: a share `rate` of `y` becomes 0, the rest grows so that the mean stays. `noise` is scratch like `y`.
"""
function dropout!(y, rate, noise, random)
    rand!(random, noise)
    rate, scale = eltype(y)(rate), eltype(y)(1 / (1 - rate))
    y .*= ifelse.(noise .< rate, zero(scale), scale)
    return y
end

"""
Takes `dy` back through dropout and relu. What was cut off or dropped is 0 in `y`: one test serves both, without a mask.
`rate` is 0 where there was no dropout.
"""
function relu_dropout_gradient!(dy, y, rate)
    scale = eltype(y)(1 / (1 - rate))
    dy .*= ifelse.(y .> 0, scale, zero(scale))
    return dy
end

"`y` (out, N) from `x` (in, N), `weight` (in, out) and `bias`."
function dense!(y, x, weight, bias)
    for sample in axes(y, 2)
        copyto!(view(y, :, sample), bias)
    end
    return gemm!(y, weight, 'T', x, 'N', add = 1)
end

"Gradients of `weight` and `bias` from `dy`, summed over the batch."
function dense_gradients!(dweight, dbias, dy, x)
    gemm!(dweight, x, 'N', dy, 'T')
    fill!(dbias, 0)
    for sample in axes(dy, 2)
        dbias .+= view(dy, :, sample)
    end
end

"Mean softmax cross-entropy of `scores` (classes, N) for the classes `labels` (from 0), and its gradient in `dscores`."
function cross_entropy!(dscores, scores, labels)
    loss = zero(eltype(scores))
    samples = length(labels)
    @inbounds for n in 1:samples
        highest = maximum(view(scores, :, n))
        total = zero(highest)
        for k in axes(scores, 1)
            dscores[k, n] = exp(scores[k, n] - highest)
            total += dscores[k, n]
        end
        label = labels[n] + 1
        loss += log(total) + highest - scores[label, n]
        for k in axes(scores, 1)
            dscores[k, n] /= total * samples
        end
        dscores[label, n] -= one(loss) / samples
    end
    return loss / samples
end

"`x` (dim, N, tokens) from `tokens` (tokens, N), ids from 0."
function embed!(x, embedding, tokens)
    @inbounds for t in axes(x, 3), sample in axes(x, 2)
        row = tokens[t, sample] + 1
        @simd for i in axes(x, 1)
            x[i, sample, t] = embedding[i, row]
        end
    end
end

"Adds `dx` to the rows of the embedding's gradient; a token that occurs twice counts twice."
function scatter!(dembedding, dx, tokens)
    @inbounds for t in axes(dx, 3), sample in axes(dx, 2)
        row = tokens[t, sample] + 1
        @simd for i in axes(dx, 1)
            dembedding[i, row] += dx[i, sample, t]
        end
    end
end

"Puts the rows that a batch touched back to 0, for the next `scatter!`."
clear_rows!(dembedding, tokens) = foreach(token -> fill!(view(dembedding, :, token + 1), 0), tokens)

"SGD with momentum, in one pass: v = momentum v + g; w = w - rate v."
function sgd!(weight, velocity, gradient, rate, momentum)
    @inbounds @simd for i in eachindex(weight, velocity, gradient)
        velocity[i] = momentum * velocity[i] + gradient[i]
        weight[i] -= rate * velocity[i]
    end
    return weight
end

"Adam, in one pass over every element; `step` counts from 1, epsilon is added after the correction of the bias."
function adam!(weight, mean, square, gradient, step, rate, beta1, beta2, epsilon)
    correction1 = one(rate) / (1 - beta1^step)
    correction2 = one(rate) / (1 - beta2^step)
    @inbounds @simd for i in eachindex(weight, mean, square, gradient)
        mean[i] = beta1 * mean[i] + (1 - beta1) * gradient[i]
        square[i] = beta2 * square[i] + (1 - beta2) * gradient[i]^2
        weight[i] -= rate * (mean[i] * correction1) / (sqrt(square[i] * correction2) + epsilon)
    end
    return weight
end
