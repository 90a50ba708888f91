"""The whole proof, 20 steps at the published batch size, for legs of three languages; tests/test_frameworks.py proves all others."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import FULL_PROOF, core, records_of, required, rosetta
from rosetta import config, environments
from rosetta.frameworks import discover


@pytest.fixture(scope="session")
def verified(prepared, request) -> dict:
    """{leg's name: its proof to come} of the legs that are asked for; two at a time."""
    names = [item.callspec.params["leg"].name for item in request.session.items if "verified" in item.fixturenames]
    with ThreadPoolExecutor(2) as pool:
        yield {n: pool.submit(rosetta, "verify", n, workdir=prepared, config=FULL_PROOF, timeout=900) for n in names}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("leg", core(), ids=lambda leg: leg.name)
def test_leg_is_proven(leg, prepared, verified):
    done = verified[leg.name].result()
    path = records_of(prepared, FULL_PROOF) / leg.name / "proof.json"
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


def test_a_wrong_network_is_a_mismatch(prepared, tmp_path):
    """The proof can fail: the same leg with one gate of the GRU swapped is caught and named."""
    from rosetta.measuring import prove
    from rosetta.plan import Plan

    source = next(leg for leg in discover() if leg.name == "python/numpy/rnn")
    wrong = tmp_path / "numpy"
    shutil.copytree(source.file.parent, wrong)
    text = (wrong / "rnn.py").read_text()
    assert "r, z = gates[t, :, :H], gates[t, :, H:]" in text
    (wrong / "rnn.py").write_text(
        text.replace("r, z = gates[t, :, :H], gates[t, :, H:]", "z, r = gates[t, :, :H], gates[t, :, H:]")
    )

    class WrongLeg(type(source)):
        file = property(lambda self: wrong / "rnn.py")

    plan = Plan.of(config.load({"profile": "quick", "data": "synthetic", "legs": ["python/numpy/rnn"]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared)
        record = prove(plan, WrongLeg(source.framework, source.task))
    assert record["status"] == "mismatch"
    assert "fp64" in record["reason"]
