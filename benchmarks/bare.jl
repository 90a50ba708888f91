# The bare loop of a leg in Julia: its network trained without the harness, without Python. Called by overhead.py.
#
#   julia --project=PROJECT bare.jl SPEC        prints the seconds of each epoch, separated by blanks
#
# SPEC has a line for each thing, tab-separated: `file PATH`, `setting NAME TYPE TEXT`, `weight NAME SHAPE OFFSET PATH`, `x` and `y` with TYPE SHAPE OFFSET
# PATH, `epochs N`. Shapes are Julia's; the values of a .npy file begin at OFFSET.
using LinearAlgebra

parsed(type, text) = type == "int" ? parse(Int, text) : type == "float" ? parse(Float64, text) : type == "bool" ? text == "true" : text

function values_of(T, shape, offset, path)
    array = Array{T}(undef, Tuple(parse.(Int, split(shape, ','))))
    open(file -> (seek(file, parse(Int, offset)); read!(file, array)), path)
    return array
end

settings, weights, given = Pair{Symbol,Any}[], Dict{String,Array}(), Dict{String,Any}()
for line in eachline(ARGS[1])
    words = split(line, '\t')
    kind = popfirst!(words)
    if kind == "setting"
        push!(settings, Symbol(words[1]) => parsed(words[2], words[3]))
    elseif kind == "weight"
        weights[words[1]] = values_of(Float32, words[2:end]...)
    elseif kind in ("x", "y")
        given[kind] = values_of(words[1] == "int64" ? Int64 : Float32, words[2:end]...)
    else
        given[kind] = String(words[1])
    end
end
task = (; settings...)
BLAS.set_num_threads(task.threads)
@eval module Leg
include($(given["file"]))
end

function run_bare(leg, task, weights, given)
    model = leg.build(task, weights)
    x = leg.place(model, given["x"])
    y = task.trained ? leg.place(model, given["y"]) : nothing
    order = collect(0:size(given["x"])[end]-1)
    step(positions) = task.trained ? leg.train(model, x, y, positions) : leg.predict(model, x)
    foreach(_ -> step(order[1:task.batch]), 1:4)
    return map(1:parse(Int, given["epochs"])) do _
        GC.gc()
        leg.synchronize(model)
        @elapsed begin
            step(order)
            leg.synchronize(model)
        end
    end
end

println(join(Base.invokelatest(run_bare, Leg, task, weights, given), ' '))
