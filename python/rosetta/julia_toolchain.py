"""Where Julia and its packages come from, and which bridge they allow.

In this order: juliacall, with the Julia on PATH or one that juliapkg downloads; a plain `julia` on PATH; Debian's Julia 1.5.3,
unpacked into a folder of the project's own. The last two are served by a `julia` process behind a pipe. Which packages the legs of
an environment want, its Julia project says (`Needs.project`): juliapkg fetches them, or they are in a project that is given.

Environment variables:
    ROSETTA_JULIA: the julia executable to use instead of the one on PATH. An environment whose packages need another Julia gets that from
        juliapkg all the same: Knet runs on 1.10 alone.
    ROSETTA_JULIA_PREFIX: where Debian's Julia is unpacked; default .julia/prefix in the checkout.
    ROSETTA_JULIA_BRIDGE: `juliacall` or `julia`, to allow only this bridge.
    PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT: a Julia and a project with PythonCall; juliapkg is then left out. Where that project
        lacks what an environment wants, the environment's own project is made offline, from the packages that this Julia has already.
    JULIA_PKG_SERVER, JULIA_DEPOT_PATH, OPENBLAS_CORETYPE: Julia's own and OpenBLAS's.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from rosetta import debian_julia, isolation, network
from rosetta.frameworks import Leg
from rosetta.indexes import uv_environment
from rosetta.julia_packages import (
    BRIDGE_PACKAGE,
    Wanted,
    direct_packages,
    installed_packages,
    loaded_packages,
    wanted_packages,
)

ROOT = Path(__file__).resolve().parents[2]

WANTS = "project"
"""The field of environments.toml that says which packages legs want."""

GIVEN = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")

VARIABLES = (
    *("ROSETTA_JULIA", "ROSETTA_JULIA_PREFIX", "ROSETTA_JULIA_BRIDGE", *GIVEN),
    *("JULIA_PKG_SERVER", "JULIA_DEPOT_PATH", "OPENBLAS_CORETYPE"),
)
"""What the set-up reads: where one of them changes, it has to be done again."""

OLDEST = (1, 5)
"""What julia/ is written for; juliacall needs 1.10.3 and says so itself."""

OLDEST_WITH_OWN_LLVM_FIXES = (1, 6)
"""Debian's 1.5.3 is built on an LLVM without Julia's patches, which aborts on some code at -O2: there a trial decides."""

WAY_OUT = "install Julia 1.10 or newer from https://julialang.org/install, or name one in ROSETTA_JULIA"

INSTALL_SECONDS = 240
"""How long uv may take to install one version of juliacall."""

DOWNLOAD_SECONDS = 3600
"""How long juliapkg may take to fetch Julia and the packages and to compile them."""

SINGLE = {"JULIA_NUM_THREADS": "1", "JULIA_LOAD_PATH": "@:@stdlib"}
"""One Julia thread: BLAS has the task's threads, and more Julia threads make juliacall's signals unsafe. Packages come from the
project alone, never from the user's own environment."""


def prefix() -> Path:
    return Path(os.environ.get("ROSETTA_JULIA_PREFIX") or ROOT / ".julia" / "prefix")


def find() -> dict | None:
    """The Julia at hand, without downloading: {"julia": executable, "version", "origin"}, or None."""
    named = os.environ.get("ROSETTA_JULIA")
    for executable, origin in ((named, "ROSETTA_JULIA"), (None if named else shutil.which("julia"), "PATH")):
        if executable and (version := version_of(executable)):
            return {"julia": executable, "version": version, "origin": origin}
    return debian_julia.find(prefix())


def version_of(executable: str) -> str | None:
    """What `julia --version` says, or None where that is no Julia."""
    try:
        done = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"julia version (\d+\.\d+\.\d+\S*)", done.stdout)
    return found.group(1) if found else None


def release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


