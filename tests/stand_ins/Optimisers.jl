"Stands in for Optimisers 0.4: the two rules that the Lux legs name."
module Optimisers

export Momentum, Adam

struct Momentum
    eta::Float64
    rho::Float64
end
struct Adam
    eta::Float64
    beta::Tuple{Float64,Float64}
    epsilon::Float64
end

end
