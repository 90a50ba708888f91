"""What a reader of the report relies on."""

import copy
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import sample_records as sample
from rosetta import records, report
from rosetta.report import charts, comparisons, facts, page, proofs, published, results, statistics, stone, words

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
