"""tinygrad: the CNN on CIFAR-10."""

import numpy as np
from setup import DTYPES, Schedule, parts, put, setup, synchronize  # noqa: F401
from tinygrad import Context, Tensor, TinyJit, nn


# Setup: tinygrad's layouts are PyTorch's (OIHW, [out, in], flatten as C, H, W): nothing is permuted.
class CNN:
    def __init__(self, dropout):
        self.conv1 = nn.Conv2d(3, 50, 3, padding=1)
        self.conv2 = nn.Conv2d(50, 50, 3, padding=1)
        self.conv3 = nn.Conv2d(50, 100, 3, padding=1)
        self.conv4 = nn.Conv2d(100, 100, 3, padding=1)
        self.dense1 = nn.Linear(100 * 8 * 8, 512)
        self.dense2 = nn.Linear(512, 10)
        self.rate_conv = 0.25 if dropout else 0
        self.rate_dense = 0.5 if dropout else 0

    # Methods of the tensor stand where others have layers; dropout is on under TRAINING only.
    def __call__(self, x):
        x = self.conv1(x).relu()
        x = self.conv2(x).max_pool2d(2).relu()
        x = x.dropout(self.rate_conv)
        x = self.conv3(x).relu()
        x = self.conv4(x).max_pool2d(2).relu()
        x = x.dropout(self.rate_conv)
        x = self.dense1(x.flatten(1)).relu()
        return self.dense2(x.dropout(self.rate_dense))


# Build
def build(task, weights):
    setup(task)
    model = CNN(task.dropout)
    model.task = task
    model.state = nn.state.get_state_dict(model)
    model.optimizer = nn.optim.SGD(list(model.state.values()), task.learning_rate, task.momentum)
    # The momentum is float32 whatever the weights are.
    model.optimizer.b = [Tensor.zeros(w.shape, dtype=w.dtype).contiguous() for w in model.optimizer.params]
    load(model, weights)
    model.schedule, model.step = Schedule(task), captured_step(model)
    model.scores = TinyJit(lambda x: model(x).realize())
    return model


# Load
def load(model, weights):
    put(model.state.values(), [weights[name] for name in model.state])
    put(model.optimizer.b, [np.zeros(b.shape) for b in model.optimizer.b])


# Place
def place(model, array):
    return Tensor(np.array(array), dtype=DTYPES[model.task.precision] if array.ndim == 4 else "int32").realize()


# Train
def captured_step(model):
    # Run as it is the first time, captured the second, replayed from the third on, in the same buffers.
    @TinyJit
    @Context(TRAINING=1)
    def step(x, y, positions, losses, t):
        model.optimizer.zero_grad()
        batch = positions[t]
        loss = model(x[batch]).cross_entropy(y[batch]).backward()
        Tensor.realize(losses[t : t + 1].assign(loss.reshape(1)), *model.optimizer.schedule_step())

    return step


def train(model, x, y, order):
    positions, losses, steps = model.schedule.of(order, len(x))
    for t in steps:
        model.step(x, y, positions, losses, t)
    return losses.numpy()[: len(steps)]


# Predict
def predict(model, x):
    # The next replay overwrites what this one returns.
    scores = [model.scores(part).clone().realize() for part in parts(x, model.task.batch)]
    return Tensor.cat(*scores).numpy()


# Weights
def weights(model):
    return {name: tensor.numpy() for name, tensor in model.state.items()}
