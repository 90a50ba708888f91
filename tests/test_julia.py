"""Julia: how it is found, how requests reach it, and that its base legs compute the reference's networks."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from rosetta import (
    config,
    debian_julia,
    debian_sources,
    environments,
    initial,
    julia_packages,
    julia_toolchain,
    reference,
)
from rosetta.frameworks import discover
from rosetta.tasks import TASKS
from rosetta.worker import julia, proof
from rosetta.worker.job import Unavailable, change

ROOT = julia_toolchain.ROOT

pytestmark = pytest.mark.usefixtures("preparation")


def executable(path, script):
    """A program at `path` that runs a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_julia(path, version, blas="OpenBLAS 0.3.28 SkylakeX"):
    """Answers as julia does to --version and to the probe of the set-up."""
    return executable(
        path,
        f'if [ "$1" = --version ]; then echo "julia version {version}"; else echo "ROSETTA {blas} $OPENBLAS_CORETYPE"; fi\n',
    )


def project_with(folder, packages):
    """A Julia project with these packages {name: version}, as Pkg leaves it."""
    folder.mkdir()
    (folder / "Project.toml").write_text("[deps]\n" + "".join(f'{name} = "u"\n' for name in packages))
    entries = "".join(f'[[deps.{name}]]\nversion = "{version}"\n' for name, version in packages.items())
    (folder / "Manifest.toml").write_text(f'manifest_format = "2.0"\n{entries}[[deps.Random]]\nuuid = "r"\n')
    return folder


def juliacall_python(tmp_path, project, installed="0.9.34"):
    """An interpreter whose juliacall is of version `installed` and starts Julia 1.10.4 with a project."""
    answer = {"julia": "/j/bin/julia", "project": str(project), "version": "1.10.4", "optimization": "-O2", "blas": "?"}
    script = (
        f"case \"$2\" in *metadata*) echo {installed};; *) echo noise; echo 'ROSETTA {json.dumps(answer)}';; esac\n"
    )
    return executable(tmp_path / "env/bin/python", script)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with nothing on PATH and no variables set; its bin folder."""
    for name in julia_toolchain.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("ROSETTA_JULIA_PREFIX", str(tmp_path / "prefix"))
    monkeypatch.setattr(julia_toolchain, "unreachable", lambda wanted: "https://pkg.julialang.org")
    return tmp_path / "bin"


# Where Julia comes from


def test_a_julia_on_path_serves_behind_a_pipe_where_juliacall_cannot_be_had(bare, tmp_path):
    path = fake_julia(bare / "julia", "1.11.2")
    assert julia_toolchain.find() == {"julia": str(path), "version": "1.11.2", "origin": "PATH"}
    found = julia_toolchain.provide(None, tmp_path / "log")
    assert (found["status"], found["bridge"], found["julia"]) == ("ready", "julia", str(path))
    assert found["arguments"] == ["-O2"]
    assert found["environment"]["JULIA_NUM_THREADS"] == "1"
    assert "no Python environment" in found["note"]


def test_a_machine_without_julia_gets_a_reason_and_the_way_out(bare, tmp_path):
    assert julia_toolchain.find() is None
    found = julia_toolchain.provide(None, tmp_path / "log")
    assert found["status"] == "unavailable"
    assert "apt-get is missing" in found["reason"]
    assert "https://julialang.org/install" in found["reason"]


def test_a_julia_older_than_the_legs_is_named(bare, tmp_path):
    path = fake_julia(bare / "julia", "1.4.2")
    found = julia_toolchain.provide(None, tmp_path / "log")
    assert found["status"] == "unavailable"
    assert f"{path} is 1.4.2, older than 1.5" in found["reason"]


def test_a_named_julia_that_does_not_start_is_not_replaced_silently(bare, tmp_path, monkeypatch):
    fake_julia(bare / "julia", "1.11.2")
    monkeypatch.setenv("ROSETTA_JULIA", str(tmp_path / "nothing"))
    found = julia_toolchain.provide(None, tmp_path / "log")
    assert found["status"] == "unavailable"
    assert f"ROSETTA_JULIA={tmp_path / 'nothing'} is not a julia that starts" in found["reason"]


def test_a_julia_that_dies_of_an_exception_is_not_ready(bare, tmp_path):
    executable(bare / "julia", 'if [ "$1" = --version ]; then echo "julia version 1.11.2"; else exit 1; fi\n')
    found = julia_toolchain.provide(None, tmp_path / "log")
    assert found["status"] == "unavailable"
    assert "does not run" in found["reason"]


def test_juliacall_is_preferred_and_later_starts_need_no_juliapkg(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(julia_toolchain, "unreachable", lambda wanted: "")
    fake_julia(bare / "julia", "1.11.2")
    python = juliacall_python(tmp_path, project_with(tmp_path / "fetched", {"PythonCall": "0.9.34", "Flux": "0.16.9"}))
    found = julia_toolchain.provide(str(python), tmp_path / "log")
    assert (found["bridge"], found["version"], found["origin"]) == ("juliacall", "1.10.4", "juliapkg")
    assert found["environment"]["PYTHON_JULIACALL_EXE"] == "/j/bin/julia"
    assert found["environment"]["PYTHON_JULIACALL_PROJECT"] == str(tmp_path / "fetched")
    assert found["environment"]["JULIA_CONDAPKG_BACKEND"] == "Null"
    assert found["packages"] == {"PythonCall": "0.9.34", "Flux": "0.16.9"}
    asked = json.loads((tmp_path / "env/julia_env/pyjuliapkg/juliapkg.json").read_text())
    assert asked["packages"]["Lux"] == {"uuid": "b2108857-7c20-44ae-9111-449ecde12c47", "version": "1.31"}
    assert asked["julia"] == "1.10 - 1.12"
    assert "CUDA" not in asked["packages"]


def juliapkg_variables(tmp_path):
    """An interpreter's juliacall that fails, and notes the variables of juliapkg with which it was started."""
    executable(tmp_path / "env/bin/python", f'env | grep JULIAPKG_ > {tmp_path}/seen; echo "Lux broke" >&2; exit 1\n')
    return lambda: dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())


