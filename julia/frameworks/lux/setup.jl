# What the three Lux legs share: element type, device, batches, and the model with its state of training.
# Written for Lux 1.31, Optimisers 0.4, Zygote 0.7 and MLDataDevices 1.17. A Lux layer holds no numbers: parameters and
# states are named tuples beside it, and every call gives the states back.
using Lux, Optimisers, Random, Zygote
include("../nnlib/arrays.jl")

"`training` holds the network, its parameters and states, and those of the optimizer."
mutable struct Model{N,R,T}
    network::N
    rule::R
    training::Any
    task::T
end

"`nothing` keeps the element type: by itself a GPU device makes everything Float32."
device(task) = task.device == "cuda" ? gpu_device(nothing, nothing; force = true) : cpu_device()

"Classes y, from 0, as columns with a single 1."
columns(task, y) = device(task)(floats(task).((0:task.classes-1) .== permutedims(y)))

"The generator of which every layer gets a copy, for its dropout. The device puts CUDA's in the place of the default one, and of no other."
function generator(task)
    task.device == "cuda" || return Xoshiro(task.seed)
    Main.CUDA.seed!(task.seed)
    Random.seed!(task.seed)
    return Random.default_rng()
end

"Parameters and states of a new network, with the canonical values that `given(T)` has for some layers."
function begin_training(model, given)
    T = floats(model.task)
    parameters, states = Lux.setup(generator(model.task), model.network)
    parameters = device(model.task)(merge(parameters, given(T)))
    model.training = Training.TrainState(model.network, parameters, device(model.task)(states), model.rule)
end

"One pass over `batches`; `data(batch)` gives samples and labels."
function train_batches!(model, data, batches)
    losses = Float64[]
    loss_function = CrossEntropyLoss(; logits = Val(true))
    for batch in batches
        _, loss, _, model.training =
            Training.single_train_step!(AutoZygote(), loss_function, data(batch), model.training)
        push!(losses, loss)
    end
    return losses
end

"Scores of a batch, on the host, with dropout off."
function scores(model, samples)
    states = Lux.testmode(model.training.states)
    return Array(first(model.network(samples, model.training.parameters, states)))
end
