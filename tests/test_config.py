"""Settings: a typo is an error with one clear line, never a default."""

import shlex

import pytest
from rosetta import config, frameworks
from rosetta.frameworks import GROUPS, discover, select
from tests_support import message_of


def test_profile_full_is_the_published_task():
    work = config.load({"profile": "full"}).work
    assert work["cnn"] == {"batch": 64, "samples": 50_000, "epochs": 10, "test_samples": 10_000}
    assert work["rnn"] == {"batch": 64, "samples": 25_000, "epochs": 3, "test_samples": 25_000}
    assert work["resnet50"]["samples"] == 40 * 32


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"profil": "quick"}, ["there is no setting 'profil'; did you mean profile?", "config/config.yaml"]),
        ({"budget": 5}, ["there is no setting 'budget'; did you mean budget_seconds?"]),
        ({"xyz": 5}, ["there is no setting 'xyz'; see config/config.yaml"]),
        ({"profile": "quik"}, ["quik", "full, quick, smoke"]),
        ({"device": "gpu"}, ["device", "'gpu'", "cpu"]),
        ({"threads": -1}, ["threads", "-1"]),
        ({"rounds": 0}, ["rounds", "0"]),
        ({"budget_seconds": 0}, ["budget_seconds", "0"]),
        ({"budget_seconds": -5}, ["budget_seconds", "-5"]),
        ({"scoring_seconds": float("nan")}, ["scoring_seconds", "nan", "null"]),
        ({"profile": "full", "budget_seconds": 5}, ["budget_seconds", "full", "profile=quick"]),
        ({"proof": "tiny"}, ["proof", "'tiny'", "small"]),
        ({"work": {"cnn": {"batch": 64, "smaples": 5}}}, ["work.cnn.smaples", "did you mean work.cnn.samples?"]),
        ({"work": {"cnn": {"samples": 60_000}}}, ["work.cnn.samples", "60000", "50000"]),
        ({"work": {"rnn": {"samples": 10, "batch": 64}}}, ["work.rnn.samples", "10", "64"]),
    ],
)
def test_bad_values_are_named(overrides, words):
    message = message_of(config.ConfigError, config.load, overrides)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_only_the_quick_profile_has_a_budget():
    """The published job and the smoke test run all of their work."""
    assert config.load({"profile": "quick"}).budget_seconds == 5
    for profile in ("full", "smoke"):
        settings = config.load({"profile": profile})
        assert (settings.budget_seconds, settings.scoring_seconds, settings.proof) == (None, None, "whole")


def test_overrides_reach_into_a_profile():
    settings = config.load({"profile": "smoke", "rounds": 7, "work": {"cnn": {"epochs": 5}}})
    assert (settings.rounds, settings.work["cnn"]["epochs"], settings.work["cnn"]["batch"]) == (7, 5, 8)


def test_what_snakemake_hands_down_in_a_mapping_has_its_type():
    """It reads `--config 'work={cnn: {epochs: 8}}'` as text; the report prints the settings in such words."""
    from rosetta.report.facts import for_snakemake
    from snakemake.cli import parse_config

    printed = for_snakemake(["work.cnn.epochs=8", "work.rnn.batch=32", "legs=*/cnn", "accept_other_checksum=true"])
    settings = config.load(parse_config(shlex.split(" ".join(printed))))
    assert (settings.work["cnn"]["epochs"], settings.work["rnn"]["batch"]) == (8, 32)
    assert (settings.legs, settings.accept_other_checksum) == (("*/cnn",), True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("null", None), ("None", None), ("none", None), ("1e9", 1e9), ("0.5", 0.5), ("3", 3)],
)
def test_a_budget_means_the_same_however_it_comes(text, value):
    """From `rosetta -c`, from `snakemake --config`, and from the first through the second, as `rosetta bench` does it."""
    from rosetta import cli
    from snakemake.cli import parse_config

    word = f"budget_seconds={text}"
    assert cli.settings([word]).budget_seconds == value
    for given in ([word], config.for_snakemake([word])):
        assert config.load(parse_config(given)) == cli.settings([word])


def test_an_empty_budget_is_refused_in_one_line():
    from rosetta import cli
    from snakemake.cli import parse_config

    for key in ("budget_seconds", "scoring_seconds"):
        expected = f"{key}: the value is empty; write a number of seconds, or null for no budget"
        assert message_of(config.ConfigError, cli.settings, [f"{key}="]) == expected
        assert message_of(config.ConfigError, config.load, parse_config([f"{key}="])) == expected


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("python/pytorhc/cnn", "did you mean python/pytorch/cnn?"),
        ("moer", "did you mean more?"),
        ("core/julai", "did you mean core/julia?"),
        ("jax", "did you mean python/jax?"),
        ("fortran", "'fortran'."),
        ("historic/julia", "'historic/julia'"),
    ],
)
def test_a_word_that_means_no_leg_is_answered_in_one_line(word, meant):
    message = message_of(config.ConfigError, select, ["core", word])
    assert repr(word) in message
    assert meant in message
    known = (
        "The languages are"
        if word == "core/julai"
        else "The groups are core, more and historic; `rosetta list` shows all legs"
    )
    assert known in message
    assert len(message) < 200
    assert "\n" not in message


