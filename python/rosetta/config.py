"""The settings of a run: config/config.yaml, the profile it names, and what the command line overrides."""

import difflib
import hashlib
import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from rosetta.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
BUDGETS = ("budget_seconds", "scoring_seconds")


class ConfigError(Exception):
    """A setting that is unknown or impossible."""


def guess(word: str, known: Iterable[str]) -> str:
    """Of the known words the one that was probably meant; empty where none is near."""
    return next(iter(difflib.get_close_matches(word, known, n=1)), "")


@dataclass(frozen=True)
class Settings:
    """All settings, checked.

    Attributes:
        legs: words, each of which means legs; see frameworks.matches.
        work: {task: {batch, samples, epochs, test_samples}}.
        budget_seconds: how long a round may train while it is timed; None: as long as the work takes.
        scoring_seconds: how long a round may score test samples; None: until all are scored.
        proof: `whole` (every precision takes all steps at the timed batch) or `small` (see `Plan.comparisons`).
        overrides: what the command line asked for beside config.yaml, as sorted words KEY=VALUE.
    """

    profile: str
    legs: tuple[str, ...]
    device: str
    precision: str
    threads: int
    data: str
    data_folder: str
    accept_other_checksum: bool
    deployment: str
    rounds: int
    warm_up: int
    timeout_seconds: float
    proof_steps: int
    work: dict[str, dict[str, int]]
    budget_seconds: float | None = None
    scoring_seconds: float | None = None
    proof: str = "whole"
    overrides: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        values = {key: value for key, value in asdict(self).items() if key != "overrides"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def variation(self) -> str:
        """A suffix for settings that change what is measured, beside the profile, the device and the precision."""
        changed = [
            word for word in self.overrides if word.partition("=")[0] not in ("profile", "device", "precision", "legs")
        ]
        return "-" + hashlib.sha256(json.dumps(changed).encode()).hexdigest()[:6] if changed else ""


def load(overrides: dict[str, Any] | None = None) -> Settings:
    """The settings, or ConfigError with the key, what is wrong and what would be right.

    Args:
        overrides: keys of config.yaml or of a profile; a mapping is merged, anything else replaces.
            Default: the JSON in the variable ROSETTA_CONFIG, which is how a pipeline hands its own down.
    """
    if overrides is None:
        overrides = json.loads(os.environ.get("ROSETTA_CONFIG", "{}"))
    for key in BUDGETS:
        if overrides.get(key, "null") in ("", None):  # Snakemake gives None for an empty value, and null as text
            raise ConfigError(f"{key}: the value is empty; write a number of seconds, or null for no budget")
    overrides = {key: value if key == "legs" else typed(value) for key, value in overrides.items()}
    values = {**yaml.safe_load((CONFIG / "config.yaml").read_text()), **overrides}
    values = merge(merge(profile(values["profile"]), values), overrides)
    values["legs"] = leg_words(values["legs"])
    check(values)
    values.update(legs=tuple(values["legs"]), threads=values["threads"] or usable_cores())
    return Settings(**values, overrides=tuple(words(overrides)))


def typed(value: Any) -> Any:
    """A value of the command line, with its type.

    Snakemake knows numbers as Python writes them, but gives null, true and false as text, and all that is in a mapping. `rosetta -c` gives
    text alone. Both come out alike here.
    """
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if not isinstance(value, str) or not value.strip():
        return value
    if value.strip().lower() == "none":
        return None
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def leg_words(value: Any) -> list[str]:
    """The words of `core more`, `core,more` or `[core, more]`. No word is read as a number, a truth value or a comment."""
    if isinstance(value, str) and value.strip().startswith("["):
        with suppress(yaml.YAMLError):  # a pattern such as [pr]*/cnn
            value = yaml.safe_load(value)
    words = value if isinstance(value, list) else str("" if value is None else value).replace(",", " ").split()
    if not words:
        raise ConfigError("legs: name at least one leg, group or language; `rosetta list` shows them")
    return [str(word) for word in words]


def put(values: dict, key: str, value: Any) -> None:
    """Sets a value in a mapping of mappings; a dot in the key reaches one further in."""
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = value


def for_snakemake(options: list[str]) -> list[str]:
    """KEY=VALUE words as `snakemake --config` takes them: it knows no dots, but mappings."""
    values = {}
    for option in options:
        key, _, value = option.partition("=")
        put(values, key, value)
    return [f"{key}={json.dumps(value) if isinstance(value, dict) else value}" for key, value in values.items()]


def words(overrides: dict, prefix: str = "") -> list[str]:
    """Overrides as KEY=VALUE, a dot for each level, sorted."""
    found = []
    for key, value in sorted(overrides.items()):
        text = value if isinstance(value, str) else json.dumps(value)
        found += words(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}={text}"]
    return found


def profile(name: str) -> dict:
    known = sorted(path.stem for path in (CONFIG / "profiles").glob("*.yaml"))
    if name not in known:
        raise ConfigError(
            f"profile: there is no {name!r}; choose one of {', '.join(known)}, or add config/profiles/{name}.yaml"
        )
    return yaml.safe_load((CONFIG / "profiles" / f"{name}.yaml").read_text())


def merge(base: dict, top: dict) -> dict:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged


def check(values: dict) -> None:
    schema = yaml.safe_load((CONFIG / "config.schema.yaml").read_text())
    error = jsonschema.Draft202012Validator(schema).iter_errors(values)
    if first := next(error, None):
        key = ".".join(map(str, first.absolute_path))
        if first.validator == "additionalProperties":
            raise ConfigError(unknown(key, first.instance, first.schema["properties"]))
        message = f"{key}: {first.message}" if key else first.message
        raise ConfigError(f"{message}; see config/config.yaml and config/config.schema.yaml")
    for key in BUDGETS:
        if values.get(key) is None:
            continue
        if not math.isfinite(values[key]):
            raise ConfigError(f"{key}: {values[key]} is no number of seconds; write null for no budget")
        if values["profile"] == "full":
            raise ConfigError(
                f"{key}: the profile full runs the whole published job; leave {key} out, or choose profile=quick"
            )
    for name, work in values["work"].items():
        task = TASKS[name]
        least = work["batch"] * (values["proof_steps"] if task.trained else 1)
        for key, size in (("samples", task.train), ("test_samples", task.test)):
            if task.trained and not 1 <= work[key] <= size:
                raise ConfigError(f"work.{name}.{key}: {work[key]} is not between 1 and {size}, the size of the data")
        if work["samples"] < work["batch"]:
            raise ConfigError(f"work.{name}.samples: {work['samples']} is less than one batch of {work['batch']}")
        if task.trained and least > task.train:
            raise ConfigError(
                f"work.{name}.batch: the proof's {values['proof_steps']} steps need {least} samples, there are {task.train}"
            )
        if not task.trained and work["samples"] % work["batch"]:
            raise ConfigError(
                f"work.{name}.samples: {work['samples']} is not a whole number of batches of {work['batch']}"
            )


def unknown(place: str, found: dict, known: dict) -> str:
    """One line about the first key that there is not, with the one that was probably meant."""
    word = next(key for key in found if key not in known)
    near = guess(word, known)
    dotted = f"{place}." if place else ""
    meant = f"; did you mean {dotted}{near}? See" if near else "; see"
    return f"there is no setting {dotted + word!r}{meant} config/config.yaml and config/config.schema.yaml"


def usable_cores() -> int:
    """Cores that this process may use: its affinity, bounded by the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
