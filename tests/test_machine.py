"""What the harness says of a machine, and what it does not believe of a leg that ran on it."""

import pynvml
import pytest
from rosetta import machine, measuring
from rosetta.frameworks import select

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
    assert status == "ok" or "2 times" in found["reason"]


@pytest.mark.parametrize(("again", "status"), [(0.4, "invalid"), (0.6, "ok")])
def test_on_a_processor_only_what_a_second_look_confirms_is_rejected(again, status, monkeypatch):
    monkeypatch.setattr(machine, "ceiling_gflops", lambda *_, **__: again * arithmetic())
    found = record("cpu", ceiling=arithmetic() / 4)
    measuring.implausible(found, LEG)
    assert found["status"] == status
