"""What a reader of the report relies on."""

import copy
import io
import json
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import sample_records as sample
from rich.console import Console
from rosetta import cli, config, environments, measuring, prepare, records, report
from rosetta.frameworks import Leg, select
from rosetta.plan import Plan
from rosetta.report import charts, comparisons, facts, kept, page, proofs, published, results, statistics, stone, words
from rosetta.report.progress import Progress

HOSTILE = "lua/torch7/cnn"
VOID = {"meta", "br", "link", "img", "hr", "input"}


def edit(leg: dict, change) -> dict:
    """A copy of a leg with `change` applied to each of its runs."""
    leg = copy.deepcopy(leg)
    for run in (leg["proof"], *leg["rounds"]):
        change(run)
    return records.check(leg, leg["leg"])


def edit_phases(leg: dict, change) -> None:
    for run in leg["rounds"]:
        for phase in run["phases"]:
            change(phase)


def with_epochs(leg: str, rounds: list[list[float]]) -> dict:
    """A leg whose epochs last exactly these seconds."""
    record = sample.good(leg, rounds=len(rounds))
    for run, seconds in zip(record["rounds"], rounds):
        others = [phase for phase in run["phases"] if phase["phase"] != "epoch"]
        run["phases"] = others + [{"phase": "epoch", "seconds": second, "losses": [2.0, 1.0]} for second in seconds]
        run["work"]["epochs"] = len(seconds)
    return records.check(record, leg)


def implausible_once(leg: str) -> dict:
    """A leg that is `ok`, though one of its rounds was rejected."""
    record = sample.good(leg)
    record["rounds"][1].update(status="invalid", reason="its phases last 3.00 s, but its process only 2.00 s")
    return sample.gathered(record["proof"], record["rounds"])


def synthetic(leg: dict) -> dict:
    return edit(leg, lambda run: run.update(data=dict(sample.SYNTHETIC)))


def full(leg: dict) -> dict:
    """The same leg as if its job were the whole one."""

    def whole(run):
        run["work"].update(
            {f"full_{name}": run["work"][name] for name in ("batch", "samples", "epochs", "test_samples")}
        )

    return edit(leg, whole)


def written(legs: list[dict], folder: Path) -> tuple[str, str]:
    report.write(legs, folder)
    return (folder / "summary.html").read_text(), (folder / "summary.md").read_text()


class Page(HTMLParser):
    """The elements of a page: nesting is checked, text is gathered by element."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.elements, self.pieces = [], [], []
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append((element, len(self.pieces)))

    def handle_startendtag(self, tag, attributes):
        self.elements.append({"tag": tag, "text": "", **dict(attributes)})

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        element, first = self.open.pop()
        assert element["tag"] == tag, f"</{tag}> closes <{element['tag']}>"
        element["text"] = "".join(self.pieces[first:])

    def handle_data(self, data):
        self.pieces.append(data)

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]


# Numbers


def test_seconds_are_epochs_times_the_median_of_all_epochs_of_all_rounds():
    row = results.row(with_epochs("python/numpy/cnn", [[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]]))
    assert row["seconds_median"] == pytest.approx(3 * 3.5)
    assert row["samples_per_second"] == pytest.approx(640 / 3.5)
    assert 3 * 1.0 <= row["seconds_low"] < 3 * 3.5 < row["seconds_high"] <= 3 * 9.0


def test_samples_per_second_counts_whole_batches_only():
    leg = edit(with_epochs("python/numpy/cnn", [[2.0]]), lambda run: run["work"].update(samples=650))
    assert results.row(leg)["samples_per_second"] == pytest.approx(640 / 2.0)


def test_one_sample_has_no_interval():
    row = results.row(with_epochs("python/numpy/cnn", [[2.0]]))
    assert row["seconds_median"] == 2.0
    assert math.isnan(row["seconds_low"])
    assert math.isnan(row["seconds_high"])


def test_interval_is_the_same_every_time_and_exact_for_equal_samples():
    groups = [[1.0, 1.2, 1.1], [1.4, 1.3], [0.9]]
    assert statistics.interval(groups) == statistics.interval(groups)
    assert statistics.interval([[2.0, 2.0], [2.0]]) == (2.0, 2.0)


def test_interval_sees_that_epochs_of_one_process_go_together():
    apart = [[middle + 0.01 * epoch for epoch in range(10)] for middle in (1.0, 1.2, 1.4)]
    low, high = statistics.interval(apart)
    pooled_low, pooled_high = statistics.interval([[second for group in apart for second in group]])
    assert high - low > 1.2 * (pooled_high - pooled_low)


def test_unequal_rounds_draw_only_from_samples_that_exist():
    low, high = statistics.interval([[5.0], [1.0, 2.0, 3.0]])
    assert 1.0 <= low <= high <= 5.0


def test_interval_covers_the_true_median_about_as_often_as_it_says():
    import numpy as np

    random = np.random.default_rng(7)
    hits = 0
    for _ in range(60):
        rounds = (10 + random.normal(0, 1, (8, 1)) + random.normal(0, 0.3, (8, 4))).tolist()
        low, high = statistics.interval(rounds)
        hits += low <= 10 <= high
    assert hits >= 48


def test_ratio_interval_holds_one_for_the_like_and_not_for_the_unlike():
    first, second = [[1.0, 1.1], [1.05, 0.95]], [[1.02, 1.08], [1.0, 1.0]]
    low, high = statistics.ratio_interval(first, second)
    assert low <= 1 <= high
    low, high = statistics.ratio_interval([[3.0, 3.1], [3.2]], second)
    assert 2.5 < low < high < 3.3


def test_only_good_rounds_are_measured_from():
    legs = {leg["leg"]: leg for leg in sample.mixed()}
    row = results.row(legs["julia/base/rnn"])
    assert (row["rounds"], row["rounds_ok"], row["status"]) == (3, 2, "ok")
    assert "1 of 3 rounds did not end well" in row["warnings"]


def test_what_was_not_measured_is_empty_and_has_its_reason():
    row = results.row(sample.unavailable("julia/flux/cnn", "Flux needs Julia 1.10"))
    for name in (
        "seconds_median",
        "seconds_low",
        "samples_per_second",
        "first_step_seconds",
        "accuracy",
        "peak_memory_mb",
    ):
        assert math.isnan(row[name]), name
    assert (row["status"], row["reason"], row["proof"], row["data"]) == (
        "unavailable",
        "Flux needs Julia 1.10",
        "not run",
        "none",
    )


def test_estimate_of_the_full_job_is_given_only_where_it_was_not_measured():
    part = with_epochs("python/numpy/cnn", [[2.0, 2.0]])
    assert results.row(part)["seconds_full_estimate"] == pytest.approx(2.0 * 781 * 64 * 10 / 640)
    assert math.isnan(results.row(full(part))["seconds_full_estimate"])


@pytest.mark.parametrize(
    ("leg", "proof"),
    [
        (sample.good("r/base/rnn"), "exact"),
        (sample.mismatch("r/base/rnn"), "mismatch"),
        (sample.variant("r/base/rnn", "another GRU"), "variant"),
        (sample.unavailable("r/base/rnn", "no R"), "not run"),
        (sample.broken("r/base/rnn", "timeout", "too slow"), "exact"),
    ],
)
def test_proof_is_told_apart_from_status(leg, proof):
    assert results.row(leg)["proof"] == proof


# Who is compared with whom


def ranking(legs: list[dict]) -> list[list[str]]:
    rows = results.table(legs).to_dict("records")
    return [[row.leg["leg"] for row in comparison.ranked] for comparison in comparisons.comparisons(legs, rows)]


def test_a_leg_that_computes_something_else_is_never_the_fastest():
    quick_but_wrong = sample.mismatch("python/pytorch/cnn")
    slow = sample.good("python/numpy/cnn")
    assert ranking([quick_but_wrong, slow]) == [["python/numpy/cnn"]]


def test_a_leg_without_a_proof_is_not_ranked():
    leg = sample.good("python/numpy/cnn")
    leg["proof"]["differences"] = []
    assert ranking([leg]) == [[]]


def test_order_is_by_time():
    assert ranking([sample.good(f"{name}/cnn") for name in ("r/base", "julia/base", "python/numpy")]) == [
        ["python/numpy/cnn", "julia/base/cnn", "r/base/cnn"]
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run["work"].update(samples=1280),
        lambda run: run["data"].update(sha256="other"),
        lambda run: run["machine"].update(processor="another"),
        lambda run: run.update(threads=1),
    ],
    ids=["work", "data", "machine", "threads"],
)
def test_different_jobs_share_no_ranking(change):
    one, other = sample.good("python/numpy/cnn"), edit(sample.good("python/pytorch/cnn"), change)
    assert sorted(ranking([one, other])) == [["python/numpy/cnn"], ["python/pytorch/cnn"]]


def test_a_clock_that_moves_makes_no_other_machine():
    one = sample.good("python/numpy/cnn")
    other = edit(sample.good("python/pytorch/cnn"), lambda run: run["machine"].update(clock_mhz=1200))
    assert ranking([one, other]) == [["python/pytorch/cnn", "python/numpy/cnn"]]


def test_languages_are_related_to_python():
    legs = [
        with_epochs("python/numpy/cnn", [[2.0, 2.0], [2.0, 2.0]]),
        with_epochs("julia/base/cnn", [[1.0, 1.0], [1.0, 1.0]]),
        with_epochs("r/base/cnn", [[6.0, 6.0], [6.0, 6.0]]),
    ]
    rows = results.table(legs).to_dict("records")
    (pair,) = comparisons.language_comparisons(comparisons.comparisons(legs, rows))
    assert {language.name: language.times for language in pair.languages} == {"Python": 1.0, "Julia": 0.5, "R": 3.0}
    assert "Julia took 0.50 times as long as Python (95\u00a0% interval 0.50 to 0.50)" in pair.sentence
    assert "computing in fp64 where fp32 was asked for" in pair.sentence


def test_a_language_without_a_result_says_why():
    legs = [
        sample.good("python/numpy/cnn"),
        sample.good("julia/base/cnn"),
        sample.broken("r/base/cnn", "timeout", "stopped after 900 s"),
    ]
    rows = results.table(legs).to_dict("records")
    (pair,) = comparisons.language_comparisons(comparisons.comparisons(legs, rows))
    assert "R has no place here: timeout (stopped after 900 s)" in pair.sentence


def test_the_same_library_from_r_is_related_to_python_s(tmp_path):
    """10 steps an epoch: 2.0 s against 1.6 s are 40 ms more for each step."""
    legs = [
        with_epochs("python/keras-tensorflow/cnn", [[1.6, 1.6], [1.6, 1.6]]),
        with_epochs("r/keras/cnn", [[2.0, 2.0], [2.0, 2.0]]),
        with_epochs("python/mxnet-gluon/rnn", [[1.0, 1.0]]),
    ]
    rows = results.table(legs).to_dict("records")
    (pair,) = comparisons.callings(comparisons.comparisons(legs, rows))
    assert (pair.times, pair.low, pair.high) == (1.25, 1.25, 1.25)
    assert pair.step_ms == pytest.approx(40)
    assert pair.loss_difference == 0
    page.write(legs, tmp_path)
    assert "The same library from two languages" in (tmp_path / "summary.html").read_text()
    assert "+40.0 ms" in (tmp_path / "summary.md").read_text()


def test_what_the_differences_are_made_of_adds_up():
    """Steps of 0.2 s (10 an epoch), a first step of 3.2 s, and 1.5 s before it."""
    seconds = {"import": 1.0, "build": 0.25, "data": 0.25, "first_step": 3.2}

    def timed(run):
        run["utilisation"] = 0.5
        for phase in run["phases"]:
            phase["seconds"] = seconds.get(phase["phase"], phase["seconds"])

    legs = [edit(with_epochs(f"{name}/cnn", [[2.0]]), timed) for name in ("r/base", "python/numpy", "r/keras")]
    rows = results.table(legs).to_dict("records")
    ((_, several),) = comparisons.made_of(comparisons.comparisons(legs, rows))
    assert [it.row.leg["leg"] for it in several] == ["python/numpy/cnn", "r/base/cnn"]
    for it in several:
        assert (it.start, it.kernels) == (1.5, 0.5)
        assert (it.compilation, it.step, it.overhead) == pytest.approx((3.0, 0.2, 0.1))


def test_kernels_and_overhead_are_those_of_the_median_epoch():
    """A record's utilisation is that of its fastest epoch: 0.5 of 2 s are 1 s of arithmetic, a quarter of the median of 4 s."""
    leg = edit(with_epochs("python/numpy/cnn", [[2.0, 4.0, 6.0]]), lambda run: run.update(utilisation=0.5))
    row = comparisons.Row(leg, results.row(leg))
    assert row.result["utilisation"] == pytest.approx(0.25)
    it = comparisons.parts(row)
    assert (it.step, it.overhead, it.kernels) == pytest.approx((0.4, 0.3, 0.25))


