"""Frameworks and legs: found by their folders, described by their framework.toml."""

import fnmatch
import functools
import shutil
import subprocess
import sys
from dataclasses import MISSING, dataclass, field
from pathlib import Path

from rosetta import interpreters, machine
from rosetta.config import ROOT, ConfigError, Settings, guess
from rosetta.tasks import TASKS, Task

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LANGUAGES = {"python": ".py", "julia": ".jl", "r": ".R"}
GROUPS = ("core", "more", "historic")
"""How many people compare a framework today: what most compare, other maintained ones and variants, what is no longer developed."""
ALL = "all"
"""The word for every leg."""


@dataclass(frozen=True)
class Framework:
    """A folder LANGUAGE/frameworks/NAME with a framework.toml and a file for each task.

    Attributes:
        environment: the set of packages its legs run in; python/environments holds its requirements and their lock.
        group: how many people compare it today; one of GROUPS.
        precisions: what it can compute; fp64 is for the proof alone.
        computes: the one precision it has, where it cannot follow the one asked for; else empty.
        libraries: Python modules whose versions are recorded.
        files: the sibling folder whose files this row runs; empty: its own.
        programs: {program that its legs start, such as a compiler: Debian's package that has it}; "cpu/clang" on that device alone.
            "Python.h" stands for the interpreter's own headers, which compiled extensions include; `{release}` in a package's name is the
            interpreter's, such as 3.11.
        uses: further sibling folders whose files its legs import.
        variables: variables of its processes; `{threads}` stands for the number of threads.
        options: further fields of `task`, by which rows that share their files differ.
        unsupported: {"cuda", "tf32", "cpu/bf16", "rnn", "cuda/bf16/rnn" ...: why it cannot be had}. "cuda12" is for
            environments alone: what the driver's CUDA excludes there may well be had with deployment=current.
        as_shipped: {task: what the library's own layer or optimizer does otherwise than the reference}.
        mapping: {"convolution", "gru", "adam" ...: how this library wants what the canonical weights hold}.
        published: FRAMEWORK/API under which published_results.csv has its figures of 2018; empty: none.
        retired: what became of a framework that can no longer be run anywhere; it has no files.
    """

    name: str
    title: str
    language: str
    homepage: str
    environment: str
    group: str
    tasks: tuple[str, ...]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    libraries: tuple[str, ...]
    upstream: str
    summary: str
    computes: str = ""
    variant: str = ""
    files: str = ""
    uses: tuple[str, ...] = ()
    published: str = ""
    retired: str = ""
    programs: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    as_shipped: dict[str, str] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return ROOT / self.language / "frameworks" / (self.files or self.name)

    @property
    def shared_folders(self) -> list[str]:
        """Folders whose files its legs import besides their own."""
        return [str(self.folder.with_name(name)) for name in self.uses]

    def programs_on(self, device: str) -> dict[str, str]:
        """{program: Debian's package} of what its legs start on a device."""
        named = {key.rpartition("/"): package for key, package in self.programs.items()}
        return {program: package for (only, _, program), package in named.items() if only in ("", device)}

    def variables_for(self, threads: int) -> dict[str, str]:
        """The variables of its processes."""
        return {name: value.format(threads=threads) for name, value in self.variables.items()}


@dataclass(frozen=True)
class Leg:
    framework: Framework
    task: Task

    @property
    def name(self) -> str:
        return f"{self.framework.language}/{self.framework.name}/{self.task.name}"

    @property
    def compiles(self) -> bool:
        """Whether each of its processes compiles a library for most of a minute, as those of Julia's libraries do."""
        return self.framework.language == "julia" and self.framework.name != "base"

    @property
    def identifier(self) -> str:
        """The name as one word."""
        return self.name.replace("/", "_").replace("-", "_")

    @property
    def file(self) -> Path:
        return self.framework.folder / (self.task.name + LANGUAGES[self.framework.language])

    def for_worker(self, **settings) -> dict:
        """The fields that its file sees as `task`: those of Task.for_worker and the framework's own."""
        return self.task.for_worker(dropout=True, as_shipped=False, **settings, **self.framework.options)

    @property
    def shared_files(self) -> list[Path]:
        """The files besides its own that its code stands on.

        Of the framework's folder all that are no leg's; of the folders that it uses those, and the file of the same task. Of files that
        are there once for each backend (on_jax.py, on_torch.py) only the one that the framework's variables name.
        """
        folders = [self.framework.folder, *map(Path, self.framework.shared_folders)]
        found = [path for it in folders for path in sorted(it.glob("*" + LANGUAGES[self.framework.language]))]
        others = TASKS.keys() - {self.task.name}
        return [it for it in found if it != self.file and it.stem not in others and self.names_backend(it)]

    def names_backend(self, path: Path) -> bool:
        return not path.stem.startswith("on_") or path.stem.removeprefix("on_") in self.framework.variables.values()

    def sources(self) -> list[Path]:
        """Everything whose change calls for a new run: its own file, those it stands on, and the code that drives and times it."""
        language = self.framework.language
        halves = {"python": [], "julia": [ROOT / "julia" / "rosetta.jl"], "r": [ROOT / "r" / "rosetta.R"]}
        bridges = LANGUAGES.keys() - {language}
        worker = [path for path in (ROOT / "python" / "rosetta" / "worker").glob("*.py") if path.stem not in bridges]
        own = [] if self.framework.retired else [self.file]
        return sorted([*own, *self.shared_files, *halves[language], *worker])