class Log:
    """The details of a set-up, in a file or at a path. `last` is the last line that a command left."""

    def __init__(self, target):
        self.target = target
        self.last = ""
        self.lock = threading.Lock()

    def write(self, text: str) -> None:
        with self.lock:
            if hasattr(self.target, "write"):
                self.target.write(text)
                self.target.flush()
            else:
                with open(self.target, "a") as file:
                    file.write(text)

    def run(self, command: list[str], seconds: float, environment: dict | None = None) -> tuple[int, str]:
        """Runs a command, with its lines in the log as they come; (exit code, standard output). A timeout gives the code 124.

        Where it is ended, by the timeout or by whatever ends this process, so is all that it started: Julia's own processes compile.
        """
        self.write("$ " + " ".join(command) + "\n")
        try:
            process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            self.write(f"{error}\n")
            return 127, ""
        end = time.monotonic() + seconds
        output, errors = [], []
        readers = [
            threading.Thread(target=self.follow, args=(stream, lines), daemon=True)
            for stream, lines in ((process.stdout, output), (process.stderr, errors))
        ]
        try:
            for reader in readers:
                reader.start()
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.write(f"ended after {seconds:.0f} s\n")
            code = 124
        finally:
            isolation.end(process)
        for reader in readers:
            reader.join(max(end - time.monotonic(), 1))
        self.last = next((line.strip() for line in reversed(output + errors) if line.strip()), "")
        return code, "".join(output)

    def follow(self, stream, lines: list[str]) -> None:
        with stream:
            for line in stream:
                self.write(line)
                lines.append(line)


def provide(python: str | None, log, project: str = "Project.toml", device: str = "cpu") -> dict:
    """Makes Julia usable, or finds out why it can't be had.

    Args:
        python: the interpreter of an environment with juliacall; None where there is none.
        log: an open text file, or a path, for the details.
        project: the Julia project with the packages that the environment's legs want, relative to the checkout.

    Returns:
        {"status": "ready" or "unavailable", "reason", "bridge": "juliacall" or "julia", "julia": executable, "arguments",
        "environment": variables for the worker's process, "version", "optimization": "-O1" or "-O2", "origin", "blas", "kernels": whether
        BLAS has those of this processor, "packages": {name: version} of what its legs want, "missing": [name], "note": why it is not juliacall}.
    """
    log = Log(log)
    wanted = wanted_packages(ROOT / project, device)
    bridge = os.environ.get("ROSETTA_JULIA_BRIDGE") or "any"
    if bridge not in ("any", "juliacall", "julia"):
        return unavailable(f"ROSETTA_JULIA_BRIDGE is {bridge!r}; it can be juliacall or julia")
    note = "ROSETTA_JULIA_BRIDGE asks for julia"
    if bridge != "julia":
        found, note = with_juliacall(python, home(python, project), wanted, log)
        if found:
            return found
        log.write(f"no juliacall: {note}\n")
        if bridge == "juliacall":
            return unavailable(f"ROSETTA_JULIA_BRIDGE asks for juliacall, but {note}; {WAY_OUT}")
    found, reason = with_process(wanted, log)
    if found:
        return {**found, "note": note}
    return unavailable(f"no juliacall ({note}), and no julia by itself ({reason}); {WAY_OUT}")


def unavailable(reason: str) -> dict:
    return {"status": "unavailable", "reason": reason}


def lacking(leg: Leg, found: dict) -> str:
    """Which packages that a leg loads a toolchain does not have, and the way out; empty where it has all of them."""
    missing = sorted(loaded_packages(leg.file) & set(found["missing"]))
    if not missing:
        return ""
    where = f"Julia {found['version']} ({found['origin']})" + (
        f", project {found['project']}" if found.get("project") else ""
    )
    why = f": {found['note']}" if found.get("note") else ""
    # While these are set, juliapkg is left out, whether or not there is a network.
    held = [name for name in GIVEN if os.environ.get(name)]
    held += ["ROSETTA_JULIA_BRIDGE"] if os.environ.get("ROSETTA_JULIA_BRIDGE") == "julia" else []
    first = f"unset {' and '.join(held)}, then " if held else ""
    return (
        f"{leg.framework.title} needs the Julia packages {', '.join(missing)}, which {where} does not have{why}; {first}with a network "
        f"`rosetta setup {leg.framework.environment}` fetches them; without one name a Julia and a project that have them (docs/julia.md)"
    )