def test_how_many_cores_a_leg_used_is_shown_beside_those_it_was_given(tmp_path):
    """3.0 processor seconds in 2.0 s, then 4.0 in 2.0, then 2.0 in 2.0: one and a half cores at the median."""
    spent = iter([3.0, 4.0, 2.0])

    def busy(run):
        for phase in run["phases"]:
            if phase["phase"] == "epoch":
                phase["processor_seconds"] = next(spent)

    leg = edit(with_epochs("python/numpy/cnn", [[2.0, 2.0, 2.0]]), busy)
    assert results.row(leg)["cores_used"] == pytest.approx(1.5)
    assert "1.50 of the 2 it was given" in written([leg], tmp_path)[0]
    other = sample.good("python/pytorch/cnn")
    other = edit(other, lambda run: [phase.pop("processor_seconds", None) for phase in run["phases"]])
    assert math.isnan(results.row(other)["cores_used"])


def test_the_commands_that_repeat_a_page_make_that_page(tmp_path):
    """A language's page is made by its own target; a leg's command states the threads that it had."""
    legs = [sample.good("r/base/cnn")]
    for folder, target in ((tmp_path, "reports/summary.html"), (tmp_path / "r", "reports/r/summary.html")):
        page_text = written(legs, folder)[0]
        assert f"snakemake --cores 1 {target} --config" in page_text
        assert re.search(r"\.venv/bin/rosetta run r/base/cnn.* -c threads=2", page_text)


def test_the_command_that_repeats_a_page_asks_for_all_legs_that_it_shows():
    """Records of a default run, of one with LEGS='more core/r', and of `rosetta run`, which chooses none."""
    core, caffe2 = sample.good("python/numpy/cnn"), sample.good("python/caffe2/cnn")
    more = edit(sample.good("python/paddle/cnn"), lambda run: run["provenance"].update(overrides=["legs=more core/r"]))
    for legs, option in (
        ([core], ""),
        ([core, more], "'legs=core more core/r'"),
        ([core, caffe2], "'legs=core python/caffe2'"),
    ):
        (command,) = [line for line in facts.reproduction(legs, "page") if "snakemake" in line]
        assert command.partition(" threads=2")[2].strip() == option


def test_the_paste_able_summary_has_what_the_page_has(tmp_path):
    """The best of each language, what differences are made of, and the figures of 2018, marked as such."""
    legs = [sample.good(f"{name}/cnn") for name in ("python/numpy", "python/pytorch", "r/base")]
    _, text = written(legs, tmp_path)
    assert text.index("## The best of each language") < text.index("## What the differences are made of")
    published_part = text[text.index("## Published in 2018, not measured here") :]
    assert "never ranked with today's" in published_part
    assert re.search(
        r"\| PyTorch \| Python \| K80 \| 169 \| 2,959 \| .*python/pytorch/cnn, cpu, fp32.*README.md", published_part
    )


@pytest.mark.parametrize("task", ["cnn", "rnn"])
def test_losses_of_the_same_library_are_compared_with_dropout_too(task):
    python, r = sample.good(f"python/mxnet-gluon/{task}"), sample.good(f"r/mxnet/{task}")

    def levelled(run):
        for phase in run["phases"]:
            phase["losses"] = [1.0 for _ in phase.get("losses", [])]

    python, r = edit(python, levelled), edit(r, levelled)
    assert comparisons.loss_difference(r, python) == 0
    for run in r["rounds"]:
        run["phases"][-2]["losses"][3] = 1.25
    assert comparisons.loss_difference(r, python) == 0.25


def test_a_loss_that_is_no_number_in_one_language_is_said(tmp_path):
    python, r = sample.good("python/mxnet-gluon/rnn"), sample.good("r/mxnet/rnn")
    for run in r["rounds"]:
        run["phases"][-2]["losses"][3] = None
    assert comparisons.loss_difference(r, python) is None
    html, markdown = written([python, r], tmp_path)
    assert "not finite" in markdown.partition("The same library")[2].partition("## Proof")[0]
    assert "not finite" in html.partition("The same library from two languages</b>")[2].partition("</table>")[0]


def test_the_best_of_each_language_is_named():
    legs = [
        with_epochs("python/numpy/cnn", [[2.0, 2.0]]),
        with_epochs("python/pytorch/cnn", [[1.0, 1.0]]),
        with_epochs("julia/base/cnn", [[3.0, 3.0]]),
    ]
    (comparison,) = comparisons.comparisons(legs, results.table(legs).to_dict("records"))
    best = comparisons.best_of_languages(comparison)
    assert [row.leg["leg"] for row in best] == ["python/pytorch/cnn", "julia/base/cnn"]
    assert [row.times for row in best] == [1.0, 3.0]
    assert (best[1].low, best[1].high) == (3.0, 3.0)
    assert math.isnan(best[0].low), "the fastest is not compared with itself"


