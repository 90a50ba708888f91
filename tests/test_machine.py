"""What the harness says of a machine, and what it does not believe of a leg that ran on it."""

import json
from datetime import timedelta

import numpy as np
import pynvml
import pytest
from rosetta import ceilings, config, isolation, machine, measuring
from rosetta.ceilings import Ceiling
from rosetta.frameworks import select
from rosetta.plan import Plan

LEG = select(["python/numpy/cnn"])[0]
H100 = {"cores": 16896, "clock_mhz": 1980}


def record(device: str, ceiling: float | None, seconds: float = 1.0) -> dict:
    """A round of one epoch of one step of 64 samples, as far as plausibility looks at it."""
    return {
        "status": "ok",
        "reason": "",
        "device": device,
        "threads": 1,
        "computes": "fp32",
        "outer_seconds": 10.0,
        "phases": [{"phase": "epoch", "seconds": seconds}],
        "work": {"samples": 64, "batch": 64},
        "ceiling_gflops": ceiling,
        "ceiling": "a matrix product in PyTorch 2.11.0" if ceiling else "",
        "utilisation": None,
    }


def arithmetic() -> float:
    """GFLOP of that epoch: forward, and twice as much on the way back."""
    return 3 * 64 * LEG.task.flops / 1e9


@pytest.mark.parametrize(
    ("gpus", "precision", "peak"),
    [
        ([H100], "fp32", 66_908),  # NVIDIA's data sheet of the H100 SXM: 67 teraFLOPS in FP32
        ([H100, H100], "fp32", 66_908),
        ([H100], "tf32", None),
        ([H100, {"cores": 4992, "clock_mhz": 875}], "fp32", None),
        ([{"cores": None, "clock_mhz": 1980}], "fp32", None),
        ([], "fp32", None),
    ],
)
def test_a_gpu_s_peak_is_two_operations_for_each_core_and_cycle(gpus, precision, peak, monkeypatch):
    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    assert machine.gpu_peak_gflops(precision) == (peak and pytest.approx(peak, rel=1e-4))


def test_what_the_driver_does_not_tell_of_a_gpu_is_empty(monkeypatch):
    def refused(*_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    answers = {"nvmlInit": None, "nvmlDeviceGetCount": 1, "nvmlDeviceGetHandleByIndex": 0, "nvmlDeviceGetName": "a GPU"}
    answers |= {"nvmlSystemGetDriverVersion": "580.1", "nvmlDeviceGetMaxClockInfo": 1980}
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)
    for name in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetNumGpuCores"):
        monkeypatch.setattr(pynvml, name, refused)
    facts = {"name": "a GPU", "driver": "580.1", "memory_gib": None, "cores": None, "clock_mhz": 1980}
    assert machine.gpus() == [facts]
    assert machine.gpu_peak_gflops("fp32") is None


def test_utilisation_is_arithmetic_over_time_over_the_ceiling():
    found = record("cuda", ceiling=10 * arithmetic(), seconds=0.5)
    measuring.implausible(found, LEG)
    assert (found["status"], found["utilisation"]) == ("ok", pytest.approx(0.2))


def test_a_call_that_was_cut_short_is_judged_by_the_steps_that_it_ran():
    """Of 8 planned steps 2 in a second: twice the arithmetic of one step, and as plausible as 8 in four seconds."""
    found = record("cuda", ceiling=10 * arithmetic())
    found["work"]["samples"] = 8 * 64
    found["phases"][0]["steps"] = 2
    measuring.implausible(found, LEG)
    assert (found["status"], found["utilisation"]) == ("ok", pytest.approx(0.2))


def test_without_a_ceiling_utilisation_stays_empty():
    found = record("cuda", ceiling=None)
    measuring.implausible(found, LEG)
    assert (found["status"], found["utilisation"]) == ("ok", None)


@pytest.mark.parametrize(("share", "status"), [(1.1, "ok"), (2.5, "invalid")])
def test_better_kernels_than_the_ceiling_s_are_believed_and_a_clock_that_does_not_wait_is_not(share, status):
    found = record("cuda", ceiling=arithmetic() / share)
    measuring.implausible(found, LEG)
    assert (found["status"], found["utilisation"]) == (status, pytest.approx(share))
    assert status == "ok" or "2 times this device's ceiling" in found["reason"]
    assert status == "ok" or "(a matrix product in PyTorch 2.11.0)" in found["reason"]


@pytest.mark.parametrize(("again", "status"), [(0.4, "invalid"), (0.6, "ok")])
def test_on_a_processor_only_what_a_second_look_confirms_is_rejected(again, status, monkeypatch):
    monkeypatch.setattr(machine, "ceiling_gflops", lambda *_, **__: again * arithmetic())
    found = record("cpu", ceiling=arithmetic() / 4)
    measuring.implausible(found, LEG)
    assert found["status"] == status