def test_a_named_julia_is_left_out_where_the_packages_need_another(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(julia_toolchain, "unreachable", lambda wanted: "")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    named = fake_julia(tmp_path / "named", "1.11.2")
    monkeypatch.setenv("ROSETTA_JULIA", str(named))
    seen, python = juliapkg_variables(tmp_path), str(tmp_path / "env/bin/python")
    found = julia_toolchain.provide(python, tmp_path / "log", "julia/frameworks/knet/Project.toml")
    assert "PYTHON_JULIAPKG_EXE" not in seen()
    assert f"{named} is not a Julia ~1.10" in (tmp_path / "log").read_text()
    assert "juliacall did not start (exit code 1: Lux broke" in found["note"]
    julia_toolchain.provide(python, tmp_path / "log")
    assert seen()["PYTHON_JULIAPKG_EXE"] == str(named)


def test_bounds_of_a_julia():
    wanted = julia_packages.wanted_packages(ROOT / "Project.toml", "cpu")
    knet = julia_packages.wanted_packages(ROOT / "julia/frameworks/knet/Project.toml", "cpu")
    versions = ("1.9.4", "1.10.2", "1.11.0-rc1", "1.12.1", "1.13.0")
    assert [wanted.runs_on(version) for version in versions] == [False, True, True, True, False]
    assert [knet.runs_on(version) for version in versions] == [False, True, False, False, False]


def test_environments_of_one_interpreter_share_no_julia_project(bare, tmp_path, monkeypatch):
    """deployment: current. A new request starts from no project; an equal one keeps what was resolved."""
    monkeypatch.setattr(julia_toolchain, "unreachable", lambda wanted: "")
    monkeypatch.setattr(julia_toolchain, "ROOT", tmp_path)
    log, chosen = julia_toolchain.Log(tmp_path / "log"), {}
    for project in ("Project.toml", "julia/frameworks/knet/Project.toml"):
        wanted = julia_packages.wanted_packages(ROOT / project, "cpu")
        folder = julia_toolchain.home(sys.executable, project)
        chosen[project] = julia_toolchain.fetched_project(folder, wanted, log)[1]["PYTHON_JULIAPKG_PROJECT"]
    assert len(set(chosen.values())) == 2
    manifest = os.path.join(chosen[project], "Manifest.toml")
    open(manifest, "w").close()
    julia_toolchain.fetched_project(folder, wanted, log)
    assert os.path.exists(manifest)
    (folder / "julia_env/pyjuliapkg/juliapkg.json").write_text("{}")
    julia_toolchain.fetched_project(folder, wanted, log)
    assert not os.path.exists(manifest)


def test_without_a_network_juliapkg_is_not_even_started(bare, tmp_path):
    fake_julia(bare / "julia", "1.11.2")
    python = executable(tmp_path / "env/bin/python", f"touch {tmp_path / 'started'}\n")
    found = julia_toolchain.provide(str(python), tmp_path / "log")
    assert found["bridge"] == "julia"
    assert "https://pkg.julialang.org cannot be reached" in found["note"]
    assert not (tmp_path / "started").exists()


def test_a_given_julia_with_its_project_needs_no_network(bare, tmp_path, monkeypatch):
    every = dict.fromkeys(julia_packages.wanted_packages(ROOT / "Project.toml", "cpu").packages, "1.0.0")
    project = project_with(tmp_path / "given", {**every, "PythonCall": "0.9.34"})
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "/j/bin/julia")
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", str(project))
    python = juliacall_python(tmp_path, project)
    found = julia_toolchain.provide(str(python), tmp_path / "log")
    assert (found["bridge"], found["origin"], found["missing"]) == ("juliacall", "PYTHON_JULIACALL_EXE", [])
    monkeypatch.delenv("PYTHON_JULIACALL_PROJECT")
    fake_julia(bare / "julia", "1.11.2")
    assert (
        "PYTHON_JULIACALL_EXE is set without its partner"
        in julia_toolchain.provide(str(python), tmp_path / "log")["note"]
    )