def home(python: str | None, project: str) -> Path:
    """Where an environment keeps its Julia projects: in its own folder, or in the checkout where the interpreter is everybody's."""
    if python in (None, sys.executable):
        return ROOT / ".julia" / (Path(project).parent.name or "main")
    return Path(python).parent.parent


def with_juliacall(python: str | None, folder: Path, wanted: Wanted, log: Log) -> tuple[dict | None, str]:
    """(the toolchain, "") or (None, why juliacall can't be used)."""
    if python is None:
        return None, "there is no Python environment with juliacall"
    environment = {**SINGLE, "PYTHON_JULIACALL_STARTUP_FILE": "no", "JULIA_CONDAPKG_BACKEND": "Null"}
    given = [name for name in GIVEN if os.environ.get(name)]
    if len(given) == 1:
        return (
            None,
            f"{given[0]} is set without its partner: juliacall wants {' and '.join(GIVEN)}",
        )
    if given:
        origin, chosen, reason = "PYTHON_JULIACALL_EXE", given_project(folder, wanted, log), ""
    else:
        origin, chosen, reason = fetched_project(folder, wanted, log)
    if reason:
        return None, reason
    environment.update(chosen)
    # juliapkg makes the PythonCall that is wanted; juliacall may be another one since a project was given.
    project, bounds = environment.get("PYTHON_JULIACALL_PROJECT"), wanted.packages[BRIDGE_PACKAGE][1]
    bridge = installed_packages(project).get(BRIDGE_PACKAGE) if project else bounds.removeprefix("=")
    if reason := match_juliacall(python, bridge, log):
        return None, reason
    code, output = log.run([python, "-c", CHECK_JULIACALL, str(HALF)], DOWNLOAD_SECONDS, environment)
    lines = [line for line in output.splitlines() if line.startswith("ROSETTA ")]
    if code == 124:
        return None, f"juliacall did not start within {DOWNLOAD_SECONDS} s"
    if code or not lines:
        return None, f"juliacall did not start (exit code {code}: {log.last or 'no message'}; details in the log)"
    found = json.loads(lines[-1][len("ROSETTA ") :])
    # With both variables a worker starts without juliapkg: nothing is resolved or fetched while something is measured.
    environment.update(PYTHON_JULIACALL_EXE=found["julia"], PYTHON_JULIACALL_PROJECT=found["project"])
    environment.update(JULIA_PKG_OFFLINE="true")
    for name in ("PYTHON_JULIAPKG_EXE", "PYTHON_JULIAPKG_PROJECT"):
        environment.pop(name, None)
    installed = installed_packages(found["project"])
    # What a leg loads has to be the project's own, not only something that its packages brought along.
    missing = sorted(set(wanted.packages) - direct_packages(found["project"]))
    tools = {
        "status": "ready",
        "reason": "",
        "bridge": "juliacall",
        "julia": found["julia"],
        "project": found["project"],
        "packages": {name: installed[name] for name in wanted.packages if name not in missing},
        "missing": missing,
        "arguments": [],
        "environment": environment,
        "version": found["version"],
        "optimization": found["optimization"],
        "origin": origin,
        "note": "",
    }
    choose_kernels(tools, found["blas"], log)
    return tools, ""


