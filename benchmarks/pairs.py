"""How much longer one leg takes than another of the same task: in turn, each in fresh processes, so that what the machine does meanwhile hits both.

    .venv/bin/python benchmarks/pairs.py r/keras/rnn python/keras-tensorflow/rnn --rounds 5        after `make report` or `rosetta setup`
    .venv/bin/python benchmarks/pairs.py 'python/jax/*' --against ../before                       each leg and its files in another checkout

Prints, for each pair, both medians, the ratio of the first to the second with its 95 % interval, and the ratio of their fastest epochs.
A benchmark and no test: its result depends on how busy the machine is.
"""

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from overhead import NO_BUDGET, Failed, harness, made_for
from rosetta import cli
from rosetta.config import ROOT, ConfigError
from rosetta.frameworks import Framework, Leg
from rosetta.plan import Plan
from rosetta.report.statistics import ratio_interval


@dataclass(frozen=True)
class Copy(Framework):
    """A framework whose legs' files are those of another checkout; the harness, the environment and the data are of this one."""

    root: Path = ROOT

    @property
    def folder(self) -> Path:
        return self.root / super().folder.relative_to(ROOT)


def main(
    legs: Annotated[list[str], typer.Argument(help="two legs of a task, or several times two")],
    rounds: Annotated[int, typer.Option(help="fresh processes of each leg")] = 5,
    against: Annotated[
        Path | None, typer.Option(help="another checkout, with whose files each leg is compared")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE")] = None,
):
    with cli.plain_errors():
        plan = Plan.of(cli.settings([*(overrides or []), "rounds=1", *NO_BUDGET]), legs, apart=True)
        compare(plan, copies(plan, against.resolve()) if against else pairs(plan, legs), rounds)


def pairs(plan: Plan, legs: list[str]) -> list[tuple[Leg, Leg]]:
    by_name = {leg.name: leg for leg in plan.legs}
    chosen = [by_name.get(name) for name in legs]
    if len(legs) % 2 or None in chosen or any(a.task is not b.task for a, b in zip(chosen[::2], chosen[1::2])):
        raise ConfigError(
            "name two legs, or several times two, each with its task: r/keras/rnn python/keras-tensorflow/rnn"
        )
    return list(zip(chosen[::2], chosen[1::2]))


def copies(plan: Plan, checkout: Path) -> list[tuple[Leg, Leg]]:
    """Each leg beside itself in another checkout."""
    found = [(leg, replace(leg, framework=Copy(**vars(leg.framework), root=checkout))) for leg in plan.legs]
    missing = [copy.file for _, copy in found if not copy.file.exists()]
    if missing:
        raise ConfigError(f"--against {checkout}: it has no {missing[0]}; name a checkout that has the legs")
    return found


def compare(plan: Plan, chosen: list[tuple[Leg, Leg]], rounds: int) -> None:
    print(f"{'legs':<50} {'seconds':>17} {'ratio':>6}  95 % interval  fastest")
    for first, second in chosen:
        names = first.name if first.name == second.name else f"{first.name} {second.name}"
        made = [made_for(plan, leg) for leg in (first, second)]
        if reason := " ".join(reason for _, reason in made).strip():
            print(f"{names}: {reason}")
            continue
        sides = [], []
        try:
            for number in range(rounds):
                turns = list(zip((first, second), made, sides))
                for leg, (environment, _), side in reversed(turns) if number % 2 else turns:
                    side.append(harness(plan, leg, environment))
        except Failed as error:
            print(f"{names}: {error}")
            continue
        medians = [statistics.median(sum(side, [])) for side in sides]
        fastest = [min(sum(side, [])) for side in sides]
        low, high = ratio_interval(*sides)
        print(
            f"{names:<50} {medians[0]:>8.3f} {medians[1]:>8.3f} {medians[0] / medians[1]:>6.3f}  {low:.3f} to {high:.3f} "
            f" {fastest[0] / fastest[1]:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