# Legs that a time budget cut short


def numbers(row: dict) -> list[float]:
    names = (
        "seconds_median",
        "seconds_low",
        "seconds_high",
        "samples_per_second",
        "utilisation",
        "seconds_full_estimate",
    )
    return [row[name] for name in names]


def test_a_leg_timed_on_a_part_of_its_steps_has_the_numbers_of_the_planned_work():
    """Steps of the same length: 2 of 10 in each call tell the same as whole epochs."""
    whole = sample.good("python/numpy/cnn")
    cut = sample.shortened(whole, steps=2)
    assert numbers(results.row(cut)) == pytest.approx(numbers(results.row(whole)))
    row = results.row(cut)
    assert (row["steps_planned"], row["steps_timed"]) == (30, 6)
    assert row["shortened"] == "timed on 6 of 30 steps, within budget_seconds=5"


def test_seconds_are_the_median_over_calls_of_seconds_for_each_step():
    """10 steps an epoch, 2 epochs: calls of 1, 2 and 4 s for 2, 2 and 5 steps are 5, 10 and 8 s an epoch."""
    leg = with_epochs("python/numpy/cnn", [[1.0, 2.0, 4.0]])
    for call, steps in zip(records.calls(leg["rounds"][0]), (2, 2, 5)):
        call["steps"] = steps
    leg["rounds"][0]["work"]["epochs"] = 2
    row = results.row(leg)
    assert row["seconds_median"] == pytest.approx(2 * 8.0)
    assert row["samples_per_second"] == pytest.approx(640 / 8.0)
    assert results.epoch_seconds(leg) == [pytest.approx([5.0, 10.0, 8.0])]


def test_a_budget_that_all_planned_steps_fit_into_cuts_nothing_short(tmp_path):
    leg = sample.shortened(sample.good("python/numpy/cnn"), steps=10)
    row = results.row(leg)
    assert (row["shortened"], row["steps_planned"], row["steps_timed"]) == ("", 30, 30)
    assert row["accuracy"] > 0
    assert row["final_loss"] > 0
    html, markdown = written([leg], tmp_path)
    for text in (html, markdown):
        assert "calculated from a part of the steps" not in text


def test_what_a_part_of_the_work_cannot_tell_is_empty_with_the_reason():
    """A part of the test set leaves the training whole; the seconds of scoring stay those that were measured."""
    whole = sample.good("python/numpy/cnn")
    trained, scored = sample.shortened(whole, steps=2), sample.shortened(whole, steps=10, samples=128)
    for leg, loss in ((trained, False), (scored, True)):
        row = results.row(leg)
        assert math.isnan(row["accuracy"])
        assert math.isnan(row["final_loss"]) != loss
        assert row["evaluation_seconds"] == results.row(whole)["evaluation_seconds"]
    assert results.row(scored)["shortened"] == "scored on 128 of 640 test samples, within scoring_seconds=2"


def test_rounds_that_timed_different_numbers_of_steps_say_so():
    few, many = (sample.shortened(sample.good("r/base/rnn"), steps) for steps in (4, 6))
    leg = sample.gathered(few["proof"], [few["rounds"][0], many["rounds"][1], many["rounds"][2]])
    row = results.row(leg)
    assert (row["steps_timed"], row["shortened"]) == (18, "timed on 12 to 18 of 60 steps, within budget_seconds=5")


def test_legs_timed_on_a_part_stand_among_the_others_with_a_sign(tmp_path):
    legs = [
        sample.shortened(sample.good("python/numpy/cnn"), steps=2, samples=128),
        sample.good("python/pytorch/cnn"),
        sample.good("r/base/cnn"),
        sample.shortened(sample.good("r/base/rnn"), steps=4, calls=2),
    ]
    assert ranking(legs)[0] == ["python/pytorch/cnn", "python/numpy/cnn", "r/base/cnn"]
    html, markdown = written(legs, tmp_path)
    why = "timed on 6 of 30 steps, within budget_seconds=5"
    grid = html.partition('<table class="grid">')[2].partition("</table>")[0]
    table = html.partition('<table class="ranking">')[2].partition("</table>")[0]
    best = html.partition("<b>The best of each language</b>")[2].partition("</table>")[0]
    for part, signs in ((grid, 2), (table, 1), (best, 0)):
        assert part.count('<span class="calculated"') == signs
    assert (
        f'17.9</b><span class="calculated" title="{why}; scored on 128 of 640 test samples, within scoring_seconds=2">*'
        in table
    )
    assert f'title="no accuracy: {why}; scored' in table
    text = Page(html).all("body")[0]["text"]
    sentence = "* The time is calculated from a part of the steps, within budget_seconds=5: "
    assert f"{sentence}CNN on CIFAR-10 from 6 of 30 steps, GRU on IMDB from 8 of 60 steps." in text
    assert f"{sentence}python/numpy from 6 of 30 steps. Such legs have no accuracy." in text
    assert "| 17.9\\* |" in markdown
    assert words.markdown(f"{sentence}python/numpy from 6 of 30 steps.") in markdown


def test_the_best_of_each_language_carries_the_sign(tmp_path):
    legs = [sample.shortened(sample.good("python/numpy/cnn"), steps=2), sample.good("r/base/cnn")]
    html, markdown = written(legs, tmp_path)
    best = html.partition("<b>The best of each language</b>")[2]
    assert best.partition("</table>")[0].count('<span class="calculated"') == 1
    assert "CNN on CIFAR-10 from 6 of 30 steps" in best.partition("<caption>")[0]
    part = markdown.partition("## The best of each language")[2].partition("\n## ")[0]
    assert "| 17.9\\* |" in part
    assert "from 6 of 30 steps" in part


def test_details_of_a_shortened_leg_show_the_raw_seconds_and_the_steps_of_each_call(tmp_path):
    leg = with_epochs("python/numpy/cnn", [[1.25, 1.5]])
    for call in records.calls(leg["rounds"][0]):
        call["steps"] = 4
    leg["rounds"][0]["budget_seconds"] = 5
    html, _ = written([leg], tmp_path)
    details = html.partition('id="leg-python-numpy-cnn-quick-cpu-fp32"')[2].partition("</details>")[0]
    assert "1.25 (4 steps), 1.50 (4 steps)" in details
    assert "<dt>Shortened</dt><dd>Timed on 8 of 20 steps, within budget_seconds=5." in details
    assert "Test accuracy and final loss are empty" in details
    assert "6 epochs 2.75 s" in details, "where one process's time went stays as it was measured"
    (found,) = json.loads((tmp_path / "results.json").read_text())["legs"]
    assert found["calls"] == [[{"seconds": 1.25, "steps": 4}, {"seconds": 1.5, "steps": 4}]]
    assert found["epochs_seconds"] == [[3.125, 3.75]]


def test_details_of_a_shortened_leg_show_no_accuracy_of_a_round(tmp_path):
    whole = sample.good("python/numpy/cnn", rounds=1)
    accuracy = words.percent(whole["rounds"][0]["phases"][-1]["accuracy"])
    for leg, count in ((whole, 1), (sample.shortened(whole, steps=2), 0)):
        raw = written([leg], tmp_path)[0].partition('aria-label="Raw seconds of')[2].partition("</table>")[0]
        assert raw.count(f'<td class="number">{accuracy}</td>') == count


def test_a_shortened_leg_s_loss_ends_where_its_steps_end():
    """3 calls of 2 of 10 steps are 0.6 epochs."""
    x, y = charts.loss_curve(sample.shortened(sample.good("python/numpy/cnn"), steps=2))
    assert x == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert len(y) == 6


def test_the_loss_of_rounds_with_different_steps_is_that_of_the_steps_they_share():
    few, many = (sample.shortened(sample.good("python/numpy/cnn"), *numbers) for numbers in ((2, None, 2), (3,)))
    leg = sample.gathered(few["proof"], [few["rounds"][0], many["rounds"][1]])
    x, y = charts.loss_curve(leg)
    assert x == pytest.approx([0.1, 0.2, 0.3, 0.4])
    first, second = (records.calls(run)[1]["losses"][0] for run in leg["rounds"])
    assert y[2] == pytest.approx((first + second) / 2)


def test_losses_of_two_legs_are_compared_as_long_as_they_did_the_same_steps():
    """After a call of 2 steps beside one of 3, the weights are no longer the same."""
    python, r = sample.good("python/mxnet-gluon/rnn"), sample.good("r/mxnet/rnn")
    for leg in (python, r):
        edit_phases(leg, lambda phase: phase.update(losses=[1.0 for _ in phase.get("losses", [])]))
    few, many = sample.shortened(r, steps=2), sample.shortened(python, steps=3)
    records.calls(many["rounds"][0])[0]["losses"][2] = 9.0
    records.calls(many["rounds"][0])[1]["losses"][0] = 9.0
    assert comparisons.loss_difference(few, many) == 0
    records.calls(few["rounds"][0])[0]["losses"][1] = 1.5
    assert comparisons.loss_difference(few, many) == 0.5