def fetched_project(folder: Path, wanted: Wanted, log: Log) -> tuple[str, dict[str, str], str]:
    """(origin, variables of juliacall, ""): juliapkg's project, or our own where no server answers; ("", {}, why there is neither)."""
    project = folder.resolve() / "julia_env"
    request, asked = project / "pyjuliapkg" / "juliapkg.json", wanted.for_juliapkg()
    fetched = request.with_name("meta.json").exists() and request.exists() and request.read_text() == asked
    if not fetched and (server := unreachable(wanted)):
        # The packages may still lie in the depot of the Julia at hand, from an earlier time.
        local = find() or {"julia": "", "version": "0.0"}
        own = own_project(local["julia"], folder, wanted, log) if wanted.runs_on(local["version"]) else None
        if own is None:
            return "", {}, f"{server} cannot be reached, so juliapkg cannot fetch Julia or its packages"
        return local["origin"], {"PYTHON_JULIACALL_EXE": local["julia"], "PYTHON_JULIACALL_PROJECT": str(own)}, ""
    try:
        request.parent.mkdir(parents=True, exist_ok=True)
        if not (request.exists() and request.read_text() == asked):
            # juliapkg adds to a project that it finds: that of an earlier request would keep what is asked for no more.
            for old in project.glob("*.toml"):
                old.unlink()
            request.write_text(asked)
    except OSError as error:
        return "", {}, f"the Julia project cannot be made: {error}"
    chosen = {"PYTHON_JULIAPKG_PROJECT": str(project)}
    named = os.environ.get("ROSETTA_JULIA")
    if named and wanted.runs_on(version_of(named) or "0.0"):
        chosen["PYTHON_JULIAPKG_EXE"] = named
    elif named:
        log.write(f"{named} is not a Julia {wanted.julia}: juliapkg chooses one\n")
    return "juliapkg", chosen, ""


def given_project(folder: Path, wanted: Wanted, log: Log) -> dict[str, str]:
    """The variables of juliacall for the Julia that the user gave, with the user's project or, where that lacks something, our own."""
    julia, project = os.environ["PYTHON_JULIACALL_EXE"], os.environ["PYTHON_JULIACALL_PROJECT"]
    if not set(wanted.packages) <= direct_packages(project):
        own = own_project(julia, folder, wanted, log)
        project = str(own) if own else project
    return {"PYTHON_JULIACALL_EXE": julia, "PYTHON_JULIACALL_PROJECT": project}


def own_project(julia: str, folder: Path, wanted: Wanted, log: Log) -> Path | None:
    """A project with what is wanted, from the packages that this Julia has already; None where they are not all there."""
    folder = folder / "julia_project"
    text = wanted.for_pkg()
    made = folder / "Project.toml"
    if not (made.exists() and made.read_text() == text and set(wanted.packages) <= direct_packages(folder)):
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            made.write_text(text)
        except OSError as error:
            log.write(f"{folder}: {error}\n")
            return None
    program = "import Pkg; Pkg.instantiate()"
    variables = {**SINGLE, "JULIA_PKG_OFFLINE": "true", "JULIA_CONDAPKG_BACKEND": "Null"}
    code, _ = log.run([julia, "--startup-file=no", f"--project={folder}", "-e", program], DOWNLOAD_SECONDS, variables)
    return folder if code == 0 and set(wanted.packages) <= direct_packages(folder) else None


def match_juliacall(python: str, wanted: str | None, log: Log) -> str:
    """Makes juliacall the version that a project's PythonCall asks for: the two have to be equal. Why not, or ""."""
    code, output = log.run([python, "-c", "import importlib.metadata as m; print(m.version('juliacall'))"], 60)
    installed = output.strip()
    if code or not wanted or installed == wanted:
        return ""
    uv = Path(sys.executable).with_name("uv")
    remedy = [str(uv), "pip", "install", "-q", "-p", python, "--no-deps", f"juliacall=={wanted}"]
    faults = f"juliacall is {installed} and the project's {BRIDGE_PACKAGE} {wanted}, which have to be equal"
    if python == sys.executable:
        return f"{faults}; install juliacall=={wanted}"
    log.write(f"{faults}\n")
    return f"{faults}; `{' '.join(remedy)}` failed" if log.run(remedy, INSTALL_SECONDS, uv_environment())[0] else ""


HALF = ROOT / "julia" / "rosetta.jl"

