"""R: what is done on machines with and without it, and what a leg in R can rely on (real R processes, by rpy2)."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import required
from rosetta import debian, debian_sources, initial, r_packages, r_toolchain, reference
from rosetta.config import ROOT
from rosetta.tasks import TASKS
from rosetta.worker.job import lacks_memory

BATCH, STEPS = 8, 20
"""The proof of the whole pipeline has batches of 64; here small ones keep the float64 reference quick."""


# Provisioning: recorded situations, played by small programs on a PATH of their own


class Machine:
    """A machine whose only programs are the ones written here."""

    def __init__(self, folder: Path, monkeypatch, root: bool):
        self.folder, self.bin, self.home = folder, folder / "bin", folder / "R"
        self.bin.mkdir()
        monkeypatch.setenv("PATH", str(self.bin))
        for name in ("ROSETTA_R", "LD_LIBRARY_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(debian, "is_root", lambda: root)
        monkeypatch.setattr(debian, "LOCK", str(folder / "apt.lock"))
        self.log = open(folder / "log", "w+")

    def program(self, name: str, script: str) -> Path:
        path = self.bin / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def r(self, blas: str, shared: bool = True) -> str:
        """Writes an R; returns the shell commands that would install it."""
        (self.folder / blas).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / blas).touch()
        self.program(
            "ldd", f'read target < "{self.folder}/selected"; echo "  libblas.so.3 => $target (0x00007f0d9e974000)"'
        )
        (self.folder / "selected").write_text(f"{self.folder / blas}\n")
        (self.home / "lib").mkdir(parents=True)
        if shared:
            (self.home / "lib" / "libR.so").touch()
        (self.home / "library" / "base").mkdir(parents=True)
        (self.home / "library" / "base" / "DESCRIPTION").write_text("Package: base\nVersion: 4.3.1\n")
        hidden = self.program("R", f'[ "$1" = RHOME ] && echo "{self.home}"').rename(self.folder / "R.hidden")
        return f'/bin/ln -s "{hidden}" "{self.bin}/R"\n'

    def r_installed(self, blas: str, **options) -> None:
        subprocess.run(["/bin/sh", "-c", self.r(blas, **options)], check=True)

    def python(self, answer: str = '{"answer": 2, "rpy2": "3.6.6", "blas": ""}', code: int = 0) -> str:
        return str(self.program("python-with-rpy2", f"echo '{answer}'; exit {code}"))

    def provide(self, python=None) -> dict:
        answer = r_toolchain.provide(python, self.log)
        assert json.loads(json.dumps(answer)) == answer
        return answer

    def logged(self) -> str:
        self.log.flush()
        return (self.folder / "log").read_text()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return lambda root: Machine(tmp_path, monkeypatch, root)


def test_without_r_and_without_root_one_line_says_what_to_install(machine):
    here = machine(root=False)
    here.program("apt-get", "echo apt was called; exit 1")
    answer = here.provide(here.python())
    assert answer["status"] == "unavailable"
    assert (
        answer["reason"]
        == "r-base-core is missing; install it with `sudo apt-get install r-base-core libopenblas0-pthread`"
    )
    assert "apt was called" not in here.logged()


def test_without_r_and_without_apt_one_line_says_what_to_install(machine):
    answer = machine(root=True).provide()
    assert answer["status"] == "unavailable"
    assert "conda install -c conda-forge r-base" in answer["reason"]
    assert "\n" not in answer["reason"]


def test_root_on_debian_gets_r_installed_after_fresh_package_lists(machine):
    here = machine(root=True)
    install = here.r("openblas-pthread/libblas.so.3")
    script = f'echo "$@"\ncase "$1" in update) : > "{here.folder}/lists";; install) [ -e "{here.folder}/lists" ] || exit 100\n{install};; esac'
    here.program("apt-get", script)
    answer = here.provide(here.python())
    assert (answer["status"], answer["reason"], answer["warning"]) == ("ready", "", "")
    assert (answer["version"], answer["home"]) == ("4.3.1", str(here.home))
    assert "--no-install-recommends" in here.logged()
    assert "r-base-core libopenblas0-pthread" in here.logged()


def test_a_failing_installation_is_told_with_its_log(machine):
    here = machine(root=True)
    here.program("apt-get", "echo E: no space left; exit 100")
    answer = here.provide(here.python())
    assert answer["status"] == "unavailable"
    assert "failed" in answer["reason"]
    assert str(here.folder / "log") in answer["reason"]
    assert "E: no space left" in here.logged()


def test_two_installations_take_turns(machine):
    """Environments may be made at once, and apt-get fails where another one is reading the package lists."""
    here = machine(root=True)
    here.program(
        "apt-get", f'/bin/mkdir "{here.folder}/busy" || exit 100; /bin/sleep 0.3; /bin/rmdir "{here.folder}/busy"'
    )
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda name: debian.install((name,), here.log, ""), ("a", "b")))
    assert answers == ["", ""]


def test_root_gets_openblas_in_place_of_the_reference_blas(machine):
    here = machine(root=True)
    here.r_installed("blas/libblas.so.3")
    here.program("apt-get", f'echo "{here.folder}/openblas-pthread/libblas.so.3" > "{here.folder}/selected"')
    answer = here.provide(here.python())
    assert (answer["status"], answer["warning"]) == ("ready", "")
    assert answer["blas"].endswith("openblas-pthread/libblas.so.3")


def test_reference_blas_without_root_is_warned_of_but_serves(machine):
    here = machine(root=False)
    here.r_installed("blas/libblas.so.3")
    here.program("apt-get", "exit 1")
    answer = here.provide(here.python())
    assert answer["status"] == "ready"
    assert "sudo apt-get install libopenblas0-pthread" in answer["warning"]


def test_r_without_shared_library_is_unavailable(machine):
    here = machine(root=False)
    here.r_installed("openblas/libblas.so.3", shared=False)
    assert "--enable-R-shlib" in here.provide(here.python())["reason"]


def test_rpy2_that_does_not_start_r_is_unavailable_with_its_last_words(machine):
    here = machine(root=False)
    here.r_installed("openblas/libblas.so.3")
    answer = here.provide(here.python("libR.so: undefined symbol: R_getVar", code=1))
    assert answer["status"] == "unavailable"
    assert "undefined symbol: R_getVar" in answer["reason"]


def test_a_wrong_rosetta_r_is_named(machine, monkeypatch):
    here = machine(root=True)
    here.r_installed("openblas/libblas.so.3")
    monkeypatch.setenv("ROSETTA_R", "/nowhere/R")
    assert r_toolchain.find() is None
    assert here.provide(here.python())["reason"].startswith("ROSETTA_R names /nowhere/R")


# A real R


@pytest.fixture(scope="session")
def r(environment):
    """(interpreter with rpy2, what provide() says of it); skips with the reason where R cannot be had."""
    found = environment("r")
    if found["status"] != "ready":
        pytest.skip(found["reason"])
    return found["python"], found["toolchain"]


OPEN = """
import sys
from types import SimpleNamespace
import numpy as np
from rosetta.worker.r import open_rpy2
task = SimpleNamespace(threads=1, **{task!r})
leg = open_rpy2(SimpleNamespace(libraries=[], root={root!r}, file={file!r}, toolchain={toolchain!r}, task=task))
"""


class Session:
    """Python code beside one leg in R, in a process of its own."""

    def __init__(self, r, folder: Path):
        self.python, self.toolchain = r
        self.folder = folder

    def command(self, code: str, leg: str | Path, task: dict) -> dict:
        file = leg
        if not isinstance(leg, Path):
            file = self.folder / "leg.R"
            file.write_text(leg)
        start = OPEN.format(task=task, root=str(ROOT), file=str(file), toolchain=self.toolchain)
        environment = {
            **os.environ,
            **self.toolchain["environment"],
            "PYTHONPATH": str(ROOT / "python"),
            "TMPDIR": str(self.folder),
        }
        return {"args": [self.python, "-c", start + textwrap.dedent(code)], "env": environment, "cwd": self.folder}

    def run(
        self, code: str, leg: str | Path = "", task: dict | None = None, check: bool = True
    ) -> subprocess.CompletedProcess:
        done = subprocess.run(**self.command(code, leg, task or {}), capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, code: str, leg: str) -> subprocess.Popen:
        return subprocess.Popen(
            **self.command(code, leg, {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.fixture
def session(r, tmp_path):
    return Session(r, tmp_path)


@pytest.fixture
def driving(environment, tmp_path):
    """A session in which R drives a Python library: with reticulate, in the environment of MXNet."""
    found = environment("rmxnet")
    if found["status"] != "ready":
        pytest.skip(found["reason"])
    return Session((found["python"], found["toolchain"]), tmp_path)


def error_of(session, body: str) -> str:
    """What an R function that fails looks like to the harness."""
    code = """
    try:
        leg.build(task, {})
    except (Exception, MemoryError) as error:
        print(type(error).__name__ + ": " + str(error))
    """
    return session.run(code, f"build <- function(task, weights) {{\n{body}\n}}").stdout


def test_find_is_quick_and_agrees_with_r(r):
    start = time.perf_counter()
    found = r_toolchain.find()
    assert time.perf_counter() - start < 0.3
    asked = subprocess.run(
        [found["r"], "--vanilla", "-s", "-e", "cat(R.home(), as.character(getRversion()))"],
        capture_output=True,
        text=True,
    )
    assert asked.stdout.split() == [found["home"], found["version"]]


def test_an_r_error_arrives_as_one_line_with_class_and_message_and_its_calls_below(session):
    lines = error_of(session, "inner <- function(x) x + missing_thing\ninner(1)").splitlines()
    assert lines[0] == "RError: simpleError: object 'missing_thing' not found"
    assert "leg.R:3  inner(1)" in lines[-1]


def test_a_message_of_several_lines_and_a_class_of_its_own_stay_one_line(session):
    body = 'stop(structure(class = c("shape_error", "error", "condition"), list(message = "a\\n b", call = NULL)))'
    assert error_of(session, body).splitlines()[0] == "RError: shape_error: a b"


def test_a_fault_in_the_file_itself_names_it(session):
    done = session.run("", "build <- function(task, weights {}", check=False)
    assert done.returncode == 1
    assert "simpleError" in done.stderr
    assert "leg.R:1" in done.stderr


def test_lack_of_memory_in_r_is_a_memory_error(session):
    assert error_of(session, "numeric(1e13)").startswith("MemoryError: simpleError: cannot allocate vector")


@pytest.mark.parametrize("call", ["quit()", 'q("no")', "base::quit(status = 3)"])
def test_quit_in_r_is_an_error_and_not_the_silent_end(session, call):
    assert "quit() was called" in error_of(session, call)


@pytest.mark.parametrize("limit", ["5000", "500000"])
def test_endless_recursion_is_an_r_error_and_not_a_crash(session, limit):
    said = error_of(session, f"options(expressions = {limit})\nf <- function(n) f(n + 1)\nf(1)")
    assert "StackOverflowError: " in said
    assert error_of(
        session, f"options(expressions = {limit})\nf <- function(n) f(n + 1)\ntry(f(1), silent = TRUE)\nstop('alive')"
    ).startswith("RError: simpleError: alive")


def test_r_talks_to_stderr_alone_and_a_question_gets_no_answer(session):
    leg = 'build <- function(task, weights) { print(1:3); message("said"); warning("beware"); cat("[", readline("? "), "]"); NULL }'
    done = session.run("leg.build(task, {})", leg)
    assert done.stdout == ""
    for text in ("[1] 1 2 3", "said", "beware", "[  ]"):
        assert text in done.stderr


def test_r_is_refused_outside_the_main_thread(session):
    code = """
    import threading
    caught = []
    def other():
        try:
            leg.synchronize(None)
        except RuntimeError as error:
            caught.append(str(error))
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    print(caught)
    """
    assert "main thread" in session.run(code, "synchronize <- function(model) NULL").stdout


def test_arrays_arrive_with_reversed_dimensions_and_come_back_exactly(session):
    leg = """
    build <- function(task, weights) {
      stopifnot(
        identical(dim(weights$w), c(4L, 3L, 2L)), weights$w[2, 3, 1] == 9, is.double(weights$w),
        is.null(dim(weights$b)), identical(task$name, "cnn"), identical(task$batch, 64L), identical(task$dropout, FALSE)
      )
      weights
    }
    place <- function(model, array) array
    weights <- function(model) model
    predict <- function(model, x) { stopifnot(is.integer(x)); x[, 1:2] }
    """
    code = """
    w = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + np.float32(0.1)
    w[0, 2, 1] = 9
    model = leg.build(task, {"w": w, "b": np.float32([0.1, 0.2])})
    back = leg.weights(model)
    assert list(back) == ["w", "b"] and all(a.dtype == np.float64 and a.flags.c_contiguous for a in back.values())
    assert (back["w"] == w).all() and (back["b"] == np.float32([0.1, 0.2])).all()
    ids = np.arange(12, dtype=np.int64).reshape(4, 3)
    assert (leg.predict(model, leg.place(model, ids)) == ids[:2]).all()
    try:
        leg.place(model, np.array([2**31]))
    except OverflowError as error:
        print(error)
    """
    task = {"name": "cnn", "batch": 64, "dropout": False, "seed": 1}
    assert "2^31" in session.run(code, leg, task).stdout


def test_placed_arrays_survive_r_garbage_collection(session):
    leg = """
    build <- function(task, weights) NULL
    place <- function(model, array) array
    train <- function(model, x, y, order) { gc(); for (i in 1:50) numeric(1e6); c(sum(x), y[order + 1L]) }
    """
    code = """
    x = np.random.RandomState(0).rand(500, 3, 8, 8).astype(np.float32)
    x_placed, y_placed = leg.place(None, x), leg.place(None, np.arange(500))
    for _ in range(3):
        found = leg.train(None, x_placed, y_placed, np.array([7, 499]))
        assert abs(found[0] - x.astype(float).sum()) < 1e-6 and list(found[1:]) == [7, 499], found
    """
    session.run(code, leg)


def test_openblas_in_r_uses_the_threads_of_the_task(session):
    if "openblas" not in r_toolchain.find()["blas"].lower():
        pytest.skip("R uses another BLAS here")
    leg = """
    build <- function(task, weights) { a <- matrix(1, 1500, 1500); for (i in 1:2) a %*% a; system.time(for (i in 1:6) a %*% a) }
    weights <- function(model) list(seconds = as.numeric(model[1:3]))
    """
    code = """
    user, system, elapsed = leg.weights(leg.build(task, {}))["seconds"]
    assert user + system < 1.2 * elapsed, (user, system, elapsed)
    print(leg.versions())
    """
    assert "OpenBLAS 0." in session.run(code, leg).stdout


@pytest.mark.parametrize("work", ["repeat sqrt(2)", "Sys.sleep(60)", "a <- matrix(1, 400, 400); repeat a %*% a"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_process_in_the_middle_of_r(session, work, name):
    process = session.start(
        "leg.build(task, {})\nprint('went on')", f'build <- function(task, weights) {{ message("busy"); {work} }}'
    )
    while "busy" not in (line := process.stderr.readline()):
        assert line, "R ended before it was busy"
    time.sleep(0.3)
    process.send_signal(getattr(signal, name))
    said, _ = process.communicate(timeout=20)
    assert process.returncode == -getattr(signal, name)
    assert "went on" not in said


# The networks


@pytest.fixture(scope="module", params=["cnn", "rnn"])
def proof(request, tmp_path_factory):
    """(task, its fields for a worker, a folder with canonical weights, samples of 20 steps and the reference's values)."""
    task = TASKS[request.param]
    folder = tmp_path_factory.mktemp(task.name)
    rng = np.random.default_rng(7)
    weights = initial.draw(task)
    if task.name == "cnn":
        x = rng.random((STEPS * BATCH, *task.shape), np.float32)
        x[:, :, 10:20, 10:20] = 1.0  # equal pixels: which of them wins the pooling must not depend on the language
    else:
        x = (30_000 * rng.random((STEPS * BATCH, *task.shape)) ** 6).astype(
            np.int64
        )  # frequent words come often, as in a text
    y = rng.integers(0, task.classes, STEPS * BATCH)
    fields = task.for_worker(batch=BATCH, precision="fp64", device="cpu", dropout=False)
    golden = reference.golden(SimpleNamespace(**fields), weights, x, y, (1, STEPS))
    for name, arrays in (("weights", weights), ("samples", {"x": x, "y": y}), ("golden", golden)):
        np.savez(folder / f"{name}.npz", **arrays)
    return task, fields, folder


LOAD = "weights, samples, golden = (dict(np.load(name + '.npz')) for name in ('weights', 'samples', 'golden'))"


def leg_of(task) -> Path:
    return ROOT / "r" / "frameworks" / "base" / f"{task.name}.R"


def test_the_network_is_the_reference_in_float64(r, proof):
    task, fields, folder = proof
    code = f"""
    {LOAD}
    model = leg.build(task, weights)
    back = leg.weights(model)
    assert sorted(back) == sorted(weights)
    assert all(back[name].shape == w.shape and (back[name] == w).all() for name, w in weights.items()), "weights changed on the way"

    def close(found, expected, bound=1e-9):
        difference = np.abs(np.asarray(found) - expected).max()
        assert found.shape == expected.shape and difference < bound, difference

    x, y = leg.place(model, samples["x"]), leg.place(model, samples["y"])
    first = leg.place(model, samples["x"][:{BATCH}])
    close(leg.predict(model, first), golden["logits_0"])
    order = np.arange({STEPS * BATCH})
    close(leg.train(model, x, y, order[:{BATCH}]), golden["losses"][:1])
    close(leg.predict(model, first), golden["logits_1"])
    close(leg.train(model, x, y, order[{BATCH}:]), golden["losses"][1:])
    close(leg.predict(model, first), golden["logits_{STEPS}"])
    assert leg.predict(model, x).shape == (len(order), task.classes)

    # load() puts the weights back and forgets the optimizer: the first steps repeat to the last bit.
    leg.load(model, weights)
    again = leg.train(model, x, y, order[:{2 * BATCH}])
    close(again, golden["losses"][:2])

    # An order is a list of positions, not a range: the second batch first gives the second batch's loss.
    leg.load(model, weights)
    swapped = leg.train(model, x, y, np.concatenate([order[{BATCH}:{2 * BATCH}], order[:{BATCH}]]))
    assert abs(swapped[0] - again[0]) > 1e-6
    """
    Session(r, folder).run(code, leg_of(task), fields)


@pytest.mark.parametrize("proof", ["cnn"], indirect=True)
def test_dropout_is_seeded_and_off_in_predict(r, proof):
    task, fields, folder = proof
    code = f"""
    {LOAD}
    def first_loss(dropout, seed):
        task.dropout, task.seed = dropout, seed
        model = leg.build(task, weights)
        x, y = leg.place(model, samples["x"][:{BATCH}]), leg.place(model, samples["y"][:{BATCH}])
        scores = leg.predict(model, x)
        assert (scores == leg.predict(model, x)).all()
        return leg.train(model, x, y, np.arange({BATCH}))[0]
    assert first_loss(True, 1) == first_loss(True, 1) != first_loss(True, 2)
    assert first_loss(False, 1) == first_loss(False, 2) != first_loss(True, 1)
    """
    Session(r, folder).run(code, leg_of(task), fields)


def test_one_gradient_step_moves_every_parameter_by_the_reference_gradient(r, proof):
    task, fields, folder = proof
    big = {"learning_rate": 1.0} if task.name == "cnn" else {"learning_rate": 1e10, "epsilon": 1e10}
    code = f"""
    {LOAD}
    model = leg.build(task, weights)
    x, y = leg.place(model, samples["x"][:{BATCH}]), leg.place(model, samples["y"][:{BATCH}])
    leg.train(model, x, y, np.arange({BATCH}))
    for name, after in leg.weights(model).items():
        norm, expected = np.linalg.norm(weights[name] - after), float(golden["gradient " + name])
        assert abs(norm - expected) < 1e-7 * expected, (name, norm, expected)
    """
    Session(r, folder).run(code, leg_of(task), {**fields, **big})


def test_without_rpy2_the_leg_is_unavailable_with_a_reason(r, tmp_path):
    code = OPEN.format(task={}, root=str(ROOT), file="", toolchain={"environment": {}})
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "Unavailable: rpy2 or R cannot be loaded" in done.stderr


# R that drives a Python library

HANDING_OVER = """
python_arrays <- TRUE
np <- reticulate::import("numpy", convert = FALSE)
build <- function(task, weights) weights
place <- function(model, array) array
train <- function(model, x, y, order) np$add(x, order)
predict <- function(model, x) c(1.5, 2.5)
weights <- function(model) model
"""


def test_arrays_of_such_a_leg_stay_python_s_and_are_not_copied(driving):
    code = """
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    model = leg.build(task, {"a.weight": array})
    back = leg.weights(model)["a.weight"]
    assert back.dtype == np.float32 and np.array_equal(back, array)
    x = leg.place(model, np.arange(3))
    seen = leg.train(model, x, x, np.array([10, 20, 30]))
    assert seen.dtype == np.int64 and seen.tolist() == [10, 21, 32]
    # The very same memory: what Python changes, R's reference sees.
    shared = np.zeros(3, np.int64)
    placed = leg.place(model, shared)
    shared[:] = 7
    assert leg.train(model, placed, placed, np.array([0, 0, 1])).tolist() == [7, 7, 8]
    # R's own numbers may come back too.
    assert leg.predict(model, x).tolist() == [1.5, 2.5]
    print("checked")
    """
    assert "checked" in driving.run(code, HANDING_OVER).stdout


def test_a_process_with_reticulate_ends_by_itself(driving):
    """From 1.43 on reticulate's finalizer would wait for ever for Python's lock, were it not kept from taking it."""
    leg = """
    library(reticulate)
    build <- function(task, weights) {
      reg.finalizer(globalenv(), function(e) cat("R's finalizers ran\n", file = stderr()), onexit = TRUE)
      as.integer(py_to_r(import("math", convert = FALSE)$factorial(5L)))
    }
    """
    done = driving.run("print(leg.build(task, {})[0])", textwrap.dedent(leg))
    assert done.stdout.strip() == "120"
    assert "R's finalizers ran" in done.stderr


def test_reticulate_does_not_poll_an_interpreter_that_has_ended(driving):
    """Its thread asks Python twice a second to call back: SIGSEGV where a process takes long to end after Python's own end."""
    code = """
    import ctypes
    # The C library calls sleep(exit code) once Python is finalized.
    libc = ctypes.CDLL(None)
    libc.on_exit(libc.sleep, None)
    leg.build(task, {})
    raise SystemExit(2)
    """
    leg = 'library(reticulate)\nbuild <- function(task, weights) as.integer(py_to_r(import("math")$factorial(5L)))'
    assert driving.run(code, leg, check=False).returncode == 2


def test_an_error_in_python_below_r_arrives_as_one_line_too(driving):
    leg = 'build <- function(task, weights) reticulate::import("math", convert = FALSE)$sqrt(-1)'
    code = """
    try:
        leg.build(task, {})
    except Exception as error:
        print(type(error).__name__ + ": " + str(error))
    """
    first = driving.run(code, leg).stdout.splitlines()[0]
    assert first.startswith("RError: python.builtin.ValueError: ValueError: math domain error")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('mx <- reticulate::import("mxnet_that_is_not_here")', "No module named 'mxnet_that_is_not_here'"),
        ("library(keras3notHere)", "there is no package called"),
    ],
)
def test_a_leg_whose_package_is_missing_is_unavailable_and_no_failure(driving, line, words):
    done = driving.run("", line, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("rosetta.worker.job.Unavailable: "), done.stderr
    assert words in last
    assert "`rosetta doctor`" in last


def test_lack_of_memory_below_r_is_told_from_other_faults():
    """NumPy's, TensorFlow's, R's and C++'s words; the last is what the dynamic linker says of a library that it cannot load."""
    for words in (
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array",
        "python.builtin.ResourceExhaustedError: OOM when allocating tensor with shape[1024,1024]",
        "simpleError: cannot allocate vector of size 74505.8 Gb",
        "simpleError: cannot allocate memory block of size 134217728 Tb",
        "simpleError: vector memory exhausted (limit reached?)",
        "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "std::bad_alloc",
    ):
        assert lacks_memory(words)
    assert not lacks_memory("ImportError: libgomp.so.1: cannot allocate memory in static TLS block")


def test_versions_name_r_s_packages(driving):
    found = driving.run("print(leg.versions())", "library(reticulate)\nbuild <- function(task, weights) 1").stdout
    assert "'reticulate'" in found
    assert "'rpy2'" in found
    assert "'stats'" not in found


# R's packages


class Repositories:
    """What r_packages finds: no R is started, every program is noted."""

    def __init__(self, monkeypatch, folder, reachable=(), installed=()):
        self.programs, self.log = [], open(folder / "log", "w")
        self.installed = set(installed)
        monkeypatch.setenv("ROSETTA_R_LIBRARY", str(folder / "library"))
        monkeypatch.delenv("R_REPOS", raising=False)
        monkeypatch.setattr(debian, "is_root", lambda: False)
        monkeypatch.setattr(r_packages, "mirror", lambda r: os.environ.get("R_REPOS", r_packages.CRAN))
        monkeypatch.setattr(r_packages, "reachable", lambda address: address in reachable)
        monkeypatch.setattr(r_packages, "run", self.run)

    def run(self, r, folder, program, log, seconds):
        self.programs.append(program)
        if "install.packages" in program:
            self.installed.add(program.split("'")[1])
        return "loadNamespace" not in program or program.split("'")[1] in self.installed

    def provide(self, *packages):
        return r_packages.provide(packages, {"r": "R", "version": "4.2.2"}, self.log)


def test_what_is_there_is_not_installed_again(monkeypatch, tmp_path):
    here = Repositories(monkeypatch, tmp_path, installed={"keras3"})
    assert here.provide("keras3") == ""
    assert not any("install.packages" in program for program in here.programs)
    assert r_packages.library("4.2.2") == tmp_path / "library" / "4.2"


def test_a_library_of_the_user_s_own_counts_after_the_project_s(monkeypatch):
    monkeypatch.delenv("R_LIBS", raising=False)
    assert r_packages.libraries(Path("/own")) == "/own"
    monkeypatch.setenv("R_LIBS", "/site:/home/me/R")
    assert r_packages.libraries(Path("/own")) == "/own:/site:/home/me/R"


def test_an_old_reticulate_does_not_serve(r, tmp_path):
    """1.18 and 1.28 crash in a process that Python started: a package counts from its oldest good version on."""
    package = tmp_path / "reticulate"
    package.mkdir()
    (package / "NAMESPACE").touch()
    for version, good in (("1.28", False), ("1.41.0", True)):
        (package / "DESCRIPTION").write_text(f"Package: reticulate\nVersion: {version}\nTitle: T\nLicense: L\n")
        with open(tmp_path / "log", "w") as log:
            (tmp_path / version).mkdir()
            install = ["R", "CMD", "INSTALL", f"--library={tmp_path / version}", package]
            subprocess.run(install, stdout=log, stderr=log, check=True)
            assert r_packages.serves("reticulate", "R", tmp_path / version, log) is good


def test_packages_come_from_the_mirror_that_r_repos_names(monkeypatch, tmp_path):
    here = Repositories(monkeypatch, tmp_path, reachable={"file:///a/repository"})
    monkeypatch.setenv("R_REPOS", "file:///a/repository")
    assert here.provide("keras3") == ""
    (installing,) = [program for program in here.programs if "install.packages" in program]
    assert "repos = 'file:///a/repository'" in installing
    assert str(tmp_path / "library" / "4.2") in installing


def test_without_cran_keras_says_what_is_missing(monkeypatch, tmp_path):
    reason = Repositories(monkeypatch, tmp_path).provide("keras3")
    assert reason == (
        "R's package keras3 is missing, and https://cloud.r-project.org cannot be reached; name a CRAN mirror in R_REPOS"
    )


def test_without_cran_reticulate_comes_from_debian_s_sources(monkeypatch, tmp_path):
    here = Repositories(monkeypatch, tmp_path)
    asked = []

    def unpacked(package, suite, work, log):
        asked.append((package, suite))
        return work / "source"

    monkeypatch.setattr(debian_sources, "unpacked", unpacked)
    monkeypatch.setattr(debian, "run", lambda command, log: asked.append(command) or here.installed.add("reticulate"))
    assert here.provide("reticulate") == ""
    assert asked[0] == ("r-cran-reticulate", "trixie")
    assert asked[1][:3] == ["R", "CMD", "INSTALL"]

    def failing(*arguments):
        raise debian_sources.Failed("could not be fetched from http://one/debian")

    here.installed.clear()
    monkeypatch.setattr(debian_sources, "unpacked", failing)
    reason = here.provide("reticulate")
    assert reason.endswith("and Debian's source could not be fetched from http://one/debian")


def test_torch_is_not_compiled_for_minutes_where_its_library_cannot_be_had(monkeypatch, tmp_path):
    here = Repositories(monkeypatch, tmp_path, reachable={r_packages.CRAN})
    reason = here.provide("torch")
    assert "https://torch-cdn.mlverse.org cannot be reached" in reason
    assert "torch::install_torch()" in reason
    assert not any("install.packages" in program for program in here.programs)


def test_folders_and_servers_are_told_from_those_that_are_not_there(tmp_path):
    assert r_packages.reachable(f"file://{tmp_path}")
    assert not r_packages.reachable(f"file://{tmp_path}/nothing")
    assert not r_packages.reachable("http://127.0.0.1:9")


@pytest.fixture(scope="session")
def rscript(r, tmp_path_factory):
    """Runs a line of R in the checkout; testthat and lintr are installed where they may be."""
    if subprocess.run(["Rscript", "-e", "library(testthat); library(lintr)"], capture_output=True).returncode:
        with open(tmp_path_factory.mktemp("r") / "log", "w") as log:
            reason = debian.install(
                ("r-cran-testthat", "r-cran-lintr"),
                log,
                "R has no testthat or lintr: install.packages(c('testthat', 'lintr'))",
            )
        if reason:
            assert not required("r"), reason
            pytest.skip(reason)

    def run(program: str) -> subprocess.CompletedProcess:
        command = ["Rscript", "--vanilla", "-e", program]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    return run


def test_r_s_own_functions_by_testthat(rscript):
    """tests/testthat: what r/rosetta.R, the layers of base R and the helpers of the other legs promise, in R's own words."""
    done = rscript("testthat::test_dir('tests/testthat', stop_on_failure = TRUE)")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_r_files_are_written_in_one_style(rscript):
    done = rscript(
        "options(lintr.linter_file = normalizePath('r/.lintr'));"
        "found <- c(lintr::lint_dir('r'), lintr::lint_dir('tests/testthat')); print(found); quit(status = length(found) > 0)"
    )
    assert done.returncode == 0, done.stdout[-3000:]
