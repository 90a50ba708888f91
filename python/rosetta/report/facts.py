"""What ran on what, when, from which software, and what a reader must know before believing a number."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from .. import config, frameworks
from ..frameworks import GROUPS, Leg
from ..measuring import BUSY_PERCENT
from . import results, words

OLD_JULIA = (1, 10)
"""Julia before this is years old: long-term support since 2024 is 1.10."""


@dataclass
class Banner:
    """A warning that stands on top. `mark` is its short form for captions and copied tables."""

    title: str
    text: str
    mark: str = ""


def machine_words(machine: dict) -> str:
    """One line that names a machine: what tells it from another, and nothing that changes from minute to minute."""
    gpus = [gpu["name"] for gpu in machine.get("gpus") or []]
    parts = [*gpus, machine.get("processor")]
    parts += [
        f"{machine[name]} {unit}"
        for name, unit in (("cores", "cores"), ("memory_gib", "GiB of memory"))
        if machine.get(name)
    ]
    return ", ".join(filter(None, parts)) or "an unnamed machine"


def flattened(machine: dict, prefix: str = "") -> list[tuple[str, str]]:
    """Every fact of a machine as (name, text)."""
    facts = []
    for name, value in machine.items():
        name = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, dict):
            facts += flattened(value, f"{name} ")
        elif isinstance(value, list):
            facts += flattened({str(number): item for number, item in enumerate(value, 1)}, f"{name} ")
        elif value not in (None, ""):
            facts.append((name, str(value)))
    return facts


def different(legs: list[dict], of) -> list:
    """The different values of `of(run)` over all rounds, in the order of their first appearance."""
    return list(dict.fromkeys(of(run) for leg in legs for run in results.runs_of(leg)))


def gather(legs: list[dict]) -> dict:
    """The facts of the header and of the last section."""
    runs = [run for leg in legs for run in results.runs_of(leg)]
    of = lambda name: different(legs, lambda run: run["provenance"][name])  # noqa: E731
    return {
        "legs": len(legs),
        "ranked": sum(map(results.is_ranked, legs)),
        "frameworks": len({(leg["language"], leg["framework"]) for leg in legs}),
        "languages": [
            results.LANGUAGES.get(name, name)
            for name in dict.fromkeys(
                leg["language"] for leg in sorted(legs, key=lambda leg: results.order_of(leg)[2:])
            )
        ],
        "tasks": [words.task_title(name) for name in dict.fromkeys(leg["task"] for leg in legs)],
        "profiles": different(legs, lambda run: run["profile"]),
        "devices": different(legs, lambda run: run["device"]),
        "precisions": different(legs, lambda run: run["precision"]),
        "threads": different([leg for leg in legs if leg["rounds"]] or legs, lambda run: run["threads"]),
        "rounds": rounds_words(legs),
        "machines": different(legs, lambda run: machine_words(run["machine"])),
        "machine_facts": flattened(runs[-1]["machine"]) if runs else [],
        "data": data_statements(legs),
        "when": words.when(run["provenance"]["date"] for run in runs),
        "commits": of("commit"),
        "dirty": any(run["provenance"]["dirty"] for run in runs),
        "configs": of("config_sha256"),
        "locks": of("lock_sha256"),
        "commands": of("command"),
        "seconds": sum(run["outer_seconds"] for leg in legs for run in leg["rounds"]),
    }


def rounds_words(legs: list[dict]) -> str:
    """`3 processes each`; `1 to 3 processes each` where some were not timed as often as others."""
    counts = [len(results.good_rounds(leg)) for leg in legs if results.good_rounds(leg)]
    if not counts:
        return "no process timed"
    few, many = min(counts), max(counts)
    return f"{words.plural(many, 'process')} each" if few == many else f"{few} to {words.plural(many, 'process')} each"


def data_statements(legs: list[dict]) -> list[tuple[str, str, str, str]]:
    """(task's title, source, statement, sha256), each combination once."""
    return list(
        dict.fromkeys(
            (words.task_title(leg["task"]), run["data"]["source"], run["data"]["statement"], run["data"]["sha256"])
            for leg in legs
            for run in results.runs_of(leg)
            if results.has_data(run)
        )
    )


def banners(legs: list[dict], running: bool = False) -> list[Banner]:
    """What a reader must know first, the gravest on top."""
    checks = (
        synthetic(legs),
        other_archive(legs),
        part(legs),
        busy(legs),
        implausible(legs),
        toolchain(legs),
        None if running else none_ranked(legs),
        mixed(legs),
        dirty(legs),
    )
    return [banner for banner in checks if banner]


def synthetic(legs):
    tasks = list(dict.fromkeys(words.task_title(leg["task"]) for leg in legs if results.is_synthetic(leg)))
    if tasks:
        everywhere = all(results.is_synthetic(leg) for leg in legs if results.has_data(results.typical_run(leg)))
        text = (
            f"{words.listed(tasks)}: arrays of the right shape with an invented signal, not the real data. "
            "The work is the same, so times keep their meaning; accuracies have none."
        )
        return Banner(
            "Synthetic data", text, "synthetic data" if everywhere else f"synthetic data in {words.listed(tasks)}"
        )


def other_archive(legs):
    tasks = [
        words.task_title(leg["task"])
        for leg in legs
        if "another checksum" in results.typical_run(leg)["data"]["source"]
    ]
    if tasks:
        text = f"{words.listed(dict.fromkeys(tasks))}: the archive was accepted although its checksum is not the published one."
        return Banner("Another archive", text, "archive with another checksum")


def part(legs):
    parts = [leg for leg in legs if not results.is_full(results.typical_run(leg)["work"])]
    if parts:
        jobs = dict.fromkeys(
            f"{words.task_title(leg['task'])}: {words.job(leg['task'], work)}, the full job is {words.full_job(leg['task'], work)}"
            for leg in parts
            for work in [results.typical_run(leg)["work"]]
        )
        profiles = words.listed(dict.fromkeys(leg["profile"] for leg in parts))
        return Banner(f"Profile {profiles}: a part of the job", "; ".join(jobs) + ".", f"profile {profiles}")


def busy(legs):
    loads = [
        (load, leg["leg"])
        for leg in legs
        for load in results.known(run.get("other_load_percent") for run in leg["rounds"])
    ]
    worst = max(loads, default=(0, ""))
    if worst[0] > BUSY_PERCENT:
        count = sum(load > BUSY_PERCENT for load, _ in loads)
        text = (
            f"Other programs used up to {worst[0]:.0f} % of the processor just before a round ({worst[1]}); {count} of "
            f"{words.plural(len(loads), 'round')} saw more than {BUSY_PERCENT} %. Such times are too long by an unknown amount: "
            "repeat them on a quiet machine."
        )
        return Banner("Busy machine", text, "busy machine")


def implausible(legs):
    """Of a leg that is `ok` all the same, only the rounds that were rejected."""
    reasons = {leg["leg"]: run["reason"] for leg in legs for run in leg["rounds"] if run["status"] == "invalid"}
    if reasons:
        each = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        text = (
            f"Rounds of {words.plural(len(reasons), 'leg')} measured something impossible and were rejected ({each})."
        )
        return Banner("Failed plausibility", text, f"failed plausibility: {words.listed(reasons)}")


def none_ranked(legs):
    """Not on a page that is made during a run: its results are still to come."""
    if not any(map(results.is_ranked, legs)):
        return Banner("No result", "No leg both ran and passed the proof. The reasons stand below.")


def mixed(legs):
    machines = different(legs, lambda run: machine_words(run["machine"]))
    commits = different(legs, lambda run: words.short(run["provenance"]["commit"]))
    texts = []
    if len(machines) > 1:
        texts.append(f"{len(machines)} machines ({'; '.join(machines)}), which are never ranked against each other")
    if len(commits) > 1:
        texts.append(f"{len(commits)} versions of this software ({words.listed(commits)})")
    if texts:
        return Banner("Mixed records", "The records come from " + " and from ".join(texts) + ".")


def dirty(legs):
    if any(run["provenance"]["dirty"] for leg in legs for run in leg["rounds"]):
        return Banner(
            "Uncommitted changes",
            "Some rounds ran from a checkout with changes that no commit holds, so nobody else can repeat them exactly.",
        )


def julia_version(leg: dict) -> tuple | None:
    """(major, minor) of a Julia leg."""
    found = re.search(r"(\d+)\.(\d+)", results.typical_run(leg)["versions"].get("julia", ""))
    return tuple(map(int, found.groups())) if leg["language"] == "julia" and found else None


def old_julia(legs: list[dict]) -> str:
    """The version of a Julia that is too old to judge the language by; empty where there is none."""
    old = {
        results.typical_run(leg)["versions"]["julia"].split()[0]
        for leg in legs
        if (julia_version(leg) or OLD_JULIA) < OLD_JULIA
    }
    return words.listed(sorted(old))


def toolchain(legs):
    if old := old_julia(legs):
        text = (
            f"Julia {old} is years behind the current release and may run with reduced optimization: "
            "its times say little about Julia as it is today."
        )
        return Banner("Old Julia", text, f"old Julia {old}")


def marks(legs: list[dict]) -> str:
    """The short forms of the warnings that hold for these legs, for the caption of a table that someone copies."""
    checks = (synthetic, other_archive, part, busy, implausible, toolchain)
    return ", ".join(banner.mark for check in checks if (banner := check(legs)))


def for_snakemake(options: list[str]) -> list[str]:
    """KEY=VALUE words as `snakemake --config` takes them, quoted for a shell."""
    return [shlex.quote(word) for word in config.for_snakemake(options)]


def left_out_words(left_out: Sequence[Leg], settings: Sequence[str], language: str = "") -> tuple[str, str]:
    """What a report leaves out, and the command that adds it; both empty where it has every leg.

    Args:
        settings: KEY=VALUE words of the run that makes the report; the command repeats them.
        language: whose page it is; empty for the page of all.
    """
    if not left_out:
        return "", ""
    found = {leg.framework.group for leg in left_out}
    groups = [name for name in GROUPS if name in found]
    of = f"the {'group' if len(groups) == 1 else 'groups'} {words.listed(groups)}"
    given = [word for word in settings if word.partition("=")[0] != "legs"]
    if language or any(re.search(r"[\s'$]", word) for word in given):
        # `make report` makes no page of one language, and the Makefile takes no word with a blank, a quote or a dollar.
        options = [part for word in given for part in ("-c", word)]
        command = shlex.join(["rosetta", "bench", *filter(None, [language]), "--legs", language or "all", *options])
    else:
        command = "make report LEGS=all" + (f" CONFIG={shlex.quote(' '.join(given))}" if given else "")
    return f"Not in this report: {words.plural(len(left_out), 'leg')} of {of}.", command


def chosen(legs: list[dict]) -> list[str]:
    """The setting `legs` that asks for all that a page shows; none where that is the default. Its records may come from several runs, each
    with its own choice, or from `rosetta run`, which has none.
    """
    default = list(config.load({}).legs)
    asked = {}
    for leg in legs:
        given = [it[5:] for it in results.typical_run(leg)["provenance"].get("overrides", []) if it.startswith("legs=")]
        asked.update(dict.fromkeys(legs_words(given[0]) if given else default))
    known = {leg.name: leg for leg in frameworks.discover()}
    shown = [known[leg["leg"]] for leg in legs if leg["leg"] in known]
    missed = [leg for leg in shown if not any(frameworks.matches(leg, word) for word in asked)]
    asked.update(dict.fromkeys(f"{leg.framework.language}/{leg.framework.name}" for leg in missed))
    return [] if list(asked) == default else [f"legs={' '.join(asked)}"]


def legs_words(text: str) -> list[str]:
    """The words of a setting `legs` as a record keeps it: a text, or a list in JSON."""
    return json.loads(text) if text.startswith("[") else text.replace(",", " ").split()


def reproduction(legs: list[dict], page: str) -> list[str]:
    """The commands that make the page again, and one leg alone: the settings that are not the defaults, and the number of threads.

    Empty while no leg has a round: a proof says nothing of the threads that were asked for.
    """
    timed = [leg for leg in legs if leg["rounds"]]
    if not timed:
        return []
    commit = words.short(next(filter(None, different(legs, lambda run: run["provenance"]["commit"])), "COMMIT"))
    run = results.typical_run(timed[0])
    options = [f"{name}={run[name]}" for name in ("profile", "device", "precision", "threads")]
    given = run["provenance"].get("overrides", [])
    elsewhere = ("profile", "device", "precision", "threads", "legs")
    options += [word for word in given if word.partition("=")[0] not in elsewhere] + chosen(legs)
    if any(map(results.is_synthetic, legs)) and "data=synthetic" not in options:
        options.append("data=synthetic")
    command = f".venv/bin/snakemake --cores 1 {page} --config {' '.join(for_snakemake(options))}"
    one = f".venv/bin/{run['provenance']['command']}"
    if " threads=" not in one:
        one += f" -c threads={run['threads']}"
    return [f"git checkout {commit}", "make setup", command, "", "# one leg alone", one]