def test_the_command_line_shows_the_epoch_of_the_planned_work(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(cli, "out", Console(file=text, width=200))
    leg = with_epochs("python/numpy/cnn", [[1.0, 1.0]])
    for call in records.calls(leg["rounds"][0]):
        call["steps"] = 4
    assert cli.show([leg]) == 0
    assert "2.500*" in text.getvalue()
    assert "from 8 of 20 steps" in text.getvalue()


def table_after(page: str, words: str) -> str:
    return page.partition(words)[2].partition("</table>")[0]


def test_tables_show_the_utilisation_and_what_it_is_a_share_of(tmp_path, monkeypatch):
    legs = [with_epochs(f"{name}/cnn", [[2.0, 2.0]]) for name in ("python/numpy", "julia/base")]
    html, markdown = written(legs, tmp_path)
    share = words.percent(0.31)
    for start in ('<table class="ranking">', "<b>The best of each language</b>"):
        assert table_after(html, start).count(f">{share}</td>") == 2
    assert markdown.count(f"| {share} |") == 6, "the third table calls it kernels"
    text = "Utilisation: the share of this device's ceiling (a matrix product in NumPy 2.4.6) that"
    assert text in Page(html).all("body")[0]["text"]
    assert text in markdown
    assert "of this device's ceiling: a matrix product in NumPy 2.4.6, 118 GFLOP/s" in Page(html).all("body")[0]["text"]
    shown = io.StringIO()
    monkeypatch.setattr(cli, "out", Console(file=shown, width=200))
    cli.show(legs)
    assert shown.getvalue().count(share) == 2


def test_without_a_ceiling_no_table_has_a_column_for_the_utilisation(tmp_path, monkeypatch):
    changes = {"utilisation": None, "ceiling_gflops": None, "ceiling": ""}
    names = ("python/numpy/cnn", "julia/base/cnn")
    html, markdown = written([sample.good(name, **changes) for name in names], tmp_path)
    for start in ('<table class="ranking">', "<b>The best of each language</b>"):
        assert "utilisation" not in table_after(html, start)
    assert "utilisation" not in markdown.lower()
    columns = [line.count("|") for line in markdown.splitlines() if line.startswith("| framework |")]
    rows = [line.count("|") for line in markdown.splitlines() if line.startswith("| numpy |")]
    assert set(columns) == set(rows) == {12}
    shown = io.StringIO()
    monkeypatch.setattr(cli, "out", Console(file=shown, width=200))
    cli.show([sample.good(name, **changes) for name in names])
    assert "utilisation" not in shown.getvalue()


@pytest.mark.parametrize(
    ("device", "ceiling"), [("cpu", "a matrix product in NumPy"), ("cuda", "cores and highest clock")]
)
def test_an_old_record_does_not_say_how_its_ceiling_came_about_and_the_page_does(device, ceiling, tmp_path):
    old = edit(sample.good("python/pytorch/cnn", device=device), lambda run: run.pop("ceiling", None))
    html, _ = written([old], tmp_path)
    assert f"of this device's ceiling: {ceiling}, 118 GFLOP/s" in Page(html).all("body")[0]["text"]


# A page while the pipeline runs


NAMES = ("python/numpy/cnn", "python/numpy/rnn", "python/pytorch/cnn", "julia/flux/cnn", "r/base/cnn")


def cells_of(html: str) -> list[str]:
    """The texts of the overview's cells, with what only a screen reader gets."""
    grid = html.partition('<table class="grid">')[2].partition("</table>")[0]
    return [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", grid)]


def running(progress: Progress, legs: list[dict], folder: Path) -> str:
    path = report.write_running(progress, legs, folder)
    assert [it.name for it in folder.iterdir()] == [path.name] == ["summary.html"]
    assert path.stat().st_mtime == 1, "older than every record: Snakemake makes the final page in any case"
    html = path.read_text()
    Page(html)
    assert "http-equiv" not in html
    return html


def test_the_page_stands_before_anything_was_proven(tmp_path):
    html = running(Progress("running: 0 of 5 timed", dict.fromkeys(NAMES, "waiting")), [], tmp_path)
    assert "Running: 0 of 5 timed. This page is made anew as legs finish; reload it." in html
    assert [cell for cell in cells_of(html) if cell != "no leg"] == ["·waiting"] * 5
    assert "The stone" in html
    assert "No result" not in html
    assert "What is missing" not in html


def test_each_state_is_a_sign_and_a_word(tmp_path):
    states = dict(
        zip(NAMES, ("timed", "running", "proven", "unavailable: Flux needs Julia 1.10", "failed: no <memory>"))
    )
    timed = sample.good("python/numpy/cnn")
    html = running(Progress("running: 1 of 5 timed", states), [timed], tmp_path)
    cells = [cell for cell in cells_of(html) if cell != "no leg"]
    assert cells[0].startswith("✓timed ≡, proof: exact 17.9 s")
    assert cells[1:] == ["▸running", "≡proven", "○unavailable", "✕failed"]
    missing = html.partition('<h2 id="missing">')[2].partition("</section>")[0]
    assert "Flux needs Julia 1.10" in missing
    assert "no &lt;memory&gt;" in missing
    assert "python/numpy/rnn" not in missing


def test_legs_with_some_of_their_rounds_and_with_a_proof_alone_are_shown(tmp_path):
    whole = sample.good("python/pytorch/cnn")
    some = sample.good("python/numpy/cnn", rounds=1)
    proven = records.gather(sample.good("r/base/cnn")["proof"], [])
    states = {"python/pytorch/cnn": "timed", "python/numpy/cnn": "running", "r/base/cnn": "proven"}
    html = running(Progress("running", states), [whole, some, proven], tmp_path)
    ranked = html.partition('<tbody class="ranked">')[2].partition("</tbody>")[0]
    assert re.findall(r'scope="row"><a [^>]*>([^<]*)', ranked) == ["pytorch", "numpy"]
    assert "r/base/cnn" in html.partition('<h2 id="proof">')[2].partition("</section>")[0]
    missing = html.partition('<h2 id="missing">')[2].partition("</section>")[0]
    assert "r/base/cnn" not in missing


def test_a_page_of_a_run_takes_the_threads_from_a_round(tmp_path):
    """A proof on a CPU has one thread, whatever the run was asked for."""
    proven = records.gather({**sample.good("python/numpy/cnn")["proof"], "threads": 1}, [])
    html = running(Progress("running", {}), [proven], tmp_path)
    assert "How to repeat this" not in html
    html = running(Progress("running", {}), [proven, sample.good("r/base/rnn")], tmp_path)
    repeat = html.partition('<h2 id="repeat">')[2]
    assert "threads=2" in repeat
    assert "threads=1" not in repeat


def test_a_run_that_stopped_asks_nobody_to_reload(tmp_path):
    html = running(Progress("stopped: 1 of 5 timed; the next run goes on from here", {}), [], tmp_path)
    assert "Stopped: 1 of 5 timed; the next run goes on from here." in html
    assert "reload" not in html


def test_what_did_not_change_is_not_drawn_again(tmp_path, monkeypatch):
    legs = [sample.good("python/numpy/cnn"), sample.good("r/base/rnn")]
    progress = Progress("running", {leg["leg"]: "timed" for leg in legs})
    running(progress, legs, tmp_path)
    drawn = []
    svg = charts.svg
    monkeypatch.setattr(charts, "svg", lambda figure, name, *texts: drawn.append(name) or svg(figure, name, *texts))
    running(progress, legs, tmp_path)
    assert drawn == []
    running(progress, [legs[0], sample.good("r/base/rnn", seconds=2.0)], tmp_path)
    assert sorted(drawn) == ["losses2", "samples2"]


def test_the_finished_page_says_nothing_of_a_run(tmp_path):
    html, markdown = written([sample.good("python/numpy/cnn")], tmp_path)
    for text in (html, markdown):
        assert "reload it" not in text
        assert "▸" not in text


# What is shown and what is left out


def test_what_was_left_out_is_said_with_the_command_that_adds_it(tmp_path):
    left_out = select(["python/paddle", "python/caffe2"])
    leg = edit(sample.good("python/numpy/cnn"), lambda run: run["provenance"].update(overrides=["rounds=9"]))
    report.write([leg], tmp_path, left_out=left_out)
    sentence = f"Not in this report: {len(left_out)} legs of the groups more and historic."
    assert f"<p>{sentence} <code>make report LEGS=all</code> adds them.</p>" in (tmp_path / "summary.html").read_text()
    assert f"{sentence} `make report LEGS=all` adds them." in (tmp_path / "summary.md").read_text()
    assert facts.left_out_words(left_out[:1], [])[0] == "Not in this report: 1 leg of the group historic."


@pytest.mark.parametrize(
    ("settings", "language", "command"),
    [
        (
            ["data=synthetic", "legs=core", "work.cnn.batch=8"],
            "",
            "make report LEGS=all CONFIG='data=synthetic work.cnn.batch=8'",
        ),
        (["data_folder=/my data", "rounds=1"], "", "rosetta bench --legs all -c 'data_folder=/my data' -c rounds=1"),
        (["profile=smoke"], "julia", "rosetta bench julia --legs julia -c profile=smoke"),
    ],
)
def test_the_command_that_adds_legs_keeps_the_settings_of_the_run(settings, language, command):
    assert facts.left_out_words(select(["julia/flux/cnn"]), settings, language)[1] == command


def test_a_page_of_a_run_names_the_command_with_the_settings_of_the_run(tmp_path):
    """Before there is any record, and on the page of one language."""
    for folder, command in (
        ("all", "make report LEGS=all CONFIG=rounds=1"),
        ("julia", "rosetta bench julia --legs julia -c rounds=1"),
    ):
        left_out = select(["julia/flux"])
        progress = Progress("running", {"julia/base/cnn": "waiting"})
        path = report.write_running(progress, [], tmp_path / folder, left_out, ["legs=core", "rounds=1"])
        assert f"<code>{command}</code> adds them." in path.read_text()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A plan that asks for NumPy alone, and PyTorch's record of an earlier run under the same settings."""
    monkeypatch.chdir(tmp_path)
    plan = Plan.of(config.load({"profile": "smoke", "data": "synthetic", "rounds": 2}), ["python/numpy/cnn"])
    (leg,) = select(["python/pytorch/cnn"])

    def make(rounds: int = 2, step_sha256: str = "") -> Path:
        record = sample.good(leg.name, rounds=rounds, profile="smoke")
        for run in (record["proof"], *record["rounds"]):
            run["provenance"]["step_sha256"] = step_sha256 or measuring.step_sha256(plan, leg, run["round"])
            run["provenance"]["lock_sha256"] = environments.lock_of("modern", plan.settings)
            records.write(plan.run_record(leg, run["round"]), run)
        records.write(plan.record(leg), record)
        return plan.record(leg)

    return plan, leg, make


def shown(plan: Plan) -> list[str]:
    return [record["leg"] for record in kept.further(plan, kept.everything(plan))]


def test_a_leg_that_is_not_configured_is_shown_if_its_record_still_holds(made):
    plan, _, make = made
    assert shown(plan) == []
    make()
    assert shown(plan) == ["python/pytorch/cnn"]
    assert kept.further(plan, kept.everything(plan, "julia")) == []
    left_out = {leg.name for leg in kept.left_out(kept.everything(plan), kept.further(plan, kept.everything(plan)))}
    assert "python/pytorch/cnn" not in left_out
    assert {"python/numpy/cnn", "python/pytorch/rnn"} < left_out
    asked = Plan.of(plan.settings, ["python/pytorch/cnn"])
    assert shown(asked) == [], "a configured leg is no further one"


NEWER = ("new weights", "new golden values")


@pytest.mark.parametrize(
    "fault",
    [
        "other settings",
        "too few rounds",
        "older than its code",
        "unreadable",
        "old environment",
        "other packages",
        "environment to be made again",
        "a higher time limit",
        *NEWER,
    ],
)
def test_old_numbers_are_never_shown_as_new(made, fault, monkeypatch):
    plan, leg, make = made
    path = make(rounds=1 if fault == "too few rounds" else 2, step_sha256="0" * 64 if fault == "other settings" else "")
    if fault == "older than its code":
        os.utime(plan.round(leg, 2), (1, 1))
    if fault == "unreadable":
        path.write_text("{")
    if fault == "old environment":
        marker = plan.environment(leg.framework.environment)
        marker.parent.mkdir(parents=True)
        marker.write_text("{}")
        os.utime(marker, (2**31, 2**31))
    if fault == "other packages":
        monkeypatch.setattr(environments, "lock_of", lambda name, settings: "ef" * 32)
    if fault == "environment to be made again":
        environment_of(plan, leg)
        assert shown(plan) == ["python/pytorch/cnn"]
        monkeypatch.setattr(environments, "needs", lambda name: environments.Needs(python="==3.99"))
    if fault == "a higher time limit":
        record = records.read(path)
        record["proof"].update(status="timeout", reason="stopped after 0.4 s")
        records.write(path, record)
    if fault in NEWER:
        path = plan.weights(leg.task) / "manifest.json" if fault == "new weights" else plan.goldens(leg.task)[-1].path
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (2**31, 2**31))
    assert shown(plan) == []


def environment_of(plan: Plan, leg: Leg) -> None:
    """Writes the marker of a leg's environment that was made in the present situation, before any record."""
    name = leg.framework.environment
    marker = plan.environment(name)
    situation = environments.situation(name, plan.settings)
    made = {"status": "ready", "reason": "", "python": sys.executable, "generation": 1, "situation": situation}
    records.write_text(marker, json.dumps(made))
    os.utime(marker, (1, 1))


def test_new_golden_values_call_for_a_new_proof_alone(made):
    plan, leg, make = made
    make()
    golden = plan.goldens(leg.task)[0].path
    golden.parent.mkdir(parents=True)
    golden.touch()
    later = golden.stat().st_mtime + 10
    for path in (plan.proof(leg), plan.record(leg)):
        os.utime(path, (later, later))
    os.utime(golden, (later - 5, later - 5))
    assert shown(plan) == ["python/pytorch/cnn"]


def test_what_is_run_by_hand_leaves_the_records_of_others_valid(made, monkeypatch):
    """`rosetta run`, `verify` and `setup` look at environments and arrays again: markers of what did not change keep their date."""
    plan, leg, make = made
    found = {"status": "ready", "reason": "", "python": sys.executable, "toolchain": None, "variables": {}}
    monkeypatch.setattr(environments, "provide", lambda name, settings, say: dict(found))
    manifest = {"source": "synthetic", "sha256": "ab" * 32}
    monkeypatch.setattr(prepare.data, "prepare", lambda *given, **named: manifest)
    markers = [plan.environment(leg.framework.environment), plan.data_marker(leg.task)]

    def by_hand():
        measuring.provide(plan, leg.framework.environment)
        prepare.arrays(plan, leg.task)

    by_hand()
    for marker in markers:
        os.utime(marker, (1, 1))
    by_hand()
    assert [marker.stat().st_mtime for marker in markers] == [1, 1]
    manifest["sha256"] = found["reason"] = "cd" * 32
    by_hand()
    assert all(marker.stat().st_mtime > 1 for marker in markers), "what did change is new"


def test_the_report_by_hand_leaves_out_what_no_longer_holds_and_says_so(made, monkeypatch):
    plan, _, make = made
    make()
    (old,) = plan.legs
    records.write(plan.record(old), sample.good(old.name, profile="smoke"))
    monkeypatch.setenv("ROSETTA_WORKDIR", str(Path.cwd()))
    monkeypatch.setattr(cli, "err", Console(file=(said := io.StringIO()), soft_wrap=True))
    cli.report(overrides=["profile=smoke", "legs=python/pytorch/cnn python/numpy/cnn"])
    assert list(pd.read_csv("reports/results.csv").leg) == ["python/pytorch/cnn"]
    (line,) = said.getvalue().splitlines()
    assert line.startswith("rosetta: the record of python/numpy/cnn is from other settings or older code")
    assert line.endswith("`rosetta run python/numpy/cnn -c profile=smoke` makes it again")


def test_the_pipeline_s_report_shows_them_and_a_language_only_its_own(made, monkeypatch):
    plan, _, make = made
    make()
    values = {"profile": "smoke", "data": "synthetic", "rounds": 2, "legs": ["python/numpy/cnn"]}
    monkeypatch.setenv("ROSETTA_CONFIG", json.dumps(values))
    monkeypatch.setenv("ROSETTA_WORKDIR", str(Path.cwd()))
    configured = plan.record(select(["python/numpy/cnn"])[0])
    records.write(configured, sample.good("python/numpy/cnn", profile="smoke"))
    for folder, more in (("reports", True), ("reports/python", True), ("reports/julia", False)):
        cli.step_report(Path(folder), [configured])
        names = list(pd.read_csv(Path(folder) / "results.csv").leg)
        assert names == ["python/numpy/cnn"] + ["python/pytorch/cnn"] * more
        assert "Not in this report: " in (Path(folder) / "summary.html").read_text()


# Published in 2018


def published_lines(legs: list[dict], task: str) -> dict[str, published.Line]:
    details = list(zip(legs, results.table(legs).to_dict("records")))
    return {line.name: line for line in published.lines(task, details)}


def test_published_figures_have_each_leg_of_today_in_its_own_setting():
    legs = [sample.good("python/pytorch/cnn"), sample.good("python/pytorch/cnn", device="cuda")]
    line = published.in_json(published_lines(legs, "cnn")["PyTorch"])
    assert [(leg["device"], leg["precision"]) for leg in line["today"]] == [("cpu", "fp32"), ("cuda", "fp32")]
    assert [(it["device"], it["seconds"], it["source"][-3:]) for it in line["published"]] == [
        ("Tesla K80", 169.0, "L39"),
        ("Tesla P100-PCIE-16GB", 51.0, "L39"),
    ]
    assert line["published"][0]["samples_per_second"] == pytest.approx(500_000 / 169)


def test_published_figures_stand_in_the_ranking_marked_and_with_their_notes(tmp_path):
    legs = [sample.good("python/mxnet-gluon/cnn"), sample.good("python/numpy/cnn"), sample.good("python/cntk/rnn")]
    html, _ = written(legs, tmp_path)
    cnn, rnn = re.findall(r'<table class="ranking">.*?</table>\s*</div>\s*.*?<div class="charts">', html, re.S)
    rows = {
        re.search(r">([^<>]+)</(?:a></)?th>", row)[1]: row
        for row in re.findall(r"<tr><th scope=\"row\".*?</tr>", cnn, re.S)
    }
    cells = {name: re.findall(r'<td class="[^"]*then[^"]*".*?</td>', row) for name, row in rows.items()}
    texts = {name: [re.sub("<[^>]+>", "", cell) for cell in row] for name, row in cells.items()}
    assert texts["mxnet-gluon"] == ["3,289 152 s", "8,772a 57 s", "README.md#L32"]
    assert texts["numpy"] == ["", "", ""]
    assert texts["Keras, CNTK backend"] == ["2,577 194 s", "6,579 76 s", "README.md#L33"]
    assert "run on a V100, not the P100" in cnn
    assert cnn.count("published 2018:") == 3
    assert "never ranked with ours" in cnn
    assert "cuDNN RNN: Yes" in rnn
    assert "cuDNN" not in cnn


# As shipped


def test_what_a_literal_port_changes_has_a_table_of_its_own(tmp_path):
    exact, literal = sample.good("python/numpy/rnn"), sample.good("python/pytorch/rnn")
    drifts = [
        {"quantity": "logits", "step": step, "difference": size} for step, size in ((1, 1.6e-4), (5, None), (20, 0.45))
    ]
    literal["proof"].update(as_shipped=drifts, as_shipped_why="its Adam adds epsilon before the <correction>")
    (found,) = proofs.shipped([exact, literal])
    assert (found.leg["leg"], found.drifts) == ("python/pytorch/rnn", {1: 1.6e-4, 5: None, 20: 0.45})
    page.write([exact, literal], tmp_path)
    for name in ("summary.html", "summary.md"):
        text = (tmp_path / name).read_text()
        assert "1.6e-4" in text
        assert "not finite" in text
        assert "4.5e-1" in text
    assert "before the &lt;correction&gt;" in (tmp_path / "summary.html").read_text()
    page.write([exact], tmp_path)
    assert "literal port" not in (tmp_path / "summary.md").read_text()


# The proof's table


def test_proof_shows_the_difference_nearest_to_its_bound():
    leg = sample.good("python/numpy/cnn")
    template = {"precision": "fp32", "quantity": "logits", "passed": True}
    leg["proof"]["differences"] = [
        {**template, "step": 1, "difference": 9e-6, "tolerance": 1e-5},
        {**template, "step": 20, "difference": 5e-3, "tolerance": 2e-2},
    ]
    (found,) = proofs.proofs([leg])
    assert found.worst["logits"]["step"] == 1


def test_a_proof_at_two_batches_keeps_them_apart(tmp_path):
    """float64 at batch 8, and the precision asked for at the timed batch; MLX has both in fp32."""
    leg = sample.good("python/numpy/cnn")
    for difference in leg["proof"]["differences"]:
        difference["batch"] = 8 if difference["precision"] == "fp64" else 64
    mlx = copy.deepcopy(leg)
    mlx.update(leg="python/mlx/cnn", framework="mlx")
    small = {"precision": "fp32", "quantity": "logits", "difference": 1e-6, "tolerance": 1e-5, "passed": True}
    mlx["proof"]["differences"] = [
        {**small, "step": 20, "batch": 8},
        {**small, "step": 1, "batch": 64, "difference": 2e-6},
    ]
    records.check(mlx, "mlx")
    assert [it.setting for it in proofs.proofs([leg])] == ["fp64, batch 8", "fp32, batch 64"]
    assert [it.setting for it in proofs.proofs([mlx])] == ["fp32, batch 8", "fp32, batch 64"]
    assert [it.worst["logits"]["step"] for it in proofs.proofs([mlx])] == [20, 1]
    html, markdown = written([leg, mlx], tmp_path)
    for text in (html, markdown):
        assert "fp64, batch 8" in text
    details = html.partition('id="leg-python-mlx-cnn-quick-cpu-fp32"')[2]
    assert '<th scope="col">fp32, batch 8</th><th scope="col">fp32, batch 64</th>' in details


def test_one_batch_needs_no_words():
    leg = sample.good("python/numpy/cnn")
    for difference in leg["proof"]["differences"]:
        difference["batch"] = 64
    assert [it.setting for it in proofs.proofs([leg])] == ["fp64", "fp32"]


def test_a_difference_that_is_no_number_is_the_worst():
    leg = sample.mismatch("python/numpy/cnn")
    leg["proof"]["differences"].append(
        {"precision": "fp32", "quantity": "loss", "step": 5, "difference": None, "tolerance": 1e-3, "passed": False}
    )
    found = [proof for proof in proofs.proofs([leg]) if proof.precision == "fp32"]
    assert found[0].worst["loss"]["difference"] is None
    assert not found[0].passed
    assert words.difference(None) == "not finite"


def test_a_proof_that_broke_off_is_not_called_exact(tmp_path):
    """All that was compared before it crashed had passed."""
    found = [it for it in sample.differences("python/numpy/cnn") if it["precision"] == "fp64"]
    proof = sample.run("python/numpy/cnn", "proof", 0, "failed", "killed by signal 11", differences=found)
    leg = sample.gathered(proof, [sample.run("python/numpy/cnn", "round", 1, "failed", "no proof")])
    assert [it.verdict for it in proofs.proofs([leg])] == ["failed"]
    html, markdown = written([leg], tmp_path)
    matrix = html.partition("Largest difference from the golden values")[2].partition("</table>")[0]
    assert "failed" in matrix
    assert "exact" not in matrix
    assert "| failed, not proven |" in markdown


def test_a_mismatch_in_one_precision_is_none_in_the_other():
    leg = sample.mismatch("python/pytorch/rnn")
    for it in leg["proof"]["differences"]:
        it["passed"] = it["precision"] == "fp64"
    assert {it.precision: it.verdict for it in proofs.proofs([leg])} == {"fp64": "exact", "fp32": "mismatch"}


def test_the_matrix_is_in_the_markdown_too(tmp_path):
    _, markdown = written([sample.good("python/numpy/cnn"), sample.mismatch("python/pytorch/rnn")], tmp_path)
    table = markdown.partition("## Proof")[2].partition("\n## ")[0]
    assert "| leg | setting | weights | logits | loss | gradient | verdict |" in table
    assert table.count("| exact |") == 2
    assert "**>**" in table


# Warnings


def titles(legs: list[dict]) -> list[str]:
    return [banner.title for banner in facts.banners(legs)]


def test_the_full_job_on_real_data_on_a_quiet_machine_has_no_warning():
    assert titles([full(sample.good("python/numpy/cnn"))]) == []


@pytest.mark.parametrize(
    ("leg", "title"),
    [
        (synthetic(full(sample.good("python/numpy/cnn"))), "Synthetic data"),
        (
            full(
                edit(
                    sample.good("python/numpy/cnn"),
                    lambda run: run["data"].update(source="archive with another checksum"),
                )
            ),
            "Another archive",
        ),
        (sample.good("python/numpy/cnn"), "Profile quick: a part of the job"),
        (full(edit(sample.good("python/numpy/cnn"), lambda run: run.update(other_load_percent=40.0))), "Busy machine"),
        (
            full(edit(sample.good("python/numpy/cnn"), lambda run: run["provenance"].update(dirty=True))),
            "Uncommitted changes",
        ),
        (full(sample.good("julia/base/cnn")), "Old Julia"),
        (full(implausible_once("python/numpy/cnn")), "Failed plausibility"),
        (full(sample.unavailable("python/numpy/cnn", "no NumPy")), "No result"),
    ],
)
def test_each_reason_for_doubt_is_announced(leg, title):
    assert titles([leg]) == [title]


@pytest.mark.parametrize(
    ("leg", "mark"),
    [
        (sample.good("julia/base/cnn"), "old Julia 1.5.3"),
        (implausible_once("python/numpy/cnn"), "failed plausibility: python/numpy/cnn"),
        (sample.broken("python/numpy/cnn", "invalid", "impossible"), "failed plausibility: python/numpy/cnn"),
    ],
    ids=["old Julia", "one round invalid", "all rounds invalid"],
)
def test_a_copied_table_keeps_the_doubt(leg, mark, tmp_path):
    html, markdown = written([leg, sample.good("python/pytorch/rnn")], tmp_path)
    (cnn,) = [it["text"] for it in Page(html).all("caption") if it["text"].startswith("CNN on CIFAR-10: seconds")]
    (rnn,) = [it["text"] for it in Page(html).all("caption") if it["text"].startswith("GRU on IMDB: seconds")]
    assert mark in cnn
    assert mark not in rnn
    assert mark in markdown.partition("## CNN on CIFAR-10")[2].partition("\n|")[0]


def test_every_table_of_the_markdown_is_marked(tmp_path):
    legs = [synthetic(sample.good(name)) for name in ("python/keras-tensorflow/rnn", "r/keras/rnn", "r/base/rnn")]
    legs[0]["proof"]["as_shipped"] = [{"quantity": "logits", "step": 1, "difference": 1e-4}]
    _, markdown = written(legs, tmp_path)
    for title in ("GRU on IMDB", "The same library from two languages", "Proof", "As shipped"):
        assert "**[synthetic data" in markdown.partition(f"## {title}\n")[2].partition("\n|")[0], title


def test_julia_1_10_is_not_old():
    assert titles([full(edit(sample.good("julia/base/cnn"), lambda run: run["versions"].update(julia="1.10.2")))]) == []


def test_records_of_two_machines_are_announced():
    other = edit(sample.good("python/pytorch/cnn"), lambda run: run["machine"].update(processor="another"))
    assert "Mixed records" in titles([sample.good("python/numpy/cnn"), other])


# The files


def test_csv_and_parquet_hold_the_same_rows_with_the_promised_columns(tmp_path):
    paths = report.write(sample.mixed(), tmp_path)
    assert {path.name for path in paths} == {
        "results.csv",
        "results.json",
        "results.parquet",
        "summary.md",
        "summary.html",
    }
    csv, parquet = pd.read_csv(tmp_path / "results.csv"), pd.read_parquet(tmp_path / "results.parquet")
    promised = (
        "leg language framework task status reason proof device precision profile data seconds_median seconds_low seconds_high "
        "samples_per_second first_step_seconds accuracy peak_memory_mb"
    )
    assert list(csv.columns[:18]) == promised.split()
    assert list(csv.columns) == list(parquet.columns) == results.COLUMNS
    assert list(csv.leg) == list(parquet.leg)
    assert csv.seconds_median.tolist() == pytest.approx(parquet.seconds_median.tolist(), nan_ok=True)
    assert csv[csv.leg == HOSTILE].reason.item().startswith("RuntimeError: <script>alert('x')</script> &")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_json_holds_what_has_no_row_a_leg(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    legs = [*sample.mixed(), sample.good("python/keras-tensorflow/rnn"), sample.good("r/keras/rnn")]
    written(legs, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert [leg["leg"] for leg in found["legs"]] == list(pd.read_csv(tmp_path / "results.csv").leg)
    curves = {leg["leg"]: leg["loss_curve"] for leg in found["legs"]}
    assert len(curves["python/numpy/cnn"]["epochs"]) == len(curves["python/numpy/cnn"]["losses"]) == 30
    assert curves["python/pytorch/resnet50"] == {"epochs": [], "losses": []}
    best = {it["leg"]: it for it in found["best_of_languages"]}
    assert best["julia/base/cnn"]["low"] < best["julia/base/cnn"]["times"] < best["julia/base/cnn"]["high"]
    (same,) = found["same_library"]
    assert (same["leg"], same["python"]) == ("r/keras/rnn", "python/keras-tensorflow/rnn")
    assert same["low"] <= same["times"] <= same["high"]
    languages = {it["leg"]: it for it in found["without_frameworks"]}
    assert languages["julia/base/cnn"]["times"] == pytest.approx(
        pd.read_csv(tmp_path / "results.csv").set_index("leg").seconds_median["julia/base/cnn"]
        / pd.read_csv(tmp_path / "results.csv").set_index("leg").seconds_median["python/numpy/cnn"]
    )
    made_of = {it["leg"]: it for it in found["made_of"]}
    assert made_of["r/keras/rnn"]["overhead_seconds"] < made_of["r/keras/rnn"]["step_seconds"]
    lines = {(line["task"], line["framework"]): line for line in found["published"]}
    assert lines["rnn", "Keras, TensorFlow backend (R)"]["today"][0]["leg"] == "r/keras/rnn"
    assert lines["rnn", "CNTK, low"]["published"][0]["notes"] == "cuDNN RNN: Yes"


def test_docs_explain_every_column():
    text = (Path(__file__).parents[1] / "docs" / "report.md").read_text()
    assert [name for name in results.COLUMNS if f"`{name}`" not in text] == []


def test_a_report_that_fails_leaves_the_last_one_as_it_was(tmp_path, monkeypatch):
    report.write(sample.nine(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(page.charts, "losses", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        report.write(sample.mixed(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_same_records_make_the_same_report(tmp_path):
    first = written(sample.nine(), tmp_path / "first")
    assert written(list(reversed(sample.nine())), tmp_path / "second") == first


def test_no_records_and_doubled_records_are_refused(tmp_path):
    with pytest.raises(records.RecordError, match="no leg record"):
        report.write([], tmp_path)
    with pytest.raises(records.RecordError, match="two records of the same leg"):
        report.write([sample.good("python/numpy/cnn")] * 2, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_report_is_cheap():
    code = "import sys, rosetta.report; print([name for name in ('pandas', 'matplotlib', 'jinja2') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(report.__file__).parents[2])},
    )
    assert done.stdout.strip() == "[]", done.stderr


# The page


CASES = {
    "nine": sample.nine,
    "mixed": sample.mixed,
    "synthetic": lambda: [synthetic(leg) for leg in sample.mixed()],
    "one round": lambda: [sample.good("julia/base/rnn", rounds=1)],
    "one sample": lambda: [with_epochs("r/base/cnn", [[1.0]])],
    "nothing ok": lambda: [sample.unavailable("julia/base/cnn", "no Julia"), sample.broken("r/base/cnn", "failed", "")],
    "two devices": lambda: [sample.good("python/numpy/cnn"), sample.good("python/numpy/cnn", device="cuda")],
    "unknown task": lambda: [sample.good("lua/torch7/gan")],
    "no losses": lambda: [
        edit(sample.good("python/numpy/cnn"), lambda run: [phase.pop("losses", 0) for phase in run["phases"]])
    ],
    "broken losses": lambda: [
        edit(
            sample.good("python/numpy/cnn"),
            lambda run: [phase.update(losses=[None] * 10) for phase in run["phases"] if "losses" in phase],
        )
    ],
    "zero seconds": lambda: [with_epochs("python/numpy/cnn", [[0.0, 0.0]])],
}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request, tmp_path_factory):
    legs = CASES[request.param]()
    html, markdown = written(legs, tmp_path_factory.mktemp("report"))
    return legs, html, markdown


def test_every_leg_is_on_the_page_with_status_and_reason(case):
    legs, html, _ = case
    summaries = [element["text"] for element in Page(html).all("summary")]
    text = Page(html).all("body")[0]["text"]
    for leg in legs:
        assert any(leg["leg"] in summary and leg["status"] in summary for summary in summaries)
        assert leg["reason"] in text


def test_page_is_whole_and_needs_nothing_from_outside(case):
    _, html, _ = case
    found, living = Page(html), {leg.name for leg in stone.living()}
    assert len(html) < 2_000_000
    assert not found.all("link", "img", "iframe", "object")
    scripts = [script for script in found.all("script") if script.get("id") != "index"]
    assert not [script for script in scripts if set(script) - {"tag", "text"}]
    assert not [element for element in found.elements if any(name.startswith("on") for name in element)]
    links = [
        value for element in found.elements for name, value in element.items() if name in ("href", "src", "xlink:href")
    ]
    links.remove("rosetta.html")
    links = [link for link in links if not re.fullmatch(r"[^:]*reports/logs/[^:]*\.log", link)]
    homes = {framework.homepage for framework in stone.context()["frameworks"].values()}
    assert homes < set(links)
    links = [link for link in links if link not in homes]
    assert all(link.startswith("#") for link in links)
    pairs = [link[1:].split("/") for link in links if "/" in link]
    assert all(
        f"{pair}/{task}" in living for task, *names in pairs for pair in ("/".join(names[:2]), "/".join(names[2:]))
    )
    links = [link for link in links if "/" not in link]
    assert not re.search(r"@import|url\((?!#)", html)
    ids = [element["id"] for element in found.elements if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) <= set(ids)
    measured = found.all("main")[0]["text"].replace(code_of(found), "")
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", measured.lower())


def code_of(found: Page) -> str:
    """The text of the report's section The stone, which tests/test_stone.py reads."""
    return next(section["text"] for section in found.all("section") if section.get("class") == "stone")


def test_page_is_made_for_screen_readers(case):
    _, html, _ = case
    found = Page(html)
    assert found.all("html")[0]["lang"] == "en"
    assert found.all("title")[0]["text"].startswith("Rosetta Bench")
    assert all(element.get("scope") for element in found.all("th"))
    assert len(found.all("caption")) == len(found.all("table"))
    levels = [int(element["tag"][1]) for element in found.all("h1", "h2", "h3", "h4", "h5")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in zip(levels, levels[1:]))
    for chart in found.all("svg"):
        if chart.get("aria-hidden") != "true":  # the sign on a button that has a name
            assert chart["role"] == "img"
            assert chart["aria-labelledby"]


def test_the_front_is_one_paragraph_of_facts(case):
    _, html, _ = case
    front = html.partition("<header>")[2].partition("</header>")[0]
    lede, paragraph = re.findall(r"<p.*?</p>", front, re.S)
    for fact in (" ran on ", "2026", "profile quick", "commit 4f0c2d9a7b"):
        assert fact in paragraph


def test_the_grid_tells_the_proof_to_those_who_see_it_and_those_who_do_not(tmp_path):
    html, _ = written(sample.mixed(), tmp_path)
    grid = html.partition('<table class="grid">')[2].partition("</table>")[0]
    cells = dict(re.findall(r'<td><a href="#leg-([a-z0-9-]+)-quick-cpu-fp32">(.*?)</a>', grid))
    for leg, sign, word in (
        ("python-numpy-cnn", "≡", "exact"),
        ("python-pytorch-rnn", "≠", "mismatch"),
        ("python-literal-port-rnn", "△", "variant"),
        ("julia-flux-cnn", "?", "not run"),
    ):
        assert f'<span aria-hidden="true">{sign}</span><span class="unseen">, proof: {word}</span>' in cells[leg]


def test_the_grid_says_what_its_seconds_are_for_where_the_jobs_differ(tmp_path):
    half = edit(sample.good("python/numpy/cnn"), lambda run: run["work"].update(samples=256))
    html, _ = written([half, sample.good("r/base/cnn"), sample.good("python/numpy/rnn")], tmp_path)
    grid = html.partition('<table class="grid">')[2].partition("</table>")[0]
    cells = dict(re.findall(r'<td><a href="#leg-([a-z-]+)-quick-cpu-fp32">(.*?)</a>', grid))
    jobs = {leg: re.findall("for (.*?)</span>", cell) for leg, cell in cells.items()}
    assert jobs == {
        "python-numpy-cnn": ["3 epochs of 256 samples"],
        "r-base-cnn": ["3 epochs of 640 samples"],
        "python-numpy-rnn": [],
    }


def test_details_lead_to_the_logs_and_name_lock_framework_and_proof(tmp_path, monkeypatch):
    """Logs by a way that works wherever the folder of reports is moved to."""
    monkeypatch.chdir(tmp_path)
    lock = next(iter(page.locks()))
    known = edit(sample.good("r/mxnet/rnn"), lambda run: run["provenance"].update(lock_sha256=lock))
    for folder, up in ((Path("reports"), ""), (Path("reports/r"), "../")):
        report.write([known, sample.good("lua/torch7/cnn")], folder)
        html = (folder / "summary.html").read_text()
        assert f'<a href="{up}logs/quick/cpu-fp32/r/mxnet/rnn-0.log">proof</a>' in html
        assert f'<a href="{up}logs/quick/cpu-fp32/r/mxnet/rnn-3.log">round 3</a>' in html
    details = html.partition('id="leg-r-mxnet-rnn-quick-cpu-fp32"')[2]
    assert f"{page.locks()[lock]}, sha256 {lock}" in details
    assert "MXNet&#39;s native package for R is retired" in details
    assert "Upstream: retired in 2023" in details
    assert '<th scope="row">gradient of gru.bias_hh</th>' in details
    assert '<span class="interval">≤ 1e-7, step 1</span>' in details


def test_synthetic_data_is_said_on_top_and_in_every_caption(tmp_path):
    html, markdown = written([synthetic(leg) for leg in sample.mixed()], tmp_path)
    found = Page(html)
    assert html.index("Synthetic data.") < html.index("<table")
    without_data = {"julia/flux/cnn"}
    code = code_of(found)  # measured nothing
    captions = [element["text"] for element in found.all("caption") if element["text"] not in code]
    assert len(captions) > 8
    assert [
        caption
        for caption in captions
        if "synthetic data" not in caption and not any(leg in caption for leg in without_data)
    ] == []
    assert markdown.count("[synthetic data") == len(re.findall(r"^\|---", markdown, re.M)) + markdown.count("\n- ")


def test_real_data_beside_synthetic_is_not_called_synthetic(tmp_path):
    html, _ = written([synthetic(sample.good("python/numpy/cnn")), sample.good("python/numpy/rnn")], tmp_path)
    captions = [element["text"] for element in Page(html).all("caption")]
    (rnn,) = [caption for caption in captions if caption.startswith("GRU on IMDB: seconds")]
    assert "synthetic" not in rnn
    assert any("synthetic data in CNN on CIFAR-10" in caption for caption in captions)


def test_a_part_of_the_job_is_never_shown_as_the_whole(tmp_path):
    html, markdown = written([sample.good("python/numpy/cnn")], tmp_path)
    for text in (html, markdown):
        assert "seconds for 3 epochs of 640 samples" in text.lower()
        assert "the full job is 10 epochs of 50,000 samples" in text


def test_text_from_records_stays_text(tmp_path):
    html, markdown = written(sample.mixed(), tmp_path)
    # Our own: the class for the style sheet, what the stone looks up, and what the page does.
    assert html.count("<script") == 3
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp;" in html
    assert "<script" not in markdown
    missing = markdown.partition("## What is missing")[2]
    rows = [line for line in missing.splitlines() if line.startswith(f"| {HOSTILE} ")]
    assert len(rows) == 1
    assert words.markdown("a|b\n*c* <d>") == "a\\|b \\*c\\* &lt;d&gt;"


def test_charts_take_their_colours_from_the_page(tmp_path):
    html, _ = written(sample.nine(), tmp_path)
    drawings = re.findall(r'<svg class="chart".*?</svg>', html, re.S)
    assert len(drawings) == 16, "samples for three tasks, losses for two, languages for two, one for each of nine legs"
    for drawing in drawings:
        ElementTree.fromstring(drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
        colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawing)) - {"none"}
        assert {colour for colour in colours if not colour.startswith("var(--")} == set()
    variables = set(re.findall(r"var\((--[a-z0-9-]+)\)", html))
    assert variables <= set(re.findall(r"(--[a-z0-9-]+):", html))


def test_every_leg_shows_each_of_its_samples_and_its_loss():
    leg = with_epochs("python/numpy/cnn", [[1.0, 2.0, 1.5], [1.25, 1.75]])
    assert "training loss ends at 1" in charts.course(leg, "both")
    edit_phases(leg, lambda phase: phase.pop("losses", None))
    drawn = charts.course(leg, "one")
    markers = re.findall(r'<use xlink:href="#one-(m[0-9a-f]+)" x="([0-9.]+)"', drawn)
    places = [float(x) for _, x in markers if x]
    assert {1.0, 2.0, 1.5, 1.25, 1.75} <= {
        round(1 + (x - min(places)) / (max(places) - min(places)), 2) for x in places
    }
    assert "1.00 to 2.00 s for one epoch" in drawn
    assert charts.course(sample.unavailable("julia/flux/cnn", "no Julia"), "none") is None


def test_long_loss_curves_are_thinned_without_moving_their_mean():
    leg = with_epochs("python/numpy/cnn", [[1.0]])
    leg["rounds"][0]["phases"][-1]["losses"] = [float(step) for step in range(7810)]
    leg["rounds"][0]["work"]["samples"] = 64 * 7810
    x, y = charts.loss_curve(leg)
    assert len(x) == len(y) == charts.POINTS
    assert sum(y) / len(y) == pytest.approx(7809 / 2, rel=5e-3)
    assert x[-1] == pytest.approx(1, abs=0.01)
