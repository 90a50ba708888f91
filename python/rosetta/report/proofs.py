"""The proof as a table: how far each leg is from the golden values, and what was allowed."""

import math
from dataclasses import dataclass

FAMILIES = ("weights", "logits", "loss", "gradient")


@dataclass
class Proof:
    """One leg in one setting. `worst` holds, for each family, the difference that came nearest to its bound or passed it.

    Attributes:
        setting: the precision, with the batch where the leg was compared at more than one: `fp64, batch 8`.
        verdict: `exact`, `mismatch` or `variant`; where the proof was not brought to its end, the status that says how it ended.
    """

    leg: dict
    precision: str
    setting: str
    worst: dict
    passed: bool
    verdict: str


def family(quantity: str) -> str:
    """Features are the logits of a network without a head; `logits after load` are logits."""
    first = quantity.split()[0]
    return "logits" if first == "features" else first


def strain(difference: dict) -> float:
    """The difference as a share of its tolerance, infinite where it is no number."""
    value, bound = difference["difference"], difference["tolerance"]
    if value is None:
        return math.inf
    return value / bound if bound else (math.inf if value else 0.0)


def proofs(legs: list[dict]) -> list[Proof]:
    """Every leg in each precision and batch that was compared, in the order of the records."""
    found = []
    for leg in legs:
        for setting, mine in by_setting(leg).items():
            passed = all(difference["passed"] for difference in mine)
            ended = verdict(leg["proof"]["status"], passed)
            found.append(Proof(leg, mine[0]["precision"], setting, nearest(mine, family), passed, ended))
    return found


def by_setting(leg: dict) -> dict[str, list[dict]]:
    """The differences by precision, and by batch too where the proof has more than one."""
    found, timed = {}, leg["proof"]["work"]["batch"]
    batches = {difference.get("batch", timed) for difference in leg["proof"]["differences"]}
    for difference in leg["proof"]["differences"]:
        batch = f", batch {difference.get('batch', timed)}" if len(batches) > 1 else ""
        found.setdefault(difference["precision"] + batch, []).append(difference)
    return found


def verdict(status: str, passed: bool) -> str:
    """What a proof says of one setting: one that fails in fp32 is a mismatch there and may be exact in fp64."""
    if status in ("ok", "mismatch"):
        return "exact" if passed else "mismatch"
    return status


def nearest(differences: list[dict], name) -> dict[str, dict]:
    """For each `name(quantity)`, the difference that came nearest to its bound or went furthest beyond it."""
    worst = {}
    for difference in differences:
        key = name(difference["quantity"])
        if key not in worst or strain(difference) > strain(worst[key]):
            worst[key] = difference
    return worst


def quantities(leg: dict) -> dict[str, dict[str, dict]]:
    """{quantity: {setting: its difference nearest to the bound}} of one leg, for its details."""
    found = {}
    for setting, mine in by_setting(leg).items():
        for quantity, difference in nearest(mine, str).items():
            found.setdefault(quantity, {})[setting] = difference
    return found


@dataclass
class Shipped:
    """A leg as a literal port would have it: its drift from the golden values, by step (0: features, which have no steps), and why."""

    leg: dict
    quantity: str
    drifts: dict[int, float | None]
    why: str


def shipped(legs: list[dict]) -> list[Shipped]:
    """The legs whose library has a layer or an optimizer of its own that is not the reference's, in the order of the records."""
    found = []
    for leg in legs:
        drifts = leg["proof"].get("as_shipped", [])
        if drifts:
            sizes = {drift["step"]: drift["difference"] for drift in drifts}
            found.append(Shipped(leg, drifts[0]["quantity"], sizes, leg["proof"].get("as_shipped_why", "")))
    return found


def families(found: list[Proof]) -> list[str]:
    """The columns of the table: the known families, then those that a later harness adds."""
    seen = dict.fromkeys(name for proof in found for name in proof.worst)
    return [name for name in FAMILIES if name in seen] + [name for name in seen if name not in FAMILIES]
