# ResNet-50 features in Lux, forward only. In test mode batch norms use their running statistics, which are states and
# not parameters in Lux. Kernels as they are, padding symmetric, as in the reference.

# Setup
using Lux
include("setup.jl")

convolution(k, widths; stride = 1) =
    Conv((k, k), widths; stride = stride, pad = k ÷ 2, use_bias = false, cross_correlation = true)

function bottleneck(width_in, width, stride)
    block = Chain(;
        conv1 = convolution(1, width_in => width), bn1 = BatchNorm(width, relu),
        conv2 = convolution(3, width => width; stride = stride), bn2 = BatchNorm(width, relu),
        conv3 = convolution(1, width => 4width), bn3 = BatchNorm(4width),
    )
    shortcut = NoOpLayer()
    if width_in != 4width
        shortcut = Chain(; conv = convolution(1, width_in => 4width; stride = stride), bn = BatchNorm(4width))
    end
    return Parallel((x, y) -> relu.(x .+ y); block = block, shortcut = shortcut)
end

"Blocks count from 0 in torchvision's names and from 1 in Lux's: layer_1, layer_2 ..."
stage(width_in, width, blocks, stride) =
    Chain(bottleneck(width_in, width, stride), [bottleneck(4width, width, 1) for _ in 2:blocks]...)

# Build
function build(task, weights)
    network = Chain(;
        conv1 = convolution(7, 3 => 64; stride = 2),
        bn1 = BatchNorm(64, relu),
        pool = MaxPool((3, 3); stride = 2, pad = 1),
        layer1 = stage(64, 64, 3, 1),
        layer2 = stage(256, 128, 4, 2),
        layer3 = stage(512, 256, 6, 2),
        layer4 = stage(1024, 512, 3, 2),
        mean = GlobalMeanPool(),
        flatten = FlattenLayer(),
    )
    parameters, states = Lux.setup(Xoshiro(task.seed), network)
    fill_layers!(parameters, states, weights)
    if floats(task) == Float64
        parameters, states = f64(parameters), f64(states)
    end
    place = device(task)
    return (network = network, parameters = place(parameters), states = Lux.testmode(place(states)), task = task)
end

function fill_layers!(parameters, states, weights)
    fill_pair!(parameters.conv1, parameters.bn1, states.bn1, "conv1", "bn1", weights)
    for stage in (:layer1, :layer2, :layer3, :layer4), (number, block) in enumerate(keys(parameters[stage]))
        prefix = "$stage.$(number - 1)"
        p, s = parameters[stage][block], states[stage][block]
        for k in 1:3
            conv, bn = Symbol("conv", k), Symbol("bn", k)
            fill_pair!(p.block[conv], p.block[bn], s.block[bn], "$prefix.$conv", "$prefix.$bn", weights)
        end
        if !isempty(p.shortcut)
            fill_pair!(p.shortcut.conv, p.shortcut.bn, s.shortcut.bn, "$prefix.downsample.0", "$prefix.downsample.1", weights)
        end
    end
end

"A convolution and the batch norm behind it, which keeps its statistics among the states."
function fill_pair!(convolution, norm, statistics, conv_name, norm_name, weights)
    copyto!(convolution.weight, weights["$conv_name.weight"])
    copyto!(norm.scale, weights["$norm_name.weight"])
    copyto!(norm.bias, weights["$norm_name.bias"])
    copyto!(statistics.running_mean, weights["$norm_name.running_mean"])
    copyto!(statistics.running_var, weights["$norm_name.running_var"])
end

# Place
place(model, x) = pictures(model.task, x)

# Predict
function predict(model, x)
    n = model.task.batch
    parts = [first(model.network(x[:, :, :, start:start+n-1], model.parameters, model.states)) for start in 1:n:size(x, 4)]
    return reduce(hcat, map(Array, parts))
end

# Synchronize
synchronize(model) = model.task.device == "cuda" && Main.CUDA.synchronize()
