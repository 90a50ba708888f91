"""The small proof of three languages, as the profile quick makes it, and the whole one: 20 steps at the published batch size.

tests/test_frameworks.py proves every other leg.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import WHOLE_PROOF, records_of, required, rosetta
from rosetta import cli, config, environments
from rosetta.frameworks import select

SMALL_PROOF = ("profile=quick", "data=synthetic")
WHOLE = select(["python/numpy", "python/pytorch", "julia", "r"])


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with the small proofs of one network without a framework in three languages."""
    workdir = tmp_path_factory.mktemp("small")
    done = rosetta("verify", "*/numpy/rnn", "*/base/rnn", workdir=workdir, config=SMALL_PROOF)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return workdir


@pytest.mark.parametrize("name", ["python/numpy/rnn", "julia/base/rnn", "r/base/rnn"])
def test_the_small_proof_compares_float64_at_batch_8_and_the_timed_batch_in_the_asked_precision(name, small):
    proof = json.loads((records_of(small, SMALL_PROOF) / name / "proof.json").read_text())
    if proof["status"] == "unavailable" and not required(name.split("/")[0]):
        pytest.skip(proof["reason"])
    assert (proof["status"], proof["threads"]) == ("ok", 1), proof["reason"]
    asked = proof["computes"]
    steps = {key: set() for key in (("fp64", 8), (asked, 64))}
    for found in proof["differences"]:
        steps[found["precision"], found["batch"]].add((found["quantity"].split(" of ")[0], found["step"]))
    assert {("logits", 20), ("loss", 20), ("gradient", 1)} <= steps["fp64", 8]
    assert {("logits", 0), ("logits", 1), ("loss", 1), ("gradient", 1)} <= steps[asked, 64]
    assert max(step for _, step in steps[asked, 64]) == 1


@pytest.fixture(scope="session")
def verified(prepared, request) -> dict:
    """{leg's name: its proof to come} of the legs that are asked for; two at a time."""
    names = [item.callspec.params["leg"].name for item in request.session.items if "verified" in item.fixturenames]
    with ThreadPoolExecutor(2) as pool:
        yield {n: pool.submit(rosetta, "verify", n, workdir=prepared, config=WHOLE_PROOF, timeout=900) for n in names}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("leg", WHOLE, ids=lambda leg: leg.name)
def test_leg_is_proven(leg, prepared, verified):
    done = verified[leg.name].result()
    path = records_of(prepared, WHOLE_PROOF) / leg.name / "proof.json"
    proof = json.loads(path.read_text())
    if proof["status"] == "unavailable":
        assert done.returncode == 3
        name = leg.framework.environment
        made = json.loads((prepared / f"shared_data/environments/{name}-cpu-isolated.json").read_text())
        assert environments.lacking(leg, made) or (made["reason"] and not required(name)), proof["reason"]
        pytest.skip(proof["reason"])
    assert proof["status"] == "ok", proof["reason"]
    assert done.returncode == 0
    steps = config.load({"profile": "quick"}).proof_steps if leg.task.trained else 0
    compared = {(d["precision"], d["quantity"].split(" of ")[0], d["step"]) for d in proof["differences"]}
    precisions = [leg.framework.computes] if leg.framework.computes else ["fp64", "fp32"]
    for precision in precisions:
        trained = {("logits", 0), ("loss", 1), ("gradient", 1), ("loss", steps), ("logits", steps)}
        expected = trained if leg.task.trained else {("features", 0)}
        assert {(precision, *key) for key in expected} <= compared
    decisive = [d["difference"] for d in proof["differences"] if d["precision"] == "fp64" and d["quantity"] == "loss"]
    assert all(difference <= 1e-9 for difference in decisive)


def test_a_wrong_network_is_a_mismatch(small, tmp_path):
    """The proof can fail: the same leg with one gate of the GRU swapped is caught and named."""
    from rosetta.measuring import prove
    from rosetta.plan import Plan

    (source,) = select(["python/numpy/rnn"])
    wrong = tmp_path / "numpy"
    shutil.copytree(source.file.parent, wrong)
    text = (wrong / "rnn.py").read_text()
    assert "r, z = gates[t, :, :H], gates[t, :, H:]" in text
    (wrong / "rnn.py").write_text(
        text.replace("r, z = gates[t, :, :H], gates[t, :, H:]", "z, r = gates[t, :, :H], gates[t, :, H:]")
    )

    class WrongLeg(type(source)):
        file = property(lambda self: wrong / "rnn.py")

    plan = Plan.of(cli.settings([*SMALL_PROOF, "legs=python/numpy/rnn"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(small)
        record = prove(plan, WrongLeg(source.framework, source.task))
    assert record["status"] == "mismatch"
    assert "fp64" in record["reason"]
