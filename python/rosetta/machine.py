"""What a run ran on: device, clocks, libraries of the system, other load, and what the processor and a GPU's cores can compute."""

import os
import platform
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import psutil
import threadpoolctl

from rosetta.config import ROOT


def facts() -> dict:
    """The machine, as the report and every record name it."""
    memory = psutil.virtual_memory().total / 2**30
    frequency = psutil.cpu_freq()
    return {
        "processor": processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": os.cpu_count(),
        "clock_mhz": round(frequency.current) if frequency else None,
        "memory_gib": round(memory, 1),
        "system": f"{distribution()}, {platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "gpus": gpus(),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def gpus() -> list[dict]:
    """Name, driver, memory, cores and highest clock of each NVIDIA GPU; an empty list without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    found = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        facts = {
            "name": lambda gpu=gpu: pynvml.nvmlDeviceGetName(gpu),
            "driver": pynvml.nvmlSystemGetDriverVersion,
            "memory_gib": lambda gpu=gpu: round(pynvml.nvmlDeviceGetMemoryInfo(gpu).total / 2**30, 1),
            "cores": lambda gpu=gpu: pynvml.nvmlDeviceGetNumGpuCores(gpu),
            "clock_mhz": lambda gpu=gpu: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        }
        found.append({name: known(value) for name, value in facts.items()})
    return found


CUDA_13 = 13_000
"""NVML's number of CUDA 13: 1000 times the major version."""


def cuda_version() -> int:
    """The newest CUDA that the driver serves, as NVML counts: 13000 for 13.0; 0 without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlSystemGetCudaDriverVersion_v2()
    except pynvml.NVMLError:
        return 0


def known(value):
    """What a driver says, or None where it does not tell: a part of a GPU or one with shared memory lacks some facts."""
    import pynvml

    try:
        return value()
    except pynvml.NVMLError:
        return None


def other_load(seconds: float = 0.5) -> float:
    """Percent of all cores that others keep busy, watched for `seconds` in which this process sleeps.

    What this process's parents do meanwhile does not count: the pipeline is still writing down the last step.
    """
    parents = psutil.Process().parents()
    before = sum(busy_seconds(process) for process in parents)
    everything = psutil.cpu_percent(interval=seconds)
    own = 100 * (sum(busy_seconds(process) for process in parents) - before) / seconds / os.cpu_count()
    return max(0.0, everything - own)


def busy_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


CEILINGS = {"fp32": np.float32, "fp64": np.float64}
"""Precisions in which NumPy multiplies matrices; it has no bfloat16, in which some processors are several times as fast."""


def ceiling_gflops(threads: int, precision: str, tries: int = 4) -> float:
    """The speed of NumPy's matrix product, in 1e9 floating-point operations a second: best of several sizes and tries.

    A ceiling wants the best, where a result wants the median.
    """
    dtype = CEILINGS[precision]
    best = 0.0
    with threadpoolctl.threadpool_limits(threads):
        for size in (1024, 2048):
            a = np.ones((size, size), dtype)
            out = np.empty_like(a)
            for _ in range(tries):
                start = time.perf_counter()
                np.matmul(a, a, out=out)
                best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


def gpu_peak_gflops(precision: str) -> float | None:
    """What the GPU's cores can compute at most, in 1e9 floating-point operations a second: in float32, a multiplication and an addition for
    each core and cycle at its highest clock, as NVIDIA's data sheets count.

    It serves where no matrix product can be measured. None for other precisions, whose units the driver does not count, and where it tells too
    little or the machine has GPUs of several kinds.
    """
    peaks = {2 * (gpu["cores"] or 0) * (gpu["clock_mhz"] or 0) / 1e3 for gpu in gpus()}
    return peaks.pop() or None if precision == "fp32" and len(peaks) == 1 else None


def provenance(config_sha256: str, lock_sha256: str) -> dict:
    """Date, commit and the hashes that say what exactly was run."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain")),
        "config_sha256": config_sha256,
        "lock_sha256": lock_sha256,
    }


def git(*arguments: str) -> str:
    try:
        # A checkout that belongs to someone else is read all the same: nothing of it is run.
        done = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments], capture_output=True, text=True
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
