"""A newcomer's walk: `rosetta new`, four functions, and the proof passes."""

import re
import shutil

import pytest
from conftest import rosetta
from rosetta.config import ROOT
from rosetta.frameworks import read

NAME = "test-newcomer"

FOUR = {
    "build": """
def build(task, weights):
    torch.set_num_threads(task.threads)
    model = Model()
    model.task = task
    dtype = {"fp64": torch.float64, "fp32": torch.float32}[task.precision]
    model.w = {name: torch.tensor(array).to(dtype).requires_grad_() for name, array in weights.items()}
    betas = (task.beta1, task.beta2)
    model.optimizer = torch.optim.Adam(model.w.values(), task.learning_rate, betas, task.epsilon)
    return model


def scores(w, x):
    e, h = w["embedding.weight"][x], torch.zeros(len(x), 100, dtype=w["dense.bias"].dtype)
    for t in range(e.shape[1]):
        i = e[:, t] @ w["gru.weight_ih"].T + w["gru.bias_ih"]
        k = h @ w["gru.weight_hh"].T + w["gru.bias_hh"]
        r, z = torch.sigmoid(i[:, :100] + k[:, :100]), torch.sigmoid(i[:, 100:200] + k[:, 100:200])
        n = torch.tanh(i[:, 200:] + r * k[:, 200:])
        h = (1 - z) * n + z * h
    return h @ w["dense.weight"].T + w["dense.bias"]
""",
    "train": """
def train(model, x, y, order):
    losses = []
    for batch in order.reshape(-1, model.task.batch):
        loss = torch.nn.functional.cross_entropy(scores(model.w, torch.tensor(x[batch])), torch.tensor(y[batch]))
        model.optimizer.zero_grad()
        loss.backward()
        model.optimizer.step()
        losses.append(float(loss))
    return losses
""",
    "predict": """
def predict(model, x):
    with torch.no_grad():
        return torch.cat([scores(model.w, part) for part in torch.tensor(x).split(model.task.batch)])
""",
    "weights": """
def weights(model):
    return {name: tensor.detach().numpy().copy() for name, tensor in model.w.items()}
""",
}


@pytest.fixture
def folder():
    path = ROOT / "python" / "frameworks" / NAME
    shutil.rmtree(path, ignore_errors=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_four_functions_make_a_leg_that_passes_the_proof(folder, tmp_path):
    settings = ("profile=smoke", "data=synthetic", "work.rnn.batch=4")
    done = rosetta("new", NAME, "--task", "rnn", "--environment", "modern", workdir=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read(folder / "framework.toml").group == "more"
    verify = ("verify", f"python/{NAME}/rnn")
    before = rosetta(*verify, workdir=tmp_path, config=settings)
    assert before.returncode == 1
    assert "RuntimeError: build is still to be filled in" in before.stdout
    leg = folder / "rnn.py"
    text = leg.read_text().replace("import numpy as np\n", "import numpy as np\nimport torch\n")
    assert text.count("FILL IN") == 4
    for name, code in FOUR.items():
        text, count = re.subn(
            rf"\ndef {name}\(.*?(?=\n\n\n# |\Z)", lambda match, code=code: code.rstrip("\n"), text, flags=re.DOTALL
        )
        assert count == 1, name
    leg.write_text(text)
    done = rosetta(*verify, workdir=tmp_path, config=settings)
    assert done.returncode == 0, done.stdout + done.stderr + text
    assert done.stdout.startswith("ok")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["New Thing"], "lower-case"),
        (["numpy"], "there already"),
        (["x", "--task", "gan"], "cnn, rnn"),
        (["x", "--environment", "moder"], "modern"),
        (["x", "--environment", "julia"], "modern"),
    ],
)
def test_what_will_not_do_is_said_in_one_line(arguments, word, tmp_path):
    done = rosetta("new", *arguments, workdir=tmp_path)
    assert done.returncode == 2
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
