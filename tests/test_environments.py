"""What an environment needs beside its lock: the right build for a GPU, programs, headers."""

import shutil
import subprocess
import sys

import pytest
from conftest import required
from packaging.version import Version
from rosetta import config, debian, environments, indexes, interpreters, machine
from rosetta.frameworks import NO_GPU, select, unreachable, unsupported
from rosetta.plan import Plan

H100 = {"name": "NVIDIA H100 80GB HBM3", "driver": "580.159.04", "memory_gib": 79.6, "cores": 16896, "clock_mhz": 1980}


def saying(folder, words):
    """A program that says the same to every question."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho {words}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose driver serves CUDA 12."""
    monkeypatch.setattr(machine, "gpus", lambda: [H100])
    monkeypatch.setattr(machine, "cuda_version", lambda: 12_080)


def test_a_leg_that_compiles_extensions_needs_the_headers_of_its_python(tmp_path, monkeypatch):
    """Debian keeps them in python3-dev; without them the compiler would say so, in a hundred lines."""
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    (leg,) = select(["python/pytorch-compile/cnn"])
    bare = saying(tmp_path, "False")
    monkeypatch.setattr(interpreters, "version_of", lambda python: Version("3.12.4"))
    reason = unreachable(leg, config.load({}), str(bare))
    assert str(bare) in reason
    assert reason.endswith("sudo apt-get install python3.12-dev")
    assert unreachable(leg, config.load({}), str(saying(tmp_path, "True"))) == ""


@pytest.mark.parametrize(
    ("cuda", "words"),
    [("None", "CPUs"), ("13.0", "CUDA 13.0"), ("", "can be imported"), ("12.6", None)],
)
def test_torch_for_another_cuda_than_the_locks_is_no_environment(tmp_path, cuda, words):
    reason = environments.unfit_torch(saying(tmp_path, cuda), environments.REQUIREMENTS / "modern-cuda12.lock")
    assert (words in reason and "CUDA 12:" in reason) if words else reason == ""


def test_only_a_gpus_environments_are_looked_at_for_their_torch(tmp_path):
    for lock in ("modern.lock", "tensorflow-cuda12.lock"):
        assert environments.unfit_torch(saying(tmp_path, "None"), environments.REQUIREMENTS / lock) == ""


