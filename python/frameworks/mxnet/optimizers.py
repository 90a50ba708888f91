"""The optimizers whose arithmetic has to be spelled out to be the reference's."""

import math

from mxnet import nd, optimizer


class Adam(optimizer.Adam):
    """Adam with the epsilon after the bias correction.

    MXNet's own divides by sqrt(v) + epsilon and corrects the rate: w -= rate c m / (sqrt(v) + epsilon) with
    c = sqrt(1 - beta2^t) / (1 - beta1^t). An epsilon of epsilon sqrt(1 - beta2^t) makes that the reference's.
    """

    def __init__(self, epsilon, **settings):
        super().__init__(**settings)
        self.epsilon_after = epsilon

    def update(self, index, weight, gradient, state):
        step = self._index_update_count.get(index, 0) + 1
        self.epsilon = self.epsilon_after * math.sqrt(1 - self.beta2**step)
        super().update(index, weight, gradient, state)


# MXNet's fused updates take rate, momentum and betas as float32, for float64 weights too: .01 then means .00999999978.
# Doubles reach only the scalars of its arithmetic, so these two carry fp64; the fused ones pass over memory once.
class DoubleSGD(optimizer.Optimizer):
    def __init__(self, momentum, **settings):
        super().__init__(**settings)
        self.momentum = momentum

    def create_state(self, index, weight):
        return nd.zeros_like(weight)

    def update(self, index, weight, gradient, velocity):
        velocity[:] = self.momentum * velocity - self.lr * self.rescale_grad * gradient
        weight[:] += velocity


class DoubleAdam(Adam):
    def update(self, index, weight, gradient, state):
        self._update_count(index)
        step = self._index_update_count[index]
        mean, variance = state
        gradient = self.rescale_grad * gradient
        mean[:] = self.beta1 * mean + (1 - self.beta1) * gradient
        variance[:] = self.beta2 * variance + (1 - self.beta2) * gradient**2
        root = (variance / (1 - self.beta2**step)).sqrt() + self.epsilon_after
        weight[:] -= self.lr / (1 - self.beta1**step) * mean / root
