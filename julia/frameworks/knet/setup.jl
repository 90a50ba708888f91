# What the three Knet legs share: element type, device, batches, and the loop over them.
# Written for Knet 1.4.10 (2022, the last) and AutoGrad 1.2.5. Knet has no layers to speak of: a model is a function of
# parameters, @diff records what is done to them, and every Param carries its own optimizer.
using Knet, Random

"`parameters` {name: Param} in Knet's layout."
struct Model{P,T}
    parameters::P
    task::T
end

floats(task) = task.precision == "fp64" ? Float64 : Float32

"Moves an array to the device. Knet picks the GPU by itself where there is one, so both cases are asked for."
on_device(task, array) = task.device == "cuda" ? CuArray(array) : array

"Pictures (W, H, C, N): the shared array itself, where type and device allow it."
pictures(task, x) = on_device(task, eltype(x) == floats(task) ? x : floats(task).(x))

"The positions `order`, which count from 0, as batches that count from 1."
batches(order, n) = [order[first:first+n-1] .+ 1 for first in 1:n:length(order)]

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
