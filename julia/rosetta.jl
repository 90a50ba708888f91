"""
The Julia half of the contract: hands requests of the Python worker to the verbs of a leg, and their results back.

A request is one line of tab-separated fields, the first of which is a verb. Both bridges speak it: with juliacall
`Rosetta.answer` is called in the Python process and arrays are addresses in memory; without it `Rosetta.serve` reads
standard input in a `julia` process of its own, and arrays are files to map or bytes behind the line. docs/julia.md has
the whole protocol. Standard library only, for Julia 1.5 and later.
"""
module Rosetta

using LinearAlgebra, Mmap
using Libdl: dlopen, dlsym

const TYPES = Dict("float32" => Float32, "float64" => Float64, "int64" => Int64, "uint8" => UInt8)
const NAMES = Dict(type => name for (name, type) in TYPES)

"""
The leg, and whatever Python holds by a number: models and placed arrays. `results` are alive until the next request.
`collected` is the time that the garbage collector had taken at the last `collect`, in nanoseconds.
"""
mutable struct Session
    leg::Union{Module,Nothing}
    objects::Dict{Int,Any}
    results::Vector{Pair{String,Array}}
    threads::Int
    libraries::Set{String}
    collected::Int64
end

const SESSION = Session(nothing, Dict{Int,Any}(), Pair{String,Array}[], 0, Set{String}(), 0)

"A request as far as it was not read yet: fields, and the bytes behind the line (none within one process)."
mutable struct Request
    fields::Vector{String}
    next::Int
    bytes::Int
end

Request(fields) = Request(String.(fields), 1, 0)

remaining(request::Request) = request.next <= length(request.fields)

function next!(request::Request)
    remaining(request) || error("the request ends too early: ", join(request.fields, ' '))
    request.next += 1
    return request.fields[request.next-1]
end

number!(request::Request) = parse(Int, next!(request))
object!(request::Request) = SESSION.objects[number!(request)]

"""
An array as (type, shape, source): an array [a, b, c] in C order becomes, in the same memory, one of size (c, b, a).

The source is `file:OFFSET:PATH` (mapped, read-only), `memory:ADDRESS` (Python keeps its owner alive) or `bytes`.
"""
function array!(request::Request)
    name = next!(request)
    haskey(TYPES, name) || error("arrays of type ", name, " cannot be handed to Julia")
    T = TYPES[name]
    dims = Tuple(reverse(parse.(Int, split(next!(request), ','))))
    source = split(next!(request), ':'; limit = 3)
    source[1] == "memory" && return unsafe_wrap(Array, Ptr{T}(parse(UInt, source[2])), dims)
    if source[1] == "bytes"
        array = Array{T}(undef, dims)
        request.bytes -= sizeof(array)
        return read!(stdin, array)
    end
    source[1] == "file" || error("unknown source of an array: ", source[1])
    prod(dims) == 0 && return Array{T}(undef, dims)
    return open(file -> Mmap.mmap(file, Array{T,length(dims)}, dims, parse(Int, source[2]); grow = false), source[3])
end

function arrays!(request::Request)
    weights = Dict{String,Array}()
    while remaining(request)
        name = next!(request)
        weights[name] = array!(request)
    end
    return weights
end

"The task as a NamedTuple, from a count and then name, type and value of each setting."
function task!(request::Request)
    settings = Pair{Symbol,Any}[]
    for _ in 1:number!(request)
        name, type, text = Symbol(next!(request)), next!(request), next!(request)
        value =
            type == "int" ? parse(Int, text) :
            type == "float" ? parse(Float64, text) :
            type == "bool" ? text == "true" :
            type == "none" ? nothing : text
        push!(settings, name => value)
    end
    return (; settings...)
end

# The verbs. Each gives the named arrays that go back.

const NOTHING = Pair{String,Array}[]

