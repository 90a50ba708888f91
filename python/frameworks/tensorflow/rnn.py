"""TensorFlow: the GRU on IMDB."""

from functools import partial

import tensorflow as tf
from setup import batches, joined, looped, predict, setup, steps_per_execution, synchronize  # noqa: F401


# Setup: TensorFlow itself has no GRU but cuDNN's operation, for NVIDIA GPUs; its packed parameters are the canonical arrays
# one behind the other (gates r, z, n; two biases). On a CPU the recurrence is a loop of our own, which XLA compiles.
class RNN(tf.Module):
    def __init__(self, task, weights):
        super().__init__()
        self.task = task
        self.dtype, self.compute_dtype = setup(task)
        self.weights = {name: tf.Variable(tf.cast(array, self.dtype)) for name, array in weights.items()}
        self.means = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in self.weights.items()}
        self.squares = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in self.weights.items()}
        self.steps = tf.Variable(tf.zeros((), self.dtype))

    def scores(self, x):
        weights = self.weights
        h = self.gru(tf.cast(tf.nn.embedding_lookup(weights["embedding.weight"], x), self.compute_dtype))
        weight, bias = (tf.cast(weights["dense." + kind], self.compute_dtype) for kind in ("weight", "bias"))
        return tf.cast(tf.matmul(h, weight, transpose_b=True) + bias, self.dtype)

    def gru(self, x):
        """The last state, [n, 100], of embedded tokens x, [n, 150, 125]."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [tf.cast(self.weights["gru." + name], x.dtype) for name in names]
        h = tf.zeros((x.shape[0], 100), x.dtype)
        x = tf.transpose(x, (1, 0, 2))
        if self.task.device == "cuda":
            _, h, _, _, _ = tf.raw_ops.CudnnRNNV3(
                input=x,
                input_h=h[None],
                input_c=tf.zeros((), x.dtype),
                params=tf.concat([tf.reshape(weight, (-1,)) for weight in weights], 0),
                sequence_lengths=tf.fill((x.shape[1],), x.shape[0]),
                rnn_mode="gru",
            )
            return h[0]

        weight_ih, weight_hh, bias_ih, bias_hh = weights
        inputs = tf.tensordot(x, weight_ih, ((2,), (1,))) + bias_ih  # one product for all tokens
        weight_hh = tf.transpose(weight_hh)
        for i in inputs:  # AutoGraph makes it a loop of the graph
            i_r, i_z, i_n = tf.split(i, 3, axis=1)
            k_r, k_z, k_n = tf.split(tf.matmul(h, weight_hh) + bias_hh, 3, axis=1)
            r, z = tf.sigmoid(i_r + k_r), tf.sigmoid(i_z + k_z)
            n = tf.tanh(i_n + r * k_n)
            h = (1 - z) * n + z * h
        return h


# Build
def build(task, weights):
    model = RNN(task, weights)
    # XLA cannot compile cuDNN's operation.
    compiled = partial(tf.function, jit_compile=task.device == "cpu")
    model.step = looped(compiled(partial(step, model)), model.dtype)
    model.predict_batch = compiled(model.scores)
    return model


# Load
def load(model, weights):
    for name, array in weights.items():
        model.weights[name].assign(tf.cast(array, model.dtype))
        for moments in (model.means, model.squares):
            moments[name].assign(tf.zeros_like(moments[name]))
    model.steps.assign(0)


# Place
def place(model, array):
    return tf.constant(array)


# Train
def step(model, x, y, batch):
    with tf.GradientTape() as tape:
        scores = model.scores(tf.gather(x, batch))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, batch), scores)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, model.weights)

    task = model.task
    rate, beta1, beta2, epsilon = (
        tf.constant(number, model.dtype) for number in (task.learning_rate, task.beta1, task.beta2, task.epsilon)
    )
    model.steps.assign_add(1)
    beta1_power, beta2_power = beta1**model.steps, beta2**model.steps
    if not task.as_shipped:
        # TensorFlow's Adam adds epsilon before the bias correction; so scaled it stands behind, as in PyTorch.
        epsilon *= tf.sqrt(1 - beta2_power)
    for name, gradient in gradients.items():
        tf.raw_ops.ResourceApplyAdam(
            var=model.weights[name].handle,
            m=model.means[name].handle,
            v=model.squares[name].handle,
            beta1_power=beta1_power,
            beta2_power=beta2_power,
            lr=rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            # The embedding's gradient lists a token as often as it occurs: made dense, its pieces are summed.
            grad=tf.convert_to_tensor(gradient),
        )
    return loss


def train(model, x, y, order):
    return joined([model.step(x, y, batch) for batch in batches(model, order)])


# Predict: as for every TensorFlow leg, in setup.py.


# Weights
def weights(model):
    return {name: weight.numpy() for name, weight in model.weights.items()}