def test_what_a_given_project_lacks_is_named_for_the_legs_that_need_it(bare, tmp_path, monkeypatch):
    project = project_with(tmp_path / "given", {"PythonCall": "0.9.34", "Flux": "0.16.9", "Zygote": "0.7.12"})
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "/j/bin/julia")
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", str(project))
    found = julia_toolchain.provide(str(juliacall_python(tmp_path, project)), tmp_path / "log")
    assert (found["status"], found["missing"]) == ("ready", ["Lux", "Optimisers"])
    lacking = {leg.name: julia_toolchain.lacking(leg, found) for leg in discover() if leg.framework.language == "julia"}
    assert lacking["julia/base/cnn"] == ""
    assert lacking["julia/flux/cnn"] == ""
    reason = lacking["julia/lux/cnn"]
    assert reason.startswith("Lux needs the Julia packages Lux, Optimisers, which Julia 1.10.4 (PYTHON_JULIACALL_EXE)")
    assert (
        "unset PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT, then with a network `rosetta setup julia` fetches"
        in reason
    )
    monkeypatch.delenv("PYTHON_JULIACALL_EXE")
    monkeypatch.delenv("PYTHON_JULIACALL_PROJECT")
    leg = next(leg for leg in discover() if leg.name == "julia/lux/cnn")
    assert "does not have; with a network `rosetta setup julia` fetches" in julia_toolchain.lacking(leg, found)


def test_a_leg_needs_the_packages_that_its_own_files_load():
    legs = [leg for leg in discover() if leg.framework.language == "julia"]
    loaded = {leg.name: julia_packages.loaded_packages(leg.file) - {"Random", "LinearAlgebra"} for leg in legs}
    assert loaded["julia/base/rnn"] == set()
    assert loaded["julia/flux/cnn"] == {"Flux", "Zygote"}
    assert loaded["julia/flux/resnet50"] == loaded["julia/flux-gru/rnn"] == {"Flux"}
    assert loaded["julia/lux/rnn"] == {"Lux", "Optimisers", "Zygote"}
    assert loaded["julia/knet/cnn"] == {"Knet"}


def test_a_project_that_lacks_something_gives_way_to_our_own_made_offline(bare, tmp_path, monkeypatch):
    """Flux's project is given; Knet's is made from what this Julia has, and asks for no version of PythonCall."""
    given = project_with(tmp_path / "given", {"PythonCall": "0.9.34", "Flux": "0.16.9"})
    manifest = tmp_path / "env/julia_project/Manifest.toml"
    entries = "".join(f"[[deps.{name}]]\nversion = '1.0.0'\n" for name in ("CUDA", "Knet", "PythonCall"))
    program = 'echo "$JULIA_PKG_OFFLINE $*" >> ' + str(tmp_path / "asked")
    instantiating = executable(
        bare / "own-julia", f'{program}; printf "{entries.encode("unicode_escape").decode()}" > {manifest}\n'
    )
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", str(instantiating))
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", str(given))
    python = juliacall_python(tmp_path, tmp_path / "env/julia_project", installed="1.0.0")
    found = julia_toolchain.provide(str(python), tmp_path / "log", "julia/frameworks/knet/Project.toml")
    assert found["packages"] == {"CUDA": "1.0.0", "Knet": "1.0.0", "PythonCall": "1.0.0"}
    assert (tmp_path / "asked").read_text().startswith("true --startup-file=no")
    compat = (tmp_path / "env/julia_project/Project.toml").read_text().partition("[compat]")[2]
    assert "Knet" in compat
    assert "PythonCall" not in compat


def test_juliacall_is_made_the_version_of_a_given_pythoncall(bare, tmp_path, monkeypatch):
    asked = []
    log = julia_toolchain.Log(tmp_path / "log")
    monkeypatch.setattr(log, "run", lambda command, *rest: asked.append(command) or (0, "0.9.34\n"))
    assert julia_toolchain.match_juliacall("/e/bin/python", "0.9.34", log) == ""
    assert len(asked) == 1
    assert julia_toolchain.match_juliacall("/e/bin/python", "0.9.31", log) == ""
    assert asked[-1][-1] == "juliacall==0.9.31"
    # The interpreter at hand is the user's: it is not changed.
    assert "install juliacall==0.9.31" in julia_toolchain.match_juliacall(sys.executable, "0.9.31", log)


def test_juliacall_is_the_lock_s_again_where_no_project_is_given_any_more(bare, tmp_path, monkeypatch):
    """juliacall asks juliapkg for a PythonCall of its own version: another one than ours could not be had."""
    monkeypatch.setattr(julia_toolchain, "unreachable", lambda wanted: "")
    matched = []
    monkeypatch.setattr(julia_toolchain, "match_juliacall", lambda python, wanted, log: matched.append(wanted) or "")
    python = juliacall_python(
        tmp_path, project_with(tmp_path / "fetched", {"PythonCall": "0.9.34"}), installed="0.9.31"
    )
    julia_toolchain.provide(str(python), tmp_path / "log")
    assert matched == ["0.9.34"]


def test_numpy_is_loaded_before_julia_as_in_a_worker(tmp_path):
    (tmp_path / "numpy.py").touch()
    (tmp_path / "juliacall.py").write_text("import sys; print('numpy' in sys.modules); sys.exit()\n")
    command = [sys.executable, "-c", julia_toolchain.CHECK_JULIACALL]
    code, output = julia_toolchain.Log(tmp_path / "log").run(command, 60, {"PYTHONPATH": str(tmp_path)})
    assert (code, output) == (0, "True\n")


