"""The plan of a run: which legs, in which order, and where everything lies.

All paths are relative to the working folder of the pipeline, and the same whether Snakemake or `rosetta run` asks.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from rosetta.config import Settings
from rosetta.frameworks import Leg, select, unsupported
from rosetta.tasks import Task

SHARED = Path("shared_data")
REPORTS = Path("reports")
HISTORY = REPORTS / "history.jsonl"


SMALL_BATCH = 8
"""Samples of a batch in the small proof: every layer and every kind of step is there, and float64 takes a few seconds."""


@dataclass(frozen=True)
class Golden:
    """One file of golden values.

    Attributes:
        batch: samples of each batch.
        steps: training steps; 1 for a forward-only task, which takes none.
        precision: the precision whose drift from the float64 values it holds.
        path: where it lies.
    """

    batch: int
    steps: int
    precision: str
    path: Path


@dataclass(frozen=True)
class Plan:
    """Settings and legs.

    Attributes:
        apart: whether settings that differ from those of config.yaml and the profile get a folder of records of their own.
            The pipeline knows which settings its records were made with and replaces them; whoever runs a leg by hand
            must not replace the pipeline's.
    """

    settings: Settings
    legs: tuple[Leg, ...]
    apart: bool = False

    @classmethod
    def of(cls, settings: Settings, patterns: list[str] | None = None, apart: bool = False) -> "Plan":
        return cls(settings, tuple(select(patterns or settings.legs)), apart)

    def leg(self, name: str) -> Leg:
        return select([name])[0]

    # Shared data

    def arrays(self, task: Task) -> Path:
        """The folder of a task's prepared arrays. Synthetic ones that were asked for never replace real ones."""
        if not task.trained:
            return SHARED / task.name / f"pictures-{self.settings.work[task.name]['samples']}"
        return SHARED / task.name / ("synthetic" if self.settings.data == "synthetic" else "arrays")

    def data_marker(self, task: Task) -> Path:
        return self.arrays(task).with_suffix(".json")

    def weights(self, task: Task) -> Path:
        return SHARED / task.name / "weights"

    def goldens(self, task: Task) -> list[Golden]:
        """The golden values that the proofs of a task read: first those of all steps, last those of the timed batch."""
        s = self.settings
        batch, steps = s.work[task.name]["batch"], s.proof_steps if task.trained else 1
        if s.proof == "whole":
            return [self.golden(task, batch, steps, s.precision)]
        small = self.golden(task, min(SMALL_BATCH, batch), steps, "fp32")
        return list(dict.fromkeys((small, self.golden(task, batch, 1, s.precision))))

    def golden(self, task: Task, batch: int, steps: int, precision: str) -> Golden:
        name = f"{self.arrays(task).name}-batch-{batch}-steps-{steps}-{precision}.npz"
        return Golden(batch, steps, precision, SHARED / task.name / "golden" / name)

    def comparisons(self, leg: Leg) -> list[tuple[str, Golden]]:
        """(precision, golden values) of each comparison that a leg's proof makes.

        The whole proof compares float64, where the library has it, and the precision that is asked for, in all steps at the timed batch.
        The small one takes all steps in float64 at a batch of 8, and the first step in the precision that is asked for at the timed batch.
        A leg without float64 takes its 20 steps in fp32.
        """
        goldens, framework, asked = self.goldens(leg.task), leg.framework, self.settings.precision
        able = [
            precision
            for precision in dict.fromkeys(("fp64", "fp32", asked))
            if precision in framework.precisions and f"{self.settings.device}/{precision}" not in framework.unsupported
        ]
        if framework.computes:
            able, asked = [framework.computes], framework.computes
        if self.settings.proof == "whole":
            return [(precision, goldens[0]) for precision in able if precision in ("fp64", asked)]
        return list(dict.fromkeys(((able[0], goldens[0]), (asked, goldens[-1]))))

    @property
    def proof_threads(self) -> int:
        """Threads of a proof. On a CPU nobody times it, so two proofs share the processor, with one thread each."""
        return 1 if self.settings.device == "cpu" else self.settings.threads

    def environments(self) -> list[str]:
        """Names of the environments that its legs run in."""
        return sorted({leg.framework.environment for leg in self.legs if not self.idle(leg)})

    def idle(self, leg: Leg) -> bool:
        """Whether a leg needs neither data nor an environment, because its record says why it cannot run with these settings anywhere."""
        return bool(leg.framework.retired or unsupported(leg, self.settings))

    def environment(self, name: str) -> Path:
        return SHARED / "environments" / f"{name}-{self.settings.device}-{self.settings.deployment}.json"

    def ceiling(self, precision: str) -> Path:
        """Where the measured ceiling of a GPU is kept for the other legs of a run."""
        return SHARED / "environments" / f"ceiling-{self.settings.device}-{precision}.json"

    # Records

    @property
    def records(self) -> Path:
        profile = self.settings.profile + (self.settings.variation if self.apart else "")
        return REPORTS / "records" / profile / f"{self.settings.device}-{self.settings.precision}"

    def record(self, leg: Leg) -> Path:
        return self.records / f"{leg.name}.json"

    def proof(self, leg: Leg) -> Path:
        return self.records / leg.name / "proof.json"

    def round(self, leg: Leg, number: int) -> Path:
        return self.records / leg.name / f"round-{number}.json"

    def run_record(self, leg: Leg, number: int) -> Path:
        """The record of a leg's proof, number 0, or of a round."""
        return self.round(leg, number) if number else self.proof(leg)

    def log(self, leg: Leg, what: str) -> Path:
        return REPORTS / "logs" / self.records.relative_to(REPORTS / "records") / leg.name / f"{what}.log"

    # Order

    def runs(self) -> list[tuple[Leg, int]]:
        """(leg, round) in the order of measuring: round after round, the legs shuffled anew in each, so that drift hits all alike.

        Legs that compile for minutes come last, so that nobody waits for them to see the others.
        """
        order = []
        for last in (False, True):
            for number in range(1, self.settings.rounds + 1):
                legs = [leg for leg in self.legs if leg.compiles == last]
                random.Random(number).shuffle(legs)
                order.extend((leg, number) for leg in legs)
        return order

    # What a step depends on besides its files: when this text changes, Snakemake runs the step again.

    def data_settings(self, task: Task) -> str:
        s = self.settings
        return json.dumps(
            [s.data, s.data_folder, s.accept_other_checksum]
            if task.trained
            else self.settings.work[task.name]["samples"]
        )

    def proof_settings(self, leg: Leg) -> str:
        s = self.settings
        batch = s.work[leg.task.name]["batch"]
        named = {"threads": self.proof_threads, "proof": s.proof, "proof_steps": s.proof_steps, "batch": batch}
        return json.dumps([*self.nature(leg), named])

    def round_settings(self, leg: Leg) -> str:
        s = self.settings
        named = {name: getattr(s, name) for name in ("threads", "warm_up", "budget_seconds", "scoring_seconds")}
        return json.dumps([*self.nature(leg), {**named, "work": s.work[leg.task.name]}])

    def run_settings(self, leg: Leg, number: int) -> str:
        """Those of a leg's proof, number 0, or of a round."""
        return self.round_settings(leg) if number else self.proof_settings(leg)

    @staticmethod
    def nature(leg: Leg) -> list:
        """What of framework.toml decides how a leg is run."""
        f = leg.framework
        decisive = (
            "devices",
            "precisions",
            "computes",
            "variant",
            "retired",
            "variables",
            "options",
            "unsupported",
            "as_shipped",
        )
        return [getattr(f, name) for name in decisive]