CHECK_JULIACALL = """
# NumPy first, as in a worker: where its libraries and Julia's clash, it shows here.
import json, sys, numpy, juliacall
jl = juliacall.Main
# What is not compiled yet is compiled now, not while something is timed.
jl.seval("import Pkg; try Pkg.precompile() catch failure; showerror(stderr, failure); println(stderr) end")
jl.seval("path -> Base.include(Main, path)")(sys.argv[1])
found = {
    "julia": juliacall.CONFIG["exepath"],
    "project": juliacall.CONFIG["project"],
    "version": str(jl.seval("string(VERSION)")),
    "optimization": str(jl.seval('"-O$(Base.JLOptions().opt_level)"')),
    "blas": str(jl.seval("Rosetta.blas()")),
}
print("ROSETTA " + json.dumps(found))
"""


def unreachable(wanted: Wanted) -> str:
    """The first server juliapkg would need for this that does not answer, or "" where all do. Proxies are honoured."""
    package_server = os.environ.get("JULIA_PKG_SERVER") or "https://pkg.julialang.org"
    if "://" not in package_server:
        package_server = "https://" + package_server
    servers = [package_server + "/registries"]
    at_hand = os.environ.get("ROSETTA_JULIA") or shutil.which("julia") or ""
    if not wanted.runs_on(at_hand and version_of(at_hand) or "0.0"):
        servers.append("https://julialang-s3.julialang.org/bin/versions.json")
    return next((server for server in servers if not network.answers(server)), "")


def with_process(wanted: Wanted, log: Log) -> tuple[dict | None, str]:
    """(the toolchain of a plain julia, "") or (None, why there is none)."""
    found = find()
    reason = "none on PATH"
    if os.environ.get("ROSETTA_JULIA") and (found or {}).get("origin") != "ROSETTA_JULIA":
        return None, f"ROSETTA_JULIA={os.environ['ROSETTA_JULIA']} is not a julia that starts"
    if found and release(found["version"]) < OLDEST:
        reason = f"{found['julia']} is {found['version']}, older than {OLDEST[0]}.{OLDEST[1]}"
        found = debian_julia.find(prefix())
    if found is None:
        try:
            found = debian_julia.install(prefix(), log)
        except debian_julia.Failed as error:
            return None, f"{reason}; Debian's: {error}"
    tools = {
        "status": "ready",
        "reason": "",
        "bridge": "julia",
        "julia": found["julia"],
        "arguments": ["-O2"],
        "environment": {**SINGLE, **found.get("environment", {})},
        "version": found["version"],
        "optimization": "-O2",
        "origin": found["origin"],
        "packages": {},
        "missing": sorted(wanted.packages),
    }
    blas = probe(tools, log)
    if blas is None:
        return None, f"{found['julia']} ({found['version']}) does not run, details in the log"
    choose_kernels(tools, blas, log)
    if release(found["version"]) < OLDEST_WITH_OWN_LLVM_FIXES:
        level = optimization(tools, log)
        if level is None:
            return (
                None,
                f"the legs in julia/frameworks/base fail with {found['julia']} ({found['version']}), details in the log",
            )
        tools.update(arguments=[level], optimization=level)
    return tools, ""


def optimization(tools: dict, log: Log) -> str | None:
    """The highest level at which the base legs run, or None; kept beside the prefix until Julia or the legs change."""
    sources = sorted((ROOT / "julia").rglob("*.jl"))
    parts = [json.dumps(tools, sort_keys=True), *(source.read_text() for source in sources)]
    situation = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    memory = prefix().with_name("optimization.json")
    if memory.exists() and (known := json.loads(memory.read_text()))["situation"] == situation:
        return known["optimization"]
    for level in ("-O2", "-O1"):
        if trial({**tools, "arguments": [level], "optimization": level}, log):
            memory.parent.mkdir(parents=True, exist_ok=True)
            memory.write_text(json.dumps({"situation": situation, "optimization": level}) + "\n")
            return level
    return None


