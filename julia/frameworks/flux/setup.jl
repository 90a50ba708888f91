# What the three Flux legs share: element type, device, batches, and the model with its optimizer.
# Written for Flux 0.16.9, Optimisers 0.4 and MLDataDevices 1.17.
using Flux, Random
include("../nnlib/arrays.jl")

"A network with the state of its optimizer; `rule` makes that state anew."
mutable struct Model{N,R,S,T}
    network::N
    rule::R
    state::S
    task::T
end

"The network in the task's element type, on its device, with a fresh state."
function Model(network, rule, task)
    network = device(task)(task.precision == "fp64" ? f64(network) : network)
    return Model(network, rule, Flux.setup(rule, network), task)
end

"`nothing` keeps the element type: by itself a GPU device makes everything Float32."
device(task) = task.device == "cuda" ? gpu_device(nothing, nothing; force = true) : cpu_device()

"A canonical kernel (kw, kh, in, out) turned by 180 degrees: Flux convolves truly, the reference correlates."
turned(kernel) = kernel[end:-1:1, end:-1:1, :, :]