function open_leg(request)
    path, device, precision = next!(request), next!(request), next!(request)
    device == "cuda" && open_gpu(precision)
    while remaining(request)
        push!(SESSION.libraries, next!(request))
    end
    # A module of the usual form, so that the leg can include its neighbours.
    SESSION.leg = Core.eval(Main, :(module Leg
        include($path)
    end))
    return NOTHING
end

"""
Loads CUDA.jl, and cuDNN where the project has it, as `Main.CUDA`.

float32 is float32: no math mode of CUDA.jl keeps cuDNN from TF32 (its pedantic one is cuDNN's default, which allows it, CUDA.jl 5.9,
lib/cudnn/src/cuDNN.jl), but NVIDIA's own variable does, for cuBLAS too. It is read when they are loaded. TF32 is what CUDA.jl's fast
mode means to cuBLAS; to cuDNN the same mode allows float16 as well, so cuDNN is given the mode that stays with float32's range.
"""
function open_gpu(precision)
    reduced = precision == "tf32"
    reduced || (ENV["NVIDIA_TF32_OVERRIDE"] = "0")
    Core.eval(Main, :(using CUDA))
    Base.find_package("cuDNN") === nothing || Core.eval(Main, :(using cuDNN))
    mode = reduced ? :FAST_MATH : :DEFAULT_MATH
    Core.eval(Main, :(CUDA.math_mode!(CUDA.$mode; precision = :TensorFloat32)))
    if reduced && isdefined(Main, :cuDNN)
        Core.eval(Main, :(cuDNN.math_mode() = cuDNN.CUDNN_TENSOR_OP_MATH))
    end
end

function build(request)
    handle, task, weights = number!(request), task!(request), arrays!(request)
    BLAS.set_num_threads(task.threads)
    SESSION.threads = task.threads
    SESSION.objects[handle] = SESSION.leg.build(task, weights)
    return NOTHING
end

function load(request)
    SESSION.leg.load(object!(request), arrays!(request))
    return NOTHING
end

function place(request)
    model, handle = object!(request), number!(request)
    SESSION.objects[handle] = SESSION.leg.place(model, array!(request))
    return NOTHING
end

function train(request)
    model, x, y = object!(request), object!(request), object!(request)
    return ["losses" => plain(SESSION.leg.train(model, x, y, array!(request)))]
end

predict(request) = ["scores" => plain(SESSION.leg.predict(object!(request), object!(request)))]

weights(request) = [name => plain(array) for (name, array) in SESSION.leg.weights(object!(request))]

function synchronize(request)
    SESSION.leg.synchronize(object!(request))
    return NOTHING
end

"Frees what is no longer used. Gives the seconds that this took, and those of collections since the last call."
function collect_garbage(request)
    before = Base.gc_num()
    seconds = @elapsed GC.gc()
    within = (before.total_time - SESSION.collected) / 1e9
    SESSION.collected = Base.gc_num().total_time
    return ["seconds" => [seconds, within]]
end

function forget(request)
    while remaining(request)
        delete!(SESSION.objects, number!(request))
    end
    return NOTHING
end

"Name and value as bytes: this Julia with its level of optimization, its BLAS, and the libraries that the harness asked for."
function versions(request)
    found = ["julia" => "$VERSION -O$(Base.JLOptions().opt_level)", "blas" => blas()]
    # Before Julia 1.9 a module does not know its version.
    loaded = VERSION < v"1.9" ? [] : [(key.name, Base.pkgversion(loaded)) for (key, loaded) in Base.loaded_modules]
    append!(found, [name => string(version) for (name, version) in loaded if name in SESSION.libraries])
    return [name => Vector{UInt8}(value) for (name, value) in found]
end

const VERBS = Dict(
    "open" => open_leg, "build" => build, "load" => load, "place" => place, "train" => train, "predict" => predict,
    "weights" => weights, "synchronize" => synchronize, "collect" => collect_garbage, "forget" => forget, "versions" => versions,
)