def read(path: Path) -> Framework:
    values = tomllib.loads(path.read_text())
    fields = Framework.__dataclass_fields__
    unknown = sorted(set(values) - set(fields))
    needed = [name for name, field in fields.items() if field.default is MISSING and field.default_factory is MISSING]
    missing = sorted(name for name in needed if name not in values)
    if unknown or missing:
        faults = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise ConfigError(
            f"{path.relative_to(ROOT)}: {'; '.join(faults)}; compare python/frameworks/numpy/framework.toml"
        )
    if values["group"] not in GROUPS:
        raise ConfigError(f"{path.relative_to(ROOT)}: group: {values['group']!r} is not one of {', '.join(GROUPS)}")
    return Framework(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


@functools.cache
def discover() -> tuple[Leg, ...]:
    """Every leg of every framework, Python first, in a fixed order."""
    legs = []
    for language in LANGUAGES:
        for path in sorted((ROOT / language / "frameworks").glob("*/framework.toml")):
            framework = read(path)
            legs.extend(Leg(framework, TASKS[task]) for task in framework.tasks)
    return tuple(legs)


def select(words: tuple[str, ...] | list[str]) -> list[Leg]:
    """Legs that one of the words means; ConfigError for a word that means none."""
    legs = discover()
    for word in words:
        if not any(matches(leg, word) for leg in legs):
            raise ConfigError(unknown(word))
    return [leg for leg in legs if any(matches(leg, word) for word in words)]


def matches(leg: Leg, word: str) -> bool:
    """Whether a word means a leg.

    It may be a name (`python/numpy/cnn`), the front of one (`python`, `python/numpy`), a pattern (`*/cnn`), a group (`core`), a group in one
    language (`core/python`), or `all`.
    """
    word = word.rstrip("/")
    group, _, language = word.partition("/")
    if group in GROUPS:
        return group == leg.framework.group and language in ("", leg.framework.language)
    return word == ALL or fnmatch.fnmatchcase(leg.name, word) or leg.name.startswith(f"{word}/")


def unknown(word: str) -> str:
    """One line about a word that means no leg, with the word that was probably meant."""
    known = {name: name for name in (ALL, *GROUPS, *LANGUAGES)}
    for leg in discover():
        framework = f"{leg.framework.language}/{leg.framework.name}"
        for name in (leg.name, framework, f"{leg.framework.group}/{leg.framework.language}"):
            known[name] = name
        known.setdefault(leg.framework.name, framework)
    group, _, language = word.partition("/")
    if group in GROUPS and language not in LANGUAGES:
        near = guess(language, LANGUAGES)
        meant = f"; did you mean {group}/{near}?" if near else "."
        return f"no leg, language or group is called {word!r}{meant} The languages are {', '.join(LANGUAGES)}"
    near = guess(word, known)
    meant = f"; did you mean {known[near]}?" if near else "."
    return (
        f"no leg, language or group is called {word!r}{meant} The groups are {', '.join(GROUPS[:-1])} and {GROUPS[-1]}; "
        "`rosetta list` shows all legs"
    )


def unsupported(leg: Leg, settings: Settings) -> str:
    """Why a leg cannot do what the settings ask for, whatever the machine; empty when it can."""
    framework, device, precision = leg.framework, settings.device, settings.precision
    if (device, precision) == ("cpu", "tf32"):
        return "TF32 is a format of NVIDIA GPUs; on a CPU choose fp32 or bf16"
    task, both = leg.task.name, f"{device}/{precision}"
    for key in (device, precision, both, task, f"{precision}/{task}", f"{both}/{task}"):
        if key in framework.unsupported:
            return f"{framework.title} has no {key} here: {framework.unsupported[key]}"
    if device not in framework.devices:
        return f"{framework.title} has no {device} here: its devices are {', '.join(framework.devices)}"
    if precision not in framework.precisions:
        return f"{framework.title} has no {precision} here: its precisions are {', '.join(framework.precisions)}"
    return ""


NO_GPU = "no NVIDIA GPU answers here: `nvidia-smi` has to list one, or run with device=cpu"


def unreachable(leg: Leg, settings: Settings, python: str) -> str:
    """Why the device asked for, or a program that the leg starts, cannot be had on this machine; empty when they can.

    Args:
        python: the interpreter that the leg runs in.
    """
    for program, package in leg.framework.programs_on(settings.device).items():
        if not is_there(program, python):
            package = of_release(package, python)
            needed = f"the headers of {python}" if program == HEADER else f"the program {program}, which is not on PATH"
            return f"{leg.framework.title} needs {needed}; on Debian and Ubuntu: sudo apt-get install {package}"
    if settings.device != "cuda":
        return ""
    if not machine.gpus():
        return NO_GPU
    if settings.deployment == "isolated" and machine.cuda_version() < machine.CUDA_13:
        return leg.framework.unsupported.get("cuda12", "")
    return ""


HEADER = "Python.h"


def is_there(program: str, python: str) -> bool:
    """Whether a program is on PATH, or the header of an interpreter where its build looks for it."""
    return has_header(python) if program == HEADER else shutil.which(program) is not None


def of_release(package: str, python: str) -> str:
    """The name of Debian's package, `{release}` in it being that of an interpreter, such as 3.11."""
    if "{release}" not in package:
        return package
    version = interpreters.version_of(python)
    return package.format(release=f"{version.major}.{version.minor}" if version else "3")


def has_header(python: str) -> bool:
    """Debian keeps the headers of its Python in a package of their own."""
    code = f"import os, sysconfig; print(os.path.exists(os.path.join(sysconfig.get_path('include'), '{HEADER}')))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return True  # there is no such interpreter, which is said where the leg is started
    return done.stdout.strip() == "True"