@pytest.mark.parametrize(
    ("name", "variable"), [("julia", "PYTHON_JULIACALL_EXE"), ("knet", "ROSETTA_JULIA_BRIDGE"), ("r", "R_REPOS")]
)
def test_a_variable_that_the_set_up_reads_has_it_done_again(bare, monkeypatch, tmp_path, name, variable):
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("ROSETTA_JULIA_PREFIX")
    monkeypatch.setattr(environments.toolchain(name), "find", lambda: None)
    settings, marker = config.load({}), tmp_path / "marker.json"
    situation = environments.situation(name, settings)
    marker.write_text(json.dumps({"status": "unavailable", "generation": 1, "situation": situation}))
    assert environments.generation(name, settings, marker) == 1
    monkeypatch.setenv(variable, "/j/bin/julia")
    assert environments.generation(name, settings, marker) == 2


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_the_log_of_a_set_up_shows_each_line_as_it_comes(tmp_path):
    log, program = julia_toolchain.Log(tmp_path / "log"), "echo first; echo noise >&2; read _ < go; echo last"
    os.mkfifo(tmp_path / "go")
    log.write("")
    answers = []
    command = ["/bin/sh", "-c", f"cd '{tmp_path}'; {program}"]
    setting_up = threading.Thread(target=lambda: answers.append(log.run(command, 60)))
    setting_up.start()
    shown = wait_for(lambda: {"first", "noise"} <= set((tmp_path / "log").read_text().splitlines()))
    (tmp_path / "go").write_text("\n")
    setting_up.join()
    assert shown
    assert answers == [(0, "first\nlast\n")]
    assert log.last == "noise"


def running(pid):
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def interrupt(condition):
    """What Ctrl-C does, once a condition holds and whoever started the process waits for it."""
    wait_for(condition)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_a_set_up_started_ends_with_it(tmp_path, interrupted):
    """By its timeout or by Ctrl-C: nothing goes on compiling beside what is timed."""
    log, pid = julia_toolchain.Log(tmp_path / "log"), tmp_path / "pid"
    command = ["/bin/sh", "-c", f"sleep 300 & echo $! > '{pid}'; wait"]
    if interrupted:
        threading.Thread(target=interrupt, args=(lambda: pid.exists() and pid.read_text(),)).start()
        with pytest.raises(KeyboardInterrupt):
            log.run(command, 60)
    else:
        assert log.run(command, 2) == (124, "")
        assert "ended after 2 s" in (tmp_path / "log").read_text()
    assert wait_for(lambda: not running(int(pid.read_text())))


def test_manifests_of_both_formats_are_read(tmp_path):
    (tmp_path / "Manifest.toml").write_text('[[Flux]]\nversion = "0.14.1"\n[[Random]]\nuuid = "x"\n')
    assert julia_packages.installed_packages(tmp_path) == {"Flux": "0.14.1", "Random": ""}
    (tmp_path / "Manifest-v1.11.toml").write_text('julia_version = "1.11.1"\n[[deps.Flux]]\nversion = "0.16.9"\n')
    assert julia_packages.installed_packages(tmp_path / "Project.toml") == {"Flux": "0.16.9"}
    assert julia_packages.installed_packages(tmp_path / "Project.toml") == julia_packages.installed_packages(tmp_path)


def test_a_gpu_wants_cuda_as_well():
    for project in ("Project.toml", "julia/frameworks/knet/Project.toml"):
        assert "CUDA" in julia_packages.wanted_packages(ROOT / project, "cuda").packages


def test_the_two_halves_of_the_bridge_are_of_one_version():
    for name, project in (("julia", "Project.toml"), ("knet", "julia/frameworks/knet/Project.toml")):
        locked = (environments.REQUIREMENTS / f"{name}.lock").read_text()
        bounds = julia_packages.wanted_packages(ROOT / project, "cpu").packages["PythonCall"][1]
        assert f"juliacall={bounds}\n" in locked


def test_a_forced_bridge_is_not_replaced(bare, tmp_path, monkeypatch):
    fake_julia(bare / "julia", "1.11.2")
    python = executable(tmp_path / "env/bin/python", "exit 1\n")
    monkeypatch.setattr(julia_toolchain, "unreachable", lambda wanted: "")
    monkeypatch.setenv("ROSETTA_JULIA_BRIDGE", "juliacall")
    found = julia_toolchain.provide(str(python), tmp_path / "log")
    assert found["status"] == "unavailable"
    assert "juliacall did not start (exit code 1" in found["reason"]
    monkeypatch.setenv("ROSETTA_JULIA_BRIDGE", "julia")
    assert julia_toolchain.provide(str(python), tmp_path / "log")["bridge"] == "julia"
    monkeypatch.setenv("ROSETTA_JULIA_BRIDGE", "pyjulia")
    assert "can be juliacall or julia" in julia_toolchain.provide(None, tmp_path / "log")["reason"]