def test_nothing_is_downloaded_for_a_gpu_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("ROSETTA_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setattr(machine, "gpus", list)
    found = environments.provide("modern", config.load({"device": "cuda"}))
    assert (found["status"], found["reason"]) == ("unavailable", NO_GPU)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["modern.lock", "modern.log"]


def test_a_driver_that_came_since_calls_for_the_environment_anew(monkeypatch):
    settings = config.load({"device": "cuda"})
    situations = []
    for version in (0, 12_080):
        monkeypatch.setattr(machine, "cuda_version", lambda version=version: version)
        situations.append(environments.situation("modern", settings))
    assert situations[0]["lock"] == situations[1]["lock"]
    assert situations[0] != situations[1]


def test_with_the_interpreter_at_hand_its_packages_count_and_no_lock(monkeypatch):
    """A library that was installed or upgraded there calls for new runs; a lock that nothing was installed from does not."""
    settings = config.load({"deployment": "current"})
    before = environments.situation("modern", settings)
    assert before["lock"] == ""
    assert before["packages"]["numpy"].startswith("numpy ")
    monkeypatch.setattr(environments, "distributions", lambda: {"numpy": ["numpy"], "torch": ["pytest"]})
    assert environments.situation("modern", settings)["packages"]["torch"].startswith("pytest ")
    assert "packages" not in environments.situation("modern", config.load({}))


def test_with_the_interpreter_at_hand_the_system_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(debian, "run", lambda *_: pytest.fail("something was installed"))
    monkeypatch.setattr(debian, "is_root", lambda: True)
    with debian.untouched(), open(tmp_path / "log", "w") as log:
        assert "apt-get install r-base-core" in debian.install(("r-base-core",), log, "")


def test_a_set_up_that_failed_names_the_command_that_tries_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ROSETTA_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setattr(interpreters, "find", lambda *_: None)
    monkeypatch.setattr(environments, "find_uv", lambda: "uv")
    reason = environments.provide("cntk", config.load({}))["reason"]
    assert "`pyenv install 3.6` brings one" in reason
    assert reason.endswith("; `rosetta setup cntk` tries again")


def test_a_variable_of_pip_counts_more_than_its_files(tmp_path):
    """`pip config list` sorts by name, which puts the variables first."""
    pip = saying(tmp_path, "\":env:.index-url='https://mine'\nglobal.index-url='https://theirs'\nglobal.cert='/ca'\"")
    assert indexes.pip_settings(str(pip)) == {"index-url": "https://mine", "cert": "/ca"}


def test_a_python_that_is_too_old_is_told_so():
    """By bootstrap.py itself, which therefore imports nothing of the harness before it has looked."""
    old = [it for it in interpreters.candidates() if (found := interpreters.version_of(it)) and found < Version("3.10")]
    if not old:
        pytest.skip("there is no Python older than 3.10 here")
    for python in old:
        done = subprocess.run([python, config.ROOT / "python/bootstrap.py"], capture_output=True, text=True)
        assert done.stderr.startswith("bootstrap: Python 3.10 or newer is needed"), done.stderr


def test_environments_without_a_leg_for_the_device_are_not_made():
    on_gpu = Plan.of(config.load({"device": "cuda"}), ["all"]).environments()
    assert on_gpu == ["julia", "modern", "more", "rkeras", "rtorch", "tensorflow"]
    assert {"mxnet", "chainer", "caffe2", "cntk", "numpy", *on_gpu} <= set(
        Plan.of(config.load({}), ["all"]).environments()
    )


def test_sizes_are_known_where_they_can_be_measured_and_make_no_environment_anew(monkeypatch):
    unknown = {"julia", "knet", "rtorch"}
    for name in Plan.of(config.load({}), ["all"]).environments():
        sizes = (environments.needs(name).download_mb, environments.needs(name).disk_mb)
        assert all(type(size) is int for size in sizes)
        assert (min(sizes) > 0) == (name not in unknown), name
    before = environments.situation("numpy", config.load({}))
    monkeypatch.setattr(environments, "needs", lambda name: environments.Needs(download_mb=1, disk_mb=1))
    assert environments.situation("numpy", config.load({})) == before


def test_core_installs_no_library_that_only_other_legs_import():
    core = Plan.of(config.load({})).environments()
    locked = {name: environments.lock(name, "cpu").read_text() for name in core}
    for name, lock in locked.items():
        for package in ("paddlepaddle", "mlx", "tinygrad", "onnxruntime", "openvino", "chainer"):
            assert f"\n{package}==" not in lock, name


def test_mlx_needs_a_driver_of_cuda_13_where_the_environment_is_ours(gpu):
    (leg,) = select(["python/mlx/cnn"])
    assert "a driver of CUDA 13" in unreachable(leg, config.load({"device": "cuda"}), sys.executable)
    assert unreachable(leg, config.load({"device": "cuda", "deployment": "current"}), sys.executable) == ""
    (leg,) = select(["python/jax/cnn"])
    assert unreachable(leg, config.load({"device": "cuda"}), sys.executable) == ""


def test_a_precision_that_one_task_lacks_on_one_device_is_unsupported():
    rnn, cnn = (select([f"python/keras-tensorflow/{task}"])[0] for task in ("rnn", "cnn"))
    bf16 = {"device": "cuda", "precision": "bf16"}
    assert "float32" in unsupported(rnn, config.load(bf16))
    assert unsupported(rnn, config.load({**bf16, "device": "cpu"})) == ""
    assert unsupported(rnn, config.load({**bf16, "precision": "tf32"})) == ""
    assert unsupported(cnn, config.load(bf16)) == ""


@pytest.mark.thorough
def test_tinygrad_is_shown_the_compiler_that_nvidias_package_brings(environment, tmp_path):
    """The package as pip lays it down, its libraries empty: the compiler's other half is loaded, too."""
    made = environment("more")
    if made["status"] != "ready":
        assert not required("more"), made["reason"]
        pytest.skip(made["reason"])
    libraries = tmp_path / "nvidia" / "cu13" / "lib"
    libraries.mkdir(parents=True)
    for name in ("libnvrtc.so.13", "libnvrtc-builtins.so.13.0"):
        subprocess.run(["gcc", "-shared", "-x", "c", "-o", str(libraries / name), "/dev/null"], check=True)
    code = (
        f"import os, sys; sys.path[:0] = [{str(config.ROOT / 'python/frameworks/tinygrad')!r}, {str(tmp_path)!r}]; "
        "import setup; setup.find_nvrtc(); print(os.environ['NVRTC_PATH']); "
        "print('libnvrtc-builtins' in open('/proc/self/maps').read())"
    )
    done = subprocess.run([made["python"], "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [str(libraries / "libnvrtc.so.13"), "True"], done.stderr
