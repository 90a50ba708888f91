"""The reference is right: its gradients are the slopes of its losses, and its layers do what their formulas say."""

from types import SimpleNamespace

import numpy as np
import pytest
from rosetta import initial, prepare, reference
from rosetta.tasks import TASKS


def small_cnn(rng):
    """The CNN with its own architecture, so with all of its weights, on three random pictures."""
    weights = {name: array.astype(np.float64) for name, array in initial.draw(TASKS["cnn"]).items()}
    return reference.cnn, weights, rng.random((3, 3, 32, 32)), np.array([1, 7, 1])


def small_rnn(rng):
    weights = {name: array.astype(np.float64) for name, array in initial.draw(TASKS["rnn"]).items()}
    for name in weights:  # zero biases would hide a swapped one
        if "bias" in name:
            weights[name] = rng.normal(0, 0.3, weights[name].shape)
    return reference.rnn, weights, rng.integers(0, 40, (3, 9)), np.array([0, 1, 1])


@pytest.mark.parametrize("make", [small_cnn, small_rnn])
def test_gradients_are_finite_differences(make):
    rng = np.random.default_rng(0)
    network, weights, x, y = make(rng)
    logits, back = network(weights, x)
    gradients = back(reference.cross_entropy(logits, y)[1])
    assert sorted(gradients) == sorted(weights)
    for name, array in weights.items():
        direction = rng.normal(size=array.shape)
        h = 1e-7  # larger steps cross the kinks of relu and pooling
        losses = []
        for sign in (1, -1):
            moved = {**weights, name: array + sign * h * direction}
            losses.append(reference.cross_entropy(network(moved, x)[0], y)[0])
        slope = (losses[0] - losses[1]) / (2 * h)
        assert np.sum(gradients[name] * direction) == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_convolution_is_the_sum_that_its_definition_says():
    rng = np.random.default_rng(1)
    x, w, b = rng.normal(size=(2, 3, 7, 7)), rng.normal(size=(4, 3, 3, 3)), rng.normal(size=4)
    y, _ = reference.conv2d(x, w, b, stride=2, padding=1)
    assert y.shape == (2, 4, 4, 4)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    by_hand = (
        sum(padded[1, c, 2 + i, 4 + j] * w[3, c, i, j] for c in range(3) for i in range(3) for j in range(3)) + b[3]
    )
    assert y[1, 3, 1, 2] == pytest.approx(by_hand, rel=1e-12)


def test_pooling_takes_the_first_of_equal_maxima():
    y, back = reference.max_pool2(np.array([[[[5.0, 5.0], [1.0, 5.0]]]]))
    assert y.item() == 5
    assert back(np.ones((1, 1, 1, 1))).tolist() == [[[[1, 0], [0, 0]]]]


def test_pooling_3_ignores_its_padding():
    x = -np.arange(1.0, 17).reshape(1, 1, 4, 4)
    assert reference.max_pool3(x)[0, 0].tolist() == [[-1, -2], [-5, -6]]


def test_adam_first_step_moves_every_weight_by_the_rate():
    """m / sqrt(v) is the sign of the gradient after one step, whatever its size."""
    task = SimpleNamespace(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8)
    weights = {"w": np.zeros(3)}
    reference.adam(weights, {"w": np.array([1e-3, -5.0, 0.0])}, {}, task)
    assert weights["w"] == pytest.approx([-0.001, 0.001, 0], rel=1e-4)


def test_sgd_carries_momentum():
    task, state, weights = SimpleNamespace(learning_rate=0.1, momentum=0.9), {}, {"w": np.zeros(1)}
    for _ in range(2):
        reference.sgd(weights, {"w": np.ones(1)}, state, task)
    assert weights["w"].item() == pytest.approx(-0.1 * (1 + 1.9))


def test_published_sizes():
    """3,441,592 and 3,818,302 parameters; a ResNet-50 without its last layer has 23,508,032 (torchvision's 25,557,032 less 2,049,000)."""
    sizes = {
        name: sum(a.size for n, a in initial.draw(task).items() if "running" not in n) for name, task in TASKS.items()
    }
    assert sizes == {"cnn": 3_441_592, "rnn": 3_818_302, "resnet50": 23_508_032}


def test_weights_are_the_same_on_every_machine():
    weights = initial.draw(TASKS["rnn"])
    assert weights["dense.weight"].dtype == np.float32
    # PCG64's stream is frozen; the first draw of the embedding, to the last bit of float32
    first = np.random.Generator(np.random.PCG64(2019)).uniform(-1, 1) * np.sqrt(6 / (30_000 + 125))
    assert weights["embedding.weight"][0, 0] == pytest.approx(first, rel=1e-6)
    limit = np.sqrt(6 / (30_000 + 125))
    assert 0.999 * limit < np.abs(weights["embedding.weight"]).max() <= limit


