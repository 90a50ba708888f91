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

    def golden(self, task: Task) -> Path:
        batch = self.settings.work[task.name]["batch"]
        return (
            SHARED
            / task.name
            / "golden"
            / f"{self.arrays(task).name}-batch-{batch}-steps-{self.settings.proof_steps}-{self.settings.precision}.npz"
        )

    def environments(self) -> list[str]:
        """Names of the environments that its legs run in."""
        return sorted({leg.framework.environment for leg in self.legs if not self.idle(leg)})

    def idle(self, leg: Leg) -> bool:
        """Whether a leg needs neither data nor an environment, because its record says why it cannot run with these settings anywhere."""
        return bool(leg.framework.retired or unsupported(leg, self.settings))

    def environment(self, name: str) -> Path:
        return SHARED / "environments" / f"{name}-{self.settings.device}-{self.settings.deployment}.json"

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
        """(leg, round) in the order of measuring: round after round, the legs shuffled anew in each, so that drift hits all alike."""
        order = []
        for number in range(1, self.settings.rounds + 1):
            legs = list(self.legs)
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
        return json.dumps([*self.nature(leg), s.threads, s.proof_steps, batch])

    def round_settings(self, leg: Leg) -> str:
        s = self.settings
        return json.dumps([*self.nature(leg), s.threads, s.warm_up, s.work[leg.task.name]])

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