@pytest.mark.parametrize(
    ("flags", "blas", "wanted"),
    [
        ({"avx", "avx2", "fma"}, "OpenBLAS 0.3.9 Barcelona", "Haswell"),
        ({"avx", "avx2", "fma"}, "OpenBLAS 0.3.28 Zen", None),
        (julia_toolchain.KERNELS["SkylakeX"] | {"avx2", "fma"}, "OpenBLAS 0.3.9 Haswell", "SkylakeX"),
        (julia_toolchain.KERNELS["SkylakeX"] | {"avx2", "fma"}, "OpenBLAS 0.3.28 SkylakeX", None),
        ({"avx"}, "OpenBLAS 0.3.9 Sandybridge", None),
        ({"avx2", "fma"}, "libmkl_rt.so", None),
    ],
)
def test_openblas_older_than_the_processor_is_told_its_kernels(bare, tmp_path, monkeypatch, flags, blas, wanted):
    monkeypatch.setattr(julia_toolchain, "processor_flags", lambda: flags)
    fake_julia(bare / "julia", "1.11.2", blas)
    found = julia_toolchain.provide(None, tmp_path / "log")
    assert found["environment"].get("OPENBLAS_CORETYPE") == wanted


def test_unverified_packages_are_refused(bare, tmp_path, monkeypatch):
    for tool in ("apt-get", "apt-config", "dpkg"):
        executable(bare / tool, "exit 1\n")
    monkeypatch.setattr(debian_sources, "KEYRING", tmp_path / "keyring.gpg")
    with pytest.raises(debian_julia.Failed, match="keyring.gpg is missing.*apt-get install debian-archive-keyring"):
        debian_julia.install(tmp_path / "prefix", julia_toolchain.Log(tmp_path / "log"))


def test_a_failed_download_leaves_nothing_behind(bare, tmp_path, monkeypatch):
    for tool in ("apt-get", "apt-config", "dpkg"):
        executable(bare / tool, "exit 1\n")
    monkeypatch.setattr(debian_sources, "KEYRING", executable(tmp_path / "keyring.gpg", ""))
    monkeypatch.setattr(debian_julia, "mirrors", lambda: ["http://one/debian", "http://two/debian"])
    with pytest.raises(debian_julia.Failed, match="from http://one/debian or http://two/debian"):
        debian_julia.install(tmp_path / "own" / "prefix", julia_toolchain.Log(tmp_path / "log"))
    assert {path.name for path in (tmp_path / "own").iterdir()} <= {"prefix.lock"}
    assert julia_toolchain.find() is None


# The bridge: real julia processes


LEG = """
build(task, weights) = Dict{String,Any}("task" => task, "weights" => weights)
load(model, weights) = model["weights"] = weights
function place(model, array)
    println("a leg that prints to standard output")
    ccall(:puts, Cint, (Cstring,), "and C code that does")
    return array
end
train(model, x, y, order) = Float32[sum(x[:, order .+ 1]), length(y), model["task"].rate]
predict(model, x) = Float64.(x)
weights(model) = model["weights"]
function synchronize(model)
    model["task"].name == "failing" && error("the first line\\nand the second")
    model["task"].name == "leaving" && exit(7)
    model["task"].name == "counting" && error(length(Main.Rosetta.SESSION.objects), " objects")
    model["task"].name == "bounds" && [1, 2][3]
end
"""


def job_for(path, toolchain):
    task = SimpleNamespace(device="cpu", precision="fp32")
    return SimpleNamespace(root=str(ROOT), file=str(path), toolchain=toolchain, task=task, libraries=[])


@pytest.fixture
def leg(tmp_path, toolchain):
    path = tmp_path / "leg with space.jl"
    path.write_text(LEG)
    opened = julia.open_julia_process(job_for(path, toolchain))
    yield opened
    opened.close()


def task_named(name):
    return SimpleNamespace(name=name, rate=0.1, threads=1, dropout=False, nothing=None)