# The ceiling of a GPU, which a process with a library for it measures

TORCH = """
import time
from types import SimpleNamespace

__version__ = "2.11.0"
float64, float32, bfloat16 = "float64", "float32", "bfloat16"
backends = SimpleNamespace(cuda=SimpleNamespace(matmul=SimpleNamespace()))
cuda = SimpleNamespace(is_available=lambda: {available}, synchronize=lambda: None)


def set_num_threads(threads):
    pass


def randn(rows, columns, device, dtype):
    assert (device, dtype) == ("cuda", "bfloat16")
    return SimpleNamespace(T=None)


empty_like = id


def matmul(a, b, out):
    time.sleep(0.01)
"""
"""A library in which a product takes 10 ms, however large it is."""


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """An H100 as the driver tells of it, and a folder for modules of the interpreter at hand; gives the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(machine, "gpus", lambda: [{"name": "H100", "driver": "580.1", **H100}])
    return tmp_path


def ceiling_of(precision: str, deployment: str = "current") -> tuple[Ceiling, dict, list[str]]:
    """The ceiling, the file that keeps it, and what was said on the way."""
    plan = Plan.of(config.load({"device": "cuda", "precision": precision, "deployment": deployment, "threads": 1}))
    said = []
    found = ceilings.of(plan, precision, said.append)
    return found, json.loads(plan.ceiling(precision).read_text()), said


def test_a_gpu_s_ceiling_is_the_best_matrix_product_and_is_measured_once(gpu, monkeypatch):
    (gpu / "torch.py").write_text(TORCH.format(available=True))
    found, kept, said = ceiling_of("bf16")
    assert found.source == "a matrix product in PyTorch 2.11.0"
    assert found.gflops == pytest.approx(2 * 8192**3 / 0.01 / 1e9, rel=0.1)
    assert said == ["measuring what a matrix product in bf16 reaches on this GPU"]
    assert (kept["precision"], kept["source"], kept["situation"]["gpus"]) == ("bf16", found.source, machine.gpus())

    again = Ceiling(1.0, "a matrix product in JAX 0.10.2")
    event = {"event": "ceiling", "gflops": again.gflops, "source": again.source}
    monkeypatch.setattr(ceilings, "multiply", lambda *_: isolation.Outcome("ok", "", [event]))
    assert ceiling_of("bf16") == (found, kept, [])
    monkeypatch.setattr(machine, "gpus", lambda: [{"name": "H100", "driver": "590.1", **H100}])
    assert ceiling_of("bf16")[0] == again, "with another driver it is measured again"
    monkeypatch.setattr(ceilings, "LASTS", timedelta())
    assert len(ceiling_of("bf16")[2]) == 1, "and after some hours"


def test_where_no_library_multiplies_the_cores_and_the_clock_say_what_fp32_can_reach(gpu):
    for name in ("jax", "tensorflow"):
        (gpu / f"{name}.py").write_text("raise ImportError('a stand-in')")
    (gpu / "torch.py").write_text(TORCH.format(available=False))
    found, kept, _ = ceiling_of("fp32")
    assert found == Ceiling(pytest.approx(66_908, rel=1e-4), "cores and highest clock")
    assert list(kept["refused"].values()) == ["pytorch: it sees no GPU; jax: a stand-in; tensorflow: a stand-in"]
    assert ceiling_of("bf16")[0] == Ceiling(None, "")


def test_isolated_environments_are_asked_in_turn_and_only_those_that_are_made(gpu, monkeypatch):
    plan = Plan.of(config.load({"device": "cuda"}))
    for name, status in (("modern", "unavailable"), ("more", "ready"), ("tensorflow", "ready")):
        path = plan.environment(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"status": status, "python": f"/{name}/python", "lock": name}))
    asked = []

    def multiply(python, precision, settings):
        asked.append(python)
        answer = {"event": "ceiling", "gflops": 5.0, "source": "a product"}
        return isolation.Outcome("failed" if "more" in python else "ok", "it broke", [answer])

    monkeypatch.setattr(ceilings, "multiply", multiply)
    found, kept, _ = ceiling_of("tf32", "isolated")
    assert asked == ["/more/python", "/tensorflow/python"]
    assert (found, kept["refused"]) == (Ceiling(5.0, "a product"), {"/more/python": "it broke"})


def test_a_processor_s_ceiling_is_numpy_s_product_where_numpy_has_the_precision(monkeypatch):
    monkeypatch.setattr(machine, "ceiling_gflops", lambda threads, precision: 90.0)
    plan = Plan.of(config.load({}))
    assert ceilings.of(plan, "fp32", print) == Ceiling(90.0, f"a matrix product in NumPy {np.__version__}")
    assert ceilings.of(plan, "bf16", print) == Ceiling(None, "")
