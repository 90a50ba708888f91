# What Flux, Lux and Knet share in NNlib: a 2x2 pooling whose gradient is exact.
#
# NNlib's own gradient on a CPU goes to the first value that is ≈ the maximum, within a relative sqrt(eps) (0.9.36,
# src/impl/pooling_direct.jl; 0.8.21 too): in float32, one window in a few hundred sends it to the wrong pixel. cuDNN's does not.

"Maxima of 2x2 squares of `x` (W, H, C, N), W and H even."
function maxima(x::AbstractArray)
    y = similar(x, size(x, 1) ÷ 2, size(x, 2) ÷ 2, size(x, 3), size(x, 4))
    @inbounds for n in axes(y, 4), c in axes(y, 3), j in axes(y, 2), i in axes(y, 1)
        upper = max(x[2i-1, 2j-1, c, n], x[2i, 2j-1, c, n])
        lower = max(x[2i-1, 2j, c, n], x[2i, 2j, c, n])
        y[i, j, c, n] = max(upper, lower)
    end
    return y
end

"The gradient of `maxima`: all of `dy` goes to the maximum, the first one where several are equal."
function maxima_gradient(x, y, dy)
    dx = zero(x)
    @inbounds for n in axes(y, 4), c in axes(y, 3), j in axes(y, 2), i in axes(y, 1)
        highest = y[i, j, c, n]
        if x[2i-1, 2j-1, c, n] == highest
            dx[2i-1, 2j-1, c, n] = dy[i, j, c, n]
        elseif x[2i, 2j-1, c, n] == highest
            dx[2i, 2j-1, c, n] = dy[i, j, c, n]
        elseif x[2i-1, 2j, c, n] == highest
            dx[2i-1, 2j, c, n] = dy[i, j, c, n]
        else
            dx[2i, 2j, c, n] = dy[i, j, c, n]
        end
    end
    return dx
end