def test_arrays_arrive_reversed_and_come_back_in_their_own_shape(leg, tmp_path):
    weights = {"a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "b": np.arange(3, dtype=np.float32)}
    model = leg.build(task_named("any"), weights)
    back = leg.weights(model)
    assert sorted(back) == ["a.weight", "b"]
    for name, array in weights.items():
        assert back[name].dtype == np.float32
        assert np.array_equal(back[name], array)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_mapped_files_are_read_where_the_slice_lies(leg, tmp_path, dtype):
    np.save(tmp_path / "x y.npy", np.arange(200).reshape(20, 10).astype(dtype))
    mapped = np.load(tmp_path / "x y.npy", mmap_mode="r")
    model = leg.build(task_named("any"), {})
    for part in (mapped, mapped[:7], mapped[3:9], mapped[3:9][1:3], mapped[:, 2:5], mapped[::2], np.array(mapped[4:6])):
        assert np.array_equal(leg.predict(model, leg.place(model, part)), part)
    assert julia.file_of(mapped[3:9][1:]) == (str(tmp_path / "x y.npy"), 128 + 40 * mapped.itemsize)
    assert julia.file_of(np.array(mapped)) is None


def test_what_a_leg_prints_does_not_disturb_the_answers(tmp_path, toolchain, capfd):
    (tmp_path / "leg.jl").write_text(LEG)
    leg = julia.open_julia_process(job_for(tmp_path / "leg.jl", toolchain))
    model = leg.build(task_named("any"), {})
    x = leg.place(model, np.ones((5, 3), np.float32))
    losses = leg.train(model, x, leg.place(model, np.zeros(4, np.int64)), np.array([0, 4]))
    assert losses.tolist() == [6.0, 4.0, np.float32(0.1)]
    leg.close()
    printed = capfd.readouterr()
    assert "a leg that prints" in printed.err
    assert "C code that does" in printed.err
    assert printed.out == ""


def test_an_exception_in_julia_arrives_as_one_line_and_the_process_lives_on(leg):
    with pytest.raises(julia.JuliaError) as failure:
        leg.synchronize(leg.build(task_named("failing"), {}))
    assert str(failure.value) == "ErrorException: the first line and the second"
    with pytest.raises(julia.JuliaError, match="^BoundsError: attempt to access 2-element"):
        leg.synchronize(leg.build(task_named("bounds"), {}))
    assert leg.versions()["julia"]


def test_a_failed_request_does_not_leave_its_bytes_in_the_pipe(leg, tmp_path):
    model = leg.build(task_named("any"), {})
    np.save(tmp_path / "gone.npy", np.zeros(3))
    gone = np.load(tmp_path / "gone.npy", mmap_mode="r")
    os.remove(tmp_path / "gone.npy")
    with pytest.raises(julia.JuliaError, match="gone.npy"):
        leg.load(model, {"a": gone, "b": np.arange(100_000.0)})
    assert np.array_equal(leg.predict(model, leg.place(model, np.arange(5.0))), np.arange(5.0))


def test_a_julia_process_that_dies_is_noticed_and_its_end_is_named(leg, tmp_path, toolchain):
    with pytest.raises(RuntimeError, match="the julia process ended with exit code 7 during synchronize"):
        leg.synchronize(leg.build(task_named("leaving"), {}))
    other = julia.open_julia_process(job_for(tmp_path / "leg with space.jl", toolchain))
    os.kill(other._channel._process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="the julia process was ended by signal 9 during build"):
        other.build(task_named("any"), {})


def test_a_leg_that_does_not_load_says_where_and_a_missing_package_is_no_failure(tmp_path, toolchain):
    (tmp_path / "broken.jl").write_text("x = 1\nusing NoSuchPackage\n")
    with pytest.raises(Unavailable, match="Package NoSuchPackage not found in current path; `rosetta doctor`"):
        julia.open_julia_process(job_for(tmp_path / "broken.jl", toolchain))
    (tmp_path / "broken.jl").write_text("x = missing_function()\n")
    with pytest.raises(julia.JuliaError, match="UndefVarError: `?missing_function`? not defined"):
        julia.open_julia_process(job_for(tmp_path / "broken.jl", toolchain))


def test_dropped_models_are_forgotten_in_julia(leg):
    kept = leg.build(task_named("any"), {})
    for _ in range(3):
        leg.place(kept, np.zeros(3))
    with pytest.raises(julia.JuliaError, match="^ErrorException: 2 objects"):
        leg.synchronize(leg.build(task_named("counting"), {}))


def test_missing_julia_is_unavailable_not_failed(tmp_path):
    with pytest.raises(Unavailable, match="the reason"):
        julia.open_julia_process(job_for("leg.jl", {"status": "unavailable", "reason": "the reason"}))
    gone = {"status": "ready", "julia": str(tmp_path / "julia"), "arguments": [], "environment": {}}
    with pytest.raises(Unavailable, match="julia cannot be started"):
        julia.open_julia_process(job_for("leg.jl", gone))


def test_what_julia_cannot_take_is_refused_before_it_is_sent(leg):
    model = leg.build(task_named("any"), {})
    with pytest.raises(TypeError, match="arrays of type float16 cannot be handed to Julia"):
        leg.place(model, np.zeros(3, np.float16))
    with pytest.raises(ValueError, match="tab or a line break"):
        leg.build(task_named("a\tb"), {})
    leg.synchronize(model)


def test_a_julia_that_aborts_at_full_optimization_is_used_below_it(tmp_path, monkeypatch, toolchain):
    if toolchain["version"] != "1.5.3":
        pytest.skip("only Debian's 1.5.3 lacks Julia's fixes to LLVM")
    real = toolchain["julia"]
    aborting = executable(
        tmp_path / "julia", f'for word; do [ "$word" = -O2 ] && kill -ABRT $$; done; exec {real} "$@"\n'
    )
    monkeypatch.setenv("ROSETTA_JULIA", str(aborting))
    monkeypatch.setenv("ROSETTA_JULIA_BRIDGE", "julia")
    monkeypatch.setenv("ROSETTA_JULIA_PREFIX", str(tmp_path / "prefix"))
    monkeypatch.setenv("LD_LIBRARY_PATH", toolchain["environment"].get("LD_LIBRARY_PATH", ""))
    found = julia_toolchain.provide(None, tmp_path / "log")
    assert (found["status"], found["optimization"], found["arguments"]) == ("ready", "-O1", ["-O1"])


# The bridge within one process


def test_answers_within_one_process_are_addresses(tmp_path, toolchain):
    """What juliacall calls, called from Julia itself: the same requests, arrays as addresses."""
    (tmp_path / "leg.jl").write_text(LEG)
    program = """
        include(ARGS[1])
        @assert Rosetta.answer("open\\t" * ARGS[2] * "\\tcpu\\tfp32") == "ok"
        @assert Rosetta.answer(join(["build", 1, 2, "threads", "int", 1, "name", "str", "any"], '\\t')) == "ok"
        x = Float32[1 2 3; 4 5 6]
        @assert Rosetta.answer("place\\t1\\t2\\tfloat32\\t3,2\\tmemory:" * string(UInt(pointer(x)))) == "ok"
        @assert pointer(Rosetta.SESSION.objects[2]) == pointer(x)
        words = split(Rosetta.answer("predict\\t1\\t2"), '\\t')
        @assert words[1:4] == ["ok", "scores", "float64", "3,2"]
        address = Ptr{Float64}(parse(UInt, split(words[5], ':')[2]))
        @assert unsafe_wrap(Array, address, (2, 3)) == x
        @assert Rosetta.answer("predict\\t1\\t99") == "error\\tKeyError: key 99 not found"
        println("checked")
    """
    command = [toolchain["julia"], *toolchain["arguments"], "--startup-file=no", "-e", program]
    command += [str(ROOT / "julia" / "rosetta.jl"), str(tmp_path / "leg.jl")]
    code, output = julia_toolchain.Log(tmp_path / "log").run(command, 120, toolchain["environment"])
    assert (code, output.splitlines()[1]) == (0, "checked"), (tmp_path / "log").read_text()


class FakeJulia:
    """Stands in for the module juliacall: takes lines as Rosetta.answer does, and hands arrays around by their addresses."""

    def __init__(self):
        self.included, self.lines, self.kept, self.refused = [], [], {}, None
        self.Main = SimpleNamespace(seval=self.seval)

    def seval(self, code):
        if code == "Rosetta.answer":
            return self.answer
        assert code == "path -> Base.include(Main, path)"
        return self.included.append

    def answer(self, line):
        verb, *fields = line.split("\t")
        self.lines.append([verb, *fields])
        if verb == "synchronize":
            return "error\tBoundsError: attempt to access 2-element Vector at index [3]"
        if verb == "load" and fields[-1] == self.refused:
            return "error\tErrorException: refused"
        if verb == "build":
            name, dtype, shape, source = fields[-4:]
            self.kept[name] = dtype, shape, source
        if verb == "weights":
            return "\t".join(["ok", *(word for name, words in self.kept.items() for word in (name, *words))])
        return "ok"


def test_juliacall_gets_addresses_and_the_arrays_live_as_long_as_the_model(tmp_path, monkeypatch):
    fake = FakeJulia()
    monkeypatch.setitem(sys.modules, "juliacall", fake)
    monkeypatch.delenv("JULIA_NUM_THREADS", raising=False)
    monkeypatch.setenv("PYTHON_JULIACALL_HANDLE_SIGNALS", "yes")  # as the row of Lux has it
    toolchain = {
        "status": "ready",
        "environment": {"JULIA_NUM_THREADS": "1", "PYTHON_JULIACALL_HANDLE_SIGNALS": "no"},
    }
    job = job_for(tmp_path / "leg.jl", toolchain)
    job.libraries = ["Flux", "Zygote"]
    leg = julia.open_juliacall(job)
    assert os.environ["JULIA_NUM_THREADS"] == "1"
    assert os.environ["PYTHON_JULIACALL_HANDLE_SIGNALS"] == "yes"
    assert fake.included == [str(ROOT / "julia" / "rosetta.jl")]
    assert fake.lines[0] == ["open", str(tmp_path / "leg.jl"), "cpu", "fp32", "Flux", "Zygote"]

    weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    model = leg.build(task_named("any"), weights)
    assert fake.kept["a"] == ("float32", "2,3", f"memory:{weights['a'].ctypes.data}")
    back = leg.weights(model)["a"]
    assert np.array_equal(back, weights["a"])
    assert not np.shares_memory(back, weights["a"])
    x = np.ones((5, 3), np.float32)
    placed = leg.place(model, x)
    assert fake.lines[-1][-1] == f"memory:{x.ctypes.data}"
    assert placed.owned[0] is x
    # A view in another order has no memory that Julia could read as it is: that alone is copied.
    turned = leg.place(model, x.T)
    assert turned.owned[0].flags.c_contiguous
    with pytest.raises(julia.JuliaError, match="^BoundsError: attempt to access"):
        leg.synchronize(model)
    number = placed.number
    del placed
    leg.load(model, weights)
    assert ["forget", str(number)] in fake.lines


def test_weights_live_until_others_are_loaded(tmp_path, monkeypatch):
    """A load that fails half-way leaves Julia with arrays of both: both live on."""
    fake = FakeJulia()
    monkeypatch.setitem(sys.modules, "juliacall", fake)
    leg = julia.open_juliacall(job_for(tmp_path / "leg.jl", {"status": "ready", "environment": {}}))
    arrays = [np.full(3, float(number)) for number in range(4)]
    alive = [weakref.ref(array) for array in arrays]
    model = leg.build(task_named("any"), {"a": arrays.pop(0)})
    leg.load(model, {"a": arrays.pop(0)})
    assert [array() is not None for array in alive[:2]] == [False, True]
    fake.refused = f"memory:{arrays[0].ctypes.data}"
    with pytest.raises(julia.JuliaError, match="refused"):
        leg.load(model, {"a": arrays.pop(0)})
    assert [array() is not None for array in alive[:3]] == [False, True, True]
    leg.load(model, {"a": arrays.pop(0)})
    assert [array() is not None for array in alive] == [False, False, False, True]


IN_PROCESS = """
import json, sys
from types import SimpleNamespace
import numpy as np
from rosetta.worker.julia import JuliaError, open_juliacall

job = SimpleNamespace(**json.loads(sys.argv[1]))
job.task = SimpleNamespace(device="cpu", precision="fp32")
leg = open_juliacall(job)
weights = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4)}
model = leg.build(SimpleNamespace(name="failing", rate=0.1, threads=1), weights)
assert np.array_equal(leg.weights(model)["a"], weights["a"])
x = leg.place(model, np.ones((5, 3), np.float32))
assert leg.train(model, x, leg.place(model, np.zeros(4, np.int64)), np.array([0, 4])).tolist()[:2] == [6.0, 4.0]
assert leg.predict(model, x).shape == (5, 3)
try:
    leg.synchronize(model)
except JuliaError as error:
    assert str(error) == "ErrorException: the first line and the second"
    print("checked", leg.versions()["julia"])
"""


def test_the_same_leg_through_juliacall(tmp_path, monkeypatch):
    own = environments.folder() / "julia" / "bin" / "python"
    python = str(own if own.exists() else sys.executable)
    if subprocess.run([python, "-c", "import juliapkg"], capture_output=True).returncode:
        pytest.skip(f"{python} has no juliacall: `rosetta setup julia` makes its environment")
    monkeypatch.setenv("ROSETTA_JULIA_BRIDGE", "juliacall")
    found = julia_toolchain.provide(python, tmp_path / "log")
    if found["status"] != "ready":
        pytest.skip(found["reason"])
    (tmp_path / "leg.jl").write_text(LEG)
    job = json.dumps({**vars(job_for(tmp_path / "leg.jl", found)), "task": None})
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run([python, "-c", IN_PROCESS, job], capture_output=True, text=True, env=variables, timeout=600)
    assert "checked" in done.stdout, done.stderr


# The base legs against the float64 reference

STEPS, BATCH = 20, 4


@pytest.fixture(scope="session", params=["cnn", "rnn"])
def golden(request, tmp_path_factory):
    """A job as the harness writes it, on made-up samples, with the reference's values for it."""
    task = TASKS[request.param]
    folder = tmp_path_factory.mktemp(task.name)
    random = np.random.default_rng(7)
    samples = STEPS * BATCH
    x = (
        random.random((samples, *task.shape), np.float32)
        if task.name == "cnn"
        else random.integers(0, 30_000, (samples, *task.shape)) * (random.random((samples, *task.shape)) < 0.7)
    )
    y = random.integers(0, task.classes, samples)
    np.save(folder / "x_train.npy", x)
    np.save(folder / "y_train.npy", y)
    weights = initial.draw(task)
    for name, array in weights.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "manifest.json").write_text(json.dumps({"arrays": [{"name": name} for name in weights]}))
    settings = task.for_worker(batch=BATCH, precision="fp64", device="cpu", threads=2, dropout=False)
    settings = SimpleNamespace(**settings)
    values = reference.golden(settings, weights, x, y, proof.CHECKPOINTS)
    np.savez(folder / "golden.npz", **values)
    return SimpleNamespace(
        file=str(ROOT / "julia" / "frameworks" / "base" / f"{task.name}.jl"),
        root=str(ROOT),
        task=settings,
        weights=str(folder),
        data=str(folder),
        comparisons=[
            {"precision": precision, "batch": BATCH, "golden": str(folder / "golden.npz"), "reload": True}
            for precision in ("fp64", "fp32")
        ],
        as_shipped=None,
        libraries=[],
    )