def test_a_group_in_a_language_that_there_is_not_is_answered_with_the_languages():
    message = message_of(config.ConfigError, select, ["core/fortran"])
    assert message == "no leg, language or group is called 'core/fortran'. The languages are python, julia, r"


def names(*words: str) -> set[str]:
    return {leg.name for leg in select(words)}


def test_patterns_select_legs_of_all_groups():
    assert [leg.name for leg in select(["r"])] == [leg.name for leg in discover() if leg.framework.language == "r"]
    assert {leg.task.name for leg in select(["*/cnn"])} == {"cnn"}
    assert [leg.name for leg in select(["python/numpy/rnn"])] == ["python/numpy/rnn"]
    assert names("python/*/cnn") >= {"python/pytorch/cnn", "python/paddle/cnn", "python/chainer/cnn"}
    assert names("all") == names("*") == {leg.name for leg in discover()}


def test_a_group_means_its_legs_and_with_a_language_those_in_both():
    def frameworks(*words):
        return {name.rpartition("/")[0] for name in names(*words)}

    python = "numpy pytorch tensorflow keras-tensorflow jax mxnet-gluon"
    assert frameworks("core/python") == {f"python/{name}" for name in python.split()}
    assert frameworks("core/julia") == {"julia/base", "julia/flux", "julia/knet"}
    assert frameworks("core/r") == {"r/base", "r/keras", "r/mxnet"}
    assert names("core") == names("core/python", "core/julia", "core/r")
    assert frameworks("historic") == {f"python/{name}" for name in ("chainer", "cntk", "caffe2", "theano", "lasagne")}
    assert sum(len(names(group)) for group in GROUPS) == len(discover())
    assert names("core", "more", "historic") == names("all")


def test_the_legs_of_a_text_are_parted_by_blanks_and_commas():
    assert config.load({}).legs == ("core",)
    assert config.load({"legs": "core more"}).legs == ("core", "more")
    assert config.load({"legs": "core/python, julia,*/cnn"}).legs == ("core/python", "julia", "*/cnn")
    assert config.load({"legs": "[core, more]"}).legs == ("core", "more")
    for empty in (" ", ",", "[]", None):
        assert "legs: name at least one" in message_of(config.ConfigError, config.load, {"legs": empty})


def test_a_framework_belongs_to_a_group(tmp_path, monkeypatch):
    monkeypatch.setattr(frameworks, "ROOT", tmp_path)
    path = tmp_path / "framework.toml"
    whole = (config.ROOT / "python/frameworks/numpy/framework.toml").read_text()
    path.write_text(whole.replace('group = "core"\n', ""))
    assert "framework.toml: missing: group" in message_of(config.ConfigError, frameworks.read, path)
    path.write_text(whole.replace('group = "core"', 'group = "old"'))
    assert "group: 'old' is not one of core, more, historic" in message_of(config.ConfigError, frameworks.read, path)


def test_a_leg_is_run_anew_for_what_it_stands_on_and_nothing_else():
    sources = {
        name: {str(path.relative_to(config.ROOT)) for path in select([name])[0].sources()}
        for name in ("python/onnxruntime/resnet50", "python/keras-jax/cnn", "r/keras/rnn")
    }
    onnx, jax, r = sources.values()
    assert {"python/frameworks/onnx/export.py", "python/frameworks/pytorch/resnet50.py"} <= onnx
    assert {"python/frameworks/keras/on_jax.py", "python/rosetta/worker/measure.py"} <= jax
    assert {"r/frameworks/keras/rnn.R", "r/rosetta.R", "python/rosetta/worker/r.py"} <= r
    assert not {"python/frameworks/pytorch/cnn.py", "python/frameworks/keras/on_torch.py"} & (onnx | jax)
    assert not {"python/rosetta/worker/r.py", "python/rosetta/worker/julia.py"} & (onnx | jax)


def test_every_leg_has_its_file_and_a_locked_environment():
    from rosetta.environments import lock_sha256

    for leg in discover():
        if not leg.framework.retired:
            assert leg.file.is_file(), leg.name
            assert lock_sha256(leg.framework.environment)


def test_a_leg_for_a_gpu_has_an_environment_with_its_libraries():
    """A lock for CPUs on a GPU would fail at the first step. Julia's CUDA.jl and R's libtorch bring their own libraries."""
    from rosetta.environments import REQUIREMENTS

    own = {"julia", "knet", "rtorch"}
    for leg in discover():
        name = leg.framework.environment
        if "cuda" in leg.framework.devices and not leg.framework.retired and name not in own:
            assert list(REQUIREMENTS.glob(f"{name}-cuda1[23].lock")), f"{leg.name}: {name}"


def test_conda_users_get_the_same_packages():
    """environment.yml names everything that the harness's locked requirements name."""
    import re

    import yaml

    wanted = set()
    for line in (config.ROOT / "python/environments/harness.in").read_text().splitlines():
        if line and not line.startswith("#") and "python_version" not in line:
            wanted.add(re.split(r"[<>=; ]", line)[0])
    listed = yaml.safe_load((config.ROOT / "environment.yml").read_text())["dependencies"]
    assert wanted <= {re.split(r"[<>=]", name)[0] for name in listed}
