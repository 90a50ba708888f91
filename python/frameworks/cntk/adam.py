"""Adam for CNTK's GRU."""

import cntk as C
import numpy as np


class Adam:
    """Adam in CNTK's own operators, for a universal learner.

    The built-in one adds epsilon before the bias correction and, unless told minibatch_size=IGNORE, divides the rate by the batch:
    learners are made for gradients that are summed over it, where SGD wants that and Adam does not.
    """

    def __init__(self, task, dtype):
        self.task, self.dtype = task, dtype
        self.start = []  # (state, first value)

    def state(self, shape, value):
        self.start.append((C.constant(value, shape, dtype=self.dtype), value))
        return self.start[-1][0]

    def reset(self):
        for state, value in self.start:
            state.value = np.full(state.shape, value, self.dtype)

    def __call__(self, parameters, gradients):
        task = self.task
        power1, power2 = self.state((), 1), self.state((), 1)
        power1, power2 = C.assign(power1, task.beta1 * power1), C.assign(power2, task.beta2 * power2)
        updates = []
        for parameter, gradient in zip(parameters, gradients):
            gradient = gradient / task.batch  # it arrives as the sum over the batch
            mean, variance = self.state(parameter.shape, 0), self.state(parameter.shape, 0)
            mean = C.assign(mean, task.beta1 * mean + (1 - task.beta1) * gradient)
            variance = C.assign(variance, task.beta2 * variance + (1 - task.beta2) * gradient * gradient)
            step = mean / (C.sqrt(variance / (1 - power2)) + task.epsilon)
            updates.append(C.assign(parameter, parameter - task.learning_rate / (1 - power1) * step))
        return C.combine(updates)