@pytest.fixture(scope="session")
def base_leg(golden, toolchain):
    golden.toolchain = toolchain
    opened = julia.open_julia_process(golden)
    yield opened
    opened.close()


def test_the_base_legs_compute_the_network_of_the_reference(base_leg, golden):
    task = TASKS[golden.task.name]
    differences = []
    events = SimpleNamespace(send=lambda event, **fields: differences.append(fields))
    proof.prove(base_leg, golden, events)
    assert {found["precision"] for found in differences} == {"fp64", "fp32"}
    assert {found["step"] for found in differences if found["quantity"] == "loss"} == {1, 5, 20}
    for found in differences:
        if found["precision"] == "fp32" and found["step"] > 1:
            continue  # batches of 4 are more chaotic than the task's of 64, which the pipeline's own proof uses
        bound = task.bound(found["precision"], found["quantity"], found["step"])
        assert found["difference"] <= bound, found


def test_the_base_legs_drop_out_in_training_alone_and_repeat_with_the_seed(base_leg, golden):
    task = change(golden.task, precision="fp32", dropout=True)
    weights = initial.draw(TASKS[task.name])
    x, y = np.load(golden.data + "/x_train.npy"), np.load(golden.data + "/y_train.npy")
    seen = []
    for settings in (task, task, change(task, dropout=False)):
        model = base_leg.build(settings, weights)
        placed, labels = base_leg.place(model, x[:BATCH]), base_leg.place(model, y[:BATCH])
        scores = base_leg.predict(model, placed)
        seen.append((scores, base_leg.train(model, placed, labels, np.arange(BATCH))[0]))
    assert np.array_equal(seen[0][0], seen[2][0])
    assert seen[0][1] == seen[1][1]
    assert (seen[0][1] == seen[2][1]) == (task.name == "rnn")
