# ResNet-50 features in Knet, by its primitives, forward only. Outside of @diff batch norms use the given moments.
# Kernels as they are (mode=1), padding symmetric, as in the reference.

# Setup
using Knet
include("setup.jl")

const STAGES = ((3, 1), (4, 2), (6, 2), (3, 2))  # blocks, and the stride of the first one

function conv(model, name, x; stride = 1)
    w = model.parameters["$name.weight"]
    return conv4(w, x; padding = size(w, 1) ÷ 2, stride = stride, mode = 1)
end

norm(model, name, x) = batchnorm(x, model.moments[name], model.parameters[name])

function bottleneck(model, name, x, stride)
    y = relu.(norm(model, "$name.bn1", conv(model, "$name.conv1", x)))
    y = relu.(norm(model, "$name.bn2", conv(model, "$name.conv2", y; stride = stride)))
    y = norm(model, "$name.bn3", conv(model, "$name.conv3", y))
    if haskey(model.parameters, "$name.downsample.0.weight")
        x = norm(model, "$name.downsample.1", conv(model, "$name.downsample.0", x; stride = stride))
    end
    return relu.(y .+ x)
end

function features(model, x)
    x = relu.(norm(model, "bn1", conv(model, "conv1", x; stride = 2)))
    x = pool(x; window = 3, stride = 2, padding = 1)
    for (stage, (blocks, stride)) in enumerate(STAGES), block in 1:blocks
        x = bottleneck(model, "layer$stage.$(block - 1)", x, block == 1 ? stride : 1)
    end
    return mat(pool(x; window = size(x, 1), mode = 1))
end

"Besides the parameters, the `moments` of the batch norms: running means and variances."
struct ResNet{P,M,T}
    parameters::P
    moments::M
    task::T
end

# Build: a batch norm's scale and shift are one vector.
function build(task, weights)
    model = ResNet(Dict{String,Any}(), Dict{String,Any}(), task)
    array(name) = floats(task).(weights[name])
    for name in keys(weights)
        if endswith(name, "running_mean")
            norm = replace(name, ".running_mean" => "")
            mean, var = channels(array("$norm.running_mean")), channels(array("$norm.running_var"))
            model.moments[norm] = bnmoments(mean = mean, var = var)
            model.parameters[norm] = vcat(array("$norm.weight"), array("$norm.bias"))
        elseif ndims(weights[name]) == 4
            model.parameters[name] = array(name)
        end
    end
    return model
end

# Place
place(model, x) = pictures(model.task, x)

# Predict
function predict(model, x)
    n = model.task.batch
    return reduce(hcat, [Array(features(model, x[:, :, :, first:first+n-1])) for first in 1:n:size(x, 4)])
end

# Synchronize
synchronize(model) = nothing