"A result as an array of a type that NumPy knows under the same name."
plain(array::Array{<:Union{Float32,Float64,Int64,UInt8}}) = array
plain(array::AbstractArray{T}) where {T<:Union{Float32,Float64,Int64,UInt8}} = Array(array)
plain(array::AbstractArray{<:AbstractFloat}) = Array{Float64}(array)

"What BLAS this is and which processor's kernels it chose: an OpenBLAS older than the processor chooses slow ones."
function blas()
    library = VERSION < v"1.7" ? Base.libblas_name : first(BLAS.get_config().loaded_libs).libname
    threads = SESSION.threads > 0 ? ", $(SESSION.threads) threads" : ""
    for suffix in ("64_", "")
        address = dlsym(dlopen(library), Symbol("openblas_get_config", suffix); throw_error = false)
        address === nothing && continue
        words = split(unsafe_string(ccall(address, Cstring, ())))
        core = dlsym(dlopen(library), Symbol("openblas_get_corename", suffix))
        return string(join(words[1:2], ' '), ' ', unsafe_string(ccall(core, Cstring, ())), threads)
    end
    return basename(library) * threads
end

perform(request::Request) = VERBS[next!(request)](request)

"Performs one request and returns the fields of the answer. The arrays stay alive until the next one."
function respond(request::Request)
    try
        # The leg was loaded after this loop was compiled: invokelatest lets it see the new methods.
        SESSION.results = Base.invokelatest(perform, request)
        return ["ok"]
    catch failure
        trace = catch_backtrace()
        while failure isa LoadError
            failure = failure.error
        end
        showerror(stderr, failure, trace)
        println(stderr)
        SESSION.results = NOTHING
        return ["error", one_line(failure)]
    end
end

"`Type: message`, without line breaks."
function one_line(failure)
    type = string(nameof(typeof(failure)))
    message = replace(strip(sprint(showerror, failure)), r"\s+" => " ")
    startswith(message, type) || (message = string(type, ": ", message))
    return length(message) > 300 ? string(first(message, 297), "...") : message
end

shape(array) = join(reverse(size(array)), ',')

"The bridge within one process: a request in, the answer out, results as addresses that live until the next request."
function answer(line)
    fields = respond(Request(split(line, '\t')))
    for (name, array) in SESSION.results
        append!(fields, [name, NAMES[eltype(array)], shape(array), string("memory:", UInt(pointer(array)))])
    end
    return join(fields, '\t')
end

"""
The bridge between two processes: answers requests on standard input until it ends.

Whatever a leg or a library prints goes to standard error: standard output belongs to the answers alone.
"""
function serve()
    answers = stdout
    redirect_stdout(stderr)
    Base.exit_on_sigint(false)
    die_with_parent()
    while true
        try
            line = readline(stdin)
            isempty(line) && eof(stdin) && return
            count, words = Iterators.peel(split(line, '\t'))
            request = Request(collect(words))
            request.bytes = parse(Int, count)
            fields = respond(request)
            read(stdin, request.bytes)  # what a failed request left behind its line
            for (name, array) in SESSION.results
                append!(fields, [name, NAMES[eltype(array)], shape(array), "bytes"])
            end
            message = IOBuffer()
            println(message, join(fields, '\t'))
            foreach(result -> write(message, result.second), SESSION.results)
            write(answers, take!(message))
            flush(answers)
        catch failure
            # An interrupt between two requests ends the server; anything else here means that the pipe is gone.
            failure isa InterruptException || showerror(stderr, failure, catch_backtrace())
            return
        end
    end
end

"Linux ends this process when the worker that started it dies: a killed worker leaves no Julia behind."
function die_with_parent()
    set_parent_death_signal, kill = 1, 9
    Sys.islinux() && ccall(:prctl, Cint, (Cint, Culong, Culong, Culong, Culong), set_parent_death_signal, kill, 0, 0, 0)
end

end
