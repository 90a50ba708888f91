"""PaddlePaddle: the CNN on CIFAR-10."""

import paddle
from paddle import nn
from paddle.nn import functional as F
from setup import DTYPES, setup, synchronize  # noqa: F401


# Setup: PyTorch's layouts (NCHW, OIHW, flatten as C, H, W) but for the dense weights, which are [in, out].
class CNN(nn.Layer):
    def __init__(self, dropout):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 50, 3, padding=1)
        self.conv2 = nn.Conv2D(50, 50, 3, padding=1)
        self.conv3 = nn.Conv2D(50, 100, 3, padding=1)
        self.conv4 = nn.Conv2D(100, 100, 3, padding=1)
        self.dense1 = nn.Linear(100 * 8 * 8, 512)
        self.dense2 = nn.Linear(512, 10)
        self.dropout_conv = nn.Dropout(0.25 if dropout else 0)
        self.dropout_dense = nn.Dropout(0.5 if dropout else 0)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = self.dropout_conv(x)
        x = F.relu(self.conv3(x))
        x = F.relu(F.max_pool2d(self.conv4(x), 2))
        x = self.dropout_conv(x)
        x = F.relu(self.dense1(x.flatten(1)))
        return self.dense2(self.dropout_dense(x))


# Build
def build(task, weights):
    setup(task)
    model = CNN(task.dropout)
    model.task = task
    load(model, weights)
    return model


# Load
def turned(name, array):
    """Dense weights from [out, in] to [in, out] or back; everything else as it is."""
    return array.T if name.startswith("dense") and array.ndim == 2 else array


def load(model, weights):
    dtype = DTYPES[model.task.precision]
    model.set_state_dict({name: turned(name, array).astype(dtype) for name, array in weights.items()})
    task = model.task
    # Paddle's Momentum rounds its factor to float32 in every precision, 1e-8 off in fp64: there plain SGD steps along gradients
    # that are never cleared but fade by the same factor, which makes them the velocity.
    if task.precision == "fp64":
        model.optimizer = paddle.optimizer.SGD(task.learning_rate, parameters=model.parameters())
    else:
        model.optimizer = paddle.optimizer.Momentum(task.learning_rate, task.momentum, parameters=model.parameters())
    model.optimizer.clear_grad(set_to_zero=False)


# Place
def place(model, array):
    return paddle.to_tensor(array, model.conv1.weight.dtype if array.ndim == 4 else None)


# Train
def train(model, x, y, order):
    model.train()
    losses = []
    for batch in paddle.to_tensor(order).split(len(order) // model.task.batch):
        loss = F.cross_entropy(model(x[batch]), y[batch])
        clear(model)
        loss.backward()
        model.optimizer.step()
        losses.append(loss.detach())
    return paddle.stack(losses).numpy()


@paddle.no_grad()
def clear(model):
    """Gradients to nothing; in fp64 what the last step left, times the momentum, for the next backward pass to add to."""
    if model.task.precision != "fp64":
        model.optimizer.clear_grad(set_to_zero=False)
    else:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.scale_(model.task.momentum)


# Predict
@paddle.no_grad()
def predict(model, x):
    model.eval()
    return paddle.concat([model(part) for part in x.split(len(x) // model.task.batch)]).numpy()


# Weights
def weights(model):
    return {name: turned(name, tensor.numpy()) for name, tensor in model.state_dict().items()}