def test_resnet_names_are_torchvisions():
    weights = initial.draw(TASKS["resnet50"])
    assert weights["layer1.0.downsample.1.running_var"].shape == (256,)
    assert weights["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert weights["bn1.weight"].shape == (64,)
    assert len(weights) == 53 * 5


def test_the_float32_bound_follows_the_reference_s_own_drift_and_nothing_else_does():
    task = TASKS["cnn"]
    assert task.bound("fp32", "logits", 20) == 2e-2
    assert task.bound("fp32", "logits", 20, drift=0.02) == pytest.approx(0.08)
    assert task.bound("fp32", "logits", 20, drift=0.001) == 2e-2
    assert task.bound("fp64", "logits", 20, drift=0.02) == 1e-9
    assert task.bound("fp32", "weights", 0, drift=1.0) == 0


def test_what_float32_cannot_decide_goes_either_way_and_nothing_else_does():
    """Seen on real hardware: one gate at 1e-8 of its layer's size moved the logits of step 1 past their bound in one library and not in another."""
    x = np.array([[-1.0, -1e-8, 1e-8, 1.0]])
    quads = np.array([1.0, 1.0 + 1e-8, 0.5, 0.5]).reshape(1, 1, 2, 2)
    seen = {}
    for side in (-1, 0, 1):
        with reference.undecided_gates(side):
            seen[side] = [
                back(np.ones_like(y)).ravel().tolist() for y, back in (reference.relu(x), reference.max_pool2(quads))
            ]
    assert seen[0] == [[0, 0, 1, 1], [0, 1, 0, 0]]
    assert seen[-1] == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert seen[1] == [[0, 1, 1, 1], [0, 1, 0, 0]]


def test_the_drift_holds_the_gates_that_float32_cannot_decide(monkeypatch):
    task = SimpleNamespace(**TASKS["cnn"].for_worker(batch=2))
    weights = initial.draw(TASKS["cnn"])
    x, y = np.random.default_rng(3).random((2, 3, 32, 32), np.float32), np.array([1, 2])
    given = (weights, x, y, (1,))
    exact = reference.golden(task, *given)
    drifts = []
    # With a margin of a thousandth many gates are undecided, with none no gate is.
    for margin in (0.0, 1e-3):
        monkeypatch.setattr(reference, "UNDECIDED", margin)
        with reference.undecided_gates(1):
            drifts.append(prepare.drift(exact, reference.golden(task, *given, dtype=np.float32), (1,), "fp32"))
    for name in ("drift fp32 logits 1", "drift fp32 gradient 1", "drift fp32 logits after load 1"):
        assert drifts[0][name] < 1e-5 < 1e-4 < drifts[1][name], name


def test_float32_is_computed_in_float32():
    """The drift is that of float32: no double hides in a layer."""
    weights = {name: array for name, array in initial.draw(TASKS["cnn"]).items()}
    x = np.random.default_rng(3).random((2, 3, 32, 32), np.float32)
    logits, back = reference.cnn(weights, x)
    assert logits.dtype == np.float32
    assert {g.dtype for g in back(reference.cross_entropy(logits, np.array([1, 2]))[1]).values()} == {
        np.dtype(np.float32)
    }
    weights = initial.draw(TASKS["rnn"])
    logits, back = reference.rnn(weights, np.random.default_rng(3).integers(0, 30_000, (2, 5)))
    assert logits.dtype == np.float32
    assert {g.dtype for g in back(reference.cross_entropy(logits, np.array([1, 0]))[1]).values()} == {
        np.dtype(np.float32)
    }


def test_bfloat16_rounds_every_partial_sum_of_a_batch():
    """Eight bits hold 256 and 258, not 257: a tie, of which the even one is taken."""
    column = np.array([[256], [1], [0], [1], [2]], np.float32)
    for shape in ((5, 1), (5, 1, 1, 1)):
        assert reference.Products.total(column.reshape(shape)).tolist() == [260.0]
        with reference.products_in("bf16"):
            # 256 + 0 and 1 + 1, then 258, then 260; in another order, 256 + 1 and 256 + 1, nothing would be left of the ones.
            assert reference.Products.total(column.reshape(shape)).tolist() == [260.0]
            assert reference.Products.total(column[:2].reshape(2, *shape[1:])).tolist() == [256.0]
