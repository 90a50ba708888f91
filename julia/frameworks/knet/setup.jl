# What the three Knet legs share: element type, batches, and the loop over them.
# Written for Knet 1.4.10 (2022, the last) and AutoGrad 1.2.5. Knet has no layers to speak of: a model is a function of
# parameters, @diff records what is done to them, and every Param carries its own optimizer.
using Knet, Random
include("../nnlib/arrays.jl")

"`parameters` {name: Param} in Knet's layout."
struct Model{P,T}
    parameters::P
    task::T
end

"Arrays stay where they are: Knet's CUDA.jl compiles no kernel on a Julia that juliacall starts."
device(task) = identity

"One pass over `batches`; `loss(batch)` is recorded and differentiated, then every parameter moves by its own optimizer."
function train_batches!(model, loss, batches)
    losses = Float64[]
    for batch in batches
        tape = @diff loss(batch)
        for parameter in values(model.parameters)
            update!(parameter, grad(tape, parameter))
        end
        push!(losses, value(tape))
    end
    return losses
end

"Biases of a convolution lie along the channels."
channels(bias) = reshape(bias, 1, 1, :, 1)