def probe(tools: dict, log: Log) -> str | None:
    """The BLAS of a julia that starts, includes julia/rosetta.jl and survives an exception; None of one that does not."""
    program = 'include(ARGS[1]); try error("a test") catch end; println("ROSETTA ", Rosetta.blas())'
    command = [tools["julia"], "--startup-file=no", "-O1", "-e", program, str(HALF)]
    code, output = log.run(command, 120, tools["environment"])
    lines = [line for line in output.splitlines() if line.startswith("ROSETTA ")]
    return lines[-1][len("ROSETTA ") :] if code == 0 and lines else None


KERNELS = {
    "Haswell": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
}
"""OpenBLAS's kernels, the better ones last, with the processor's flags that they need."""

EQUALS = {
    "Haswell": {"haswell", "zen", "excavator"},
    "SkylakeX": {"skylakex", "cooperlake", "sapphirerapids"},
}
"""Names under which OpenBLAS has kernels of the same kind."""


def choose_kernels(tools: dict, blas: str, log: Log) -> None:
    """Asks OpenBLAS for kernels that fit the processor, where it is older and chose some that are two to four times slower."""
    tools.update(blas=blas, kernels="")
    possible = [name for name, needed in KERNELS.items() if needed <= processor_flags()]
    words = {word.strip(",").lower() for word in blas.split()}
    if not possible or "openblas" not in words:
        return
    tools["kernels"] = f"the kernels of this processor ({possible[-1]})"
    if words & EQUALS[possible[-1]]:
        return
    if not os.environ.get("OPENBLAS_CORETYPE"):
        trying = {**tools, "environment": {**tools["environment"], "OPENBLAS_CORETYPE": possible[-1]}}
        chosen = probe(trying, log)
        if chosen and possible[-1].lower() in chosen.lower():
            log.write(f"{blas} does not know this processor: OPENBLAS_CORETYPE={possible[-1]}\n")
            tools.update(environment=trying["environment"], blas=chosen)
            return
    tools["kernels"] = f"slow kernels: {possible[-1]} would be this processor's"


def processor_flags() -> set[str]:
    """The instruction sets of this processor, as Linux names them; empty where that is not known."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(found.group(1).split()) if found else set()


def trial(tools: dict, log: Log) -> bool:
    """Whether the base legs survive one step of each verb in each precision, as they will be called."""
    log.write(f"trial of {tools['julia']} {tools['optimization']}\n")
    with ThreadPoolExecutor() as pool:
        failures = [failure for failure in pool.map(lambda name: try_leg(tools, name), ("cnn", "rnn")) if failure]
    for failure in failures:
        log.write(failure + "\n")
    return not failures


def try_leg(tools: dict, name: str) -> str:
    """Runs each verb once on made-up samples; what went wrong, or ""."""
    import numpy as np

    from rosetta.initial import draw
    from rosetta.tasks import TASKS
    from rosetta.worker.job import Unavailable
    from rosetta.worker.julia import open_julia_process

    task = TASKS[name]
    x = np.zeros((4, *task.shape), np.float32 if name == "cnn" else np.int64)
    job = SimpleNamespace(
        root=str(ROOT),
        file=str(ROOT / "julia" / "frameworks" / "base" / f"{name}.jl"),
        toolchain=tools,
        task=SimpleNamespace(device="cpu", precision="fp32"),
        libraries=(),
    )
    leg = None
    try:
        leg = open_julia_process(job)
        for precision in ("fp32", "fp64"):
            settings = task.for_worker(batch=4, precision=precision, device="cpu", threads=1, dropout=True)
            model = leg.build(SimpleNamespace(**settings), draw(task))
            placed, labels = leg.place(model, x), leg.place(model, np.zeros(4, np.int64))
            leg.train(model, placed, labels, np.arange(4))
            leg.predict(model, placed)
            leg.weights(model)
    except (RuntimeError, Unavailable) as error:
        return f"{name}: {error}"
    finally:
        if leg is not None:
            leg.close()
    return ""
