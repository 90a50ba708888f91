"""The plan: what a proof compares, and what a changed setting reruns."""

from rosetta import config
from rosetta.frameworks import select
from rosetta.plan import Plan


def compared(leg: str, **overrides) -> list[tuple]:
    """(precision, batch, steps) of each comparison of a leg's proof."""
    plan = Plan.of(config.load(overrides), [leg])
    return [(precision, golden.batch, golden.steps) for precision, golden in plan.comparisons(plan.legs[0])]


def test_the_small_proof_takes_all_steps_in_float64_and_the_first_at_the_timed_batch():
    assert compared("python/numpy/cnn") == [("fp64", 8, 20), ("fp32", 64, 1)]
    assert compared("python/pytorch/rnn", precision="bf16") == [("fp64", 8, 20), ("bf16", 64, 1)]


def test_a_leg_without_float64_takes_all_steps_in_float32():
    assert compared("python/mlx/cnn") == [("fp32", 8, 20), ("fp32", 64, 1)]


def test_a_leg_with_float64_alone_takes_the_timed_batch_in_it():
    assert compared("r/base/cnn") == [("fp64", 8, 20), ("fp64", 64, 1)]


def test_the_whole_proof_takes_all_steps_in_both():
    assert compared("python/numpy/cnn", profile="full") == [("fp64", 64, 20), ("fp32", 64, 20)]
    assert compared("python/mlx/cnn", profile="full") == [("fp32", 64, 20)]


def test_a_forward_only_task_has_no_steps():
    assert compared("python/pytorch/resnet50") == [("fp64", 8, 1), ("fp32", 8, 1)]


def test_a_budget_reruns_rounds_and_no_proof():
    (leg,) = select(["python/numpy/cnn"])
    plan, other = (Plan.of(config.load({"budget_seconds": seconds})) for seconds in (5, 6))
    assert plan.proof_settings(leg) == other.proof_settings(leg)
    assert plan.round_settings(leg) != other.round_settings(leg)


def test_threads_rerun_rounds_and_on_a_cpu_no_proof():
    """Proofs have one thread each there."""
    (leg,) = select(["python/pytorch/cnn"])
    for device, same in (("cpu", True), ("cuda", False)):
        plan, other = (Plan.of(config.load({"device": device, "threads": threads})) for threads in (1, 2))
        assert (plan.proof_settings(leg) == other.proof_settings(leg)) == same
        assert plan.round_settings(leg) != other.round_settings(leg)


def test_legs_that_compile_for_minutes_are_timed_last_and_all_others_in_shuffled_order():
    plan = Plan.of(config.load({"legs": ["core"]}))
    order = plan.runs()
    late = [leg.compiles for leg, _ in order]
    assert late == sorted(late)
    assert {leg.framework.name for leg, _ in order if leg.compiles} == {"flux", "knet"}
    rounds = [[leg.name for leg, number in order if number == wanted and not leg.compiles] for wanted in (1, 2)]
    assert sorted(rounds[0]) == sorted(rounds[1])
    assert rounds[0] != rounds[1]
