# What Flux, Lux and Knet share in how arrays reach a leg. `device(task)`, which each of them defines, moves an array.

floats(task) = task.precision == "fp64" ? Float64 : Float32

"Pictures (W, H, C, N): the shared array itself, where type and device allow it."
pictures(task, x) = device(task)(eltype(x) == floats(task) ? x : floats(task).(x))

"The positions `order`, which count from 0, as batches that count from 1."
batches(order, n) = [order[first:first+n-1] .+ 1 for first in 1:n:length(order)]

"Copies to a library's array, whatever its element type and device."
fill_in!(parameter, values) = copyto!(parameter, eltype(parameter).(values))
