# prepare -> environment -> proof and rounds of each leg -> record -> report
#
#   snakemake --cores 1 reports/summary.html            everything of config/config.yaml
#   snakemake --cores 1 python                          its legs in one language: reports/python/summary.html
#   snakemake --cores 1 reports/records/quick/cpu-fp32/python/numpy/cnn.json
#   snakemake --cores 1 --config profile=smoke data=synthetic
import json
import os
import sys

from rosetta.announcement import announce
from rosetta.config import ROOT, ConfigError, load
from rosetta.environments import generation
from rosetta.frameworks import LANGUAGES
from rosetta.measuring import next_attempt
from rosetta.plan import Plan
from rosetta.prepare import data_generation, golden_sources
from rosetta.report import page_sources, stone_sources
from rosetta.tasks import TASKS

try:
    plan = Plan.of(load(config))
except ConfigError as error:
    raise WorkflowError(str(error))
every = Plan.of(plan.settings, ["all"])

# The steps read the settings from a variable and not from their command lines, so that a changed setting reruns only
# the steps that name it in their params. Snakemake may have been called by its path, its environment not being active.
here = os.path.dirname(sys.executable)
os.environ.update(
    ROSETTA_CONFIG=json.dumps(config),
    ROSETTA_WORKDIR=os.getcwd(),
    PATH=os.pathsep.join([here, *os.get_exec_path()]),
)


envvars:
    "PATH",
    "ROSETTA_CONFIG",
    "ROSETTA_WORKDIR",


onstart:
    # Nothing is submitted to a queue here, so there is no rate to limit. The limit, which is on by default, starts one more timer for each
    # job that ends, and each looks for work every second (9.27): up to a core busy with that while legs are timed on the others.
    workflow.scheduler.job_rate_limiter = None
    announce(workflow, plan)


wildcard_constraints:
    language="|".join(LANGUAGES),
    framework="[a-z0-9-]+",
    task="|".join(TASKS),
    environment="[a-z0-9_]+",
    arrays=r"arrays|synthetic|pictures-\d+",


RESULTS = ("summary.html", "summary.md", "results.csv", "results.json", "results.parquet")
# What `snakemake --report` shows of them, and under which words.
CAPTIONS = {"summary.html": "summary", "results.csv": "results"}
RECORDS = str(every.records)
HARNESS = ROOT / "python" / "rosetta"
# What is set up comes before what is proven, and that before what is timed: nothing then comes between two timed legs.
# Legs that compile for minutes are proven and timed when all others are done.
LATE = [leg for leg in every.legs if leg.compiles]
LATE_PROOF = len(LATE) * plan.settings.rounds + 1
PROOF = len(every.runs()) + 2
SETUP = PROOF + 1
# Threads of a step of which two run side by side: with --cores 1 there is one at a time. The resource `pair`
# holds three cores to two such steps.
HALF = max(1, workflow.cores // 2)
workflow.register_resource("pair", 2)
LEG = "{language}/{framework}/{task}"


def leg_of(wildcards):
    return every.leg(LEG.format(**wildcards))


def records_of(language=None):
    legs = [leg for leg in plan.legs if language in (None, leg.framework.language)]
    if not legs:
        chosen = " ".join(plan.settings.legs)
        raise WorkflowError(f"legs: {chosen!r} means no leg of {language}; add --config legs={language} or legs=core/{language}")
    return [plan.record(leg) for leg in legs]


def data_of(task):
    return [plan.data_marker(task), plan.weights(task) / "manifest.json"]


def captioned(path, caption, category):
    """A file that `snakemake --report` shows."""
    return report(path, caption=f"docs/captions/{caption}.rst", category=category)


def results_in(folder, category):
    """The files of a report in a folder."""
    paths = {file: f"{folder}/{file}" for file in RESULTS}
    return [captioned(paths[file], CAPTIONS[file], category) if file in CAPTIONS else paths[file] for file in RESULTS]


def needs_of(leg):
    """What a proof and a round read: a newer one of these calls for a new run."""
    if every.idle(leg):
        return leg.sources()
    return [*leg.sources(), *data_of(leg.task), plan.environment(leg.framework.environment)]


def generation_of(environment):
    return generation(environment, plan.settings, plan.environment(environment))


rule all:
    input:
        "reports/summary.html",
        "reports/rosetta.html",


for language in LANGUAGES:

    rule:
        name:
            language
        input:
            f"reports/{language}/summary.html",


# The page holds the stone as well, so a leg's new file calls for a new page, whether the leg is in the report or not.
rule report:
    input:
        page_sources(),
        records=records_of(),
    output:
        results_in("reports", "All languages"),
    log:
        "reports/logs/report.log",
    conda:
        "environment.yml"
    shell:
        "rosetta step report reports {input.records} 2>&1 | tee {log}"


rule language_report:
    input:
        page_sources(),
        records=lambda wildcards: records_of(wildcards.language),
    output:
        results_in("reports/{language}", "One language"),
    log:
        "reports/logs/report-{language}.log",
    conda:
        "environment.yml"
    shell:
        "rosetta step report reports/{wildcards.language} {input.records} 2>&1 | tee {log}"


# Code beside code: it reads the legs' files and no record.
rule stone:
    input:
        stone_sources(),
    output:
        captioned("reports/rosetta.html", "stone", "The stone"),
    log:
        "reports/logs/stone.log",
    conda:
        "environment.yml"
    shell:
        "rosetta stone 2>&1 | tee {log}"


rule arrays:
    output:
        "shared_data/{task}/{arrays}.json",
    params:
        generation=lambda wildcards: data_generation(plan, TASKS[wildcards.task]),
        settings=lambda wildcards: plan.data_settings(TASKS[wildcards.task]),
    log:
        "reports/logs/arrays-{task}-{arrays}.log",
    conda:
        "environment.yml"
    priority: SETUP
    shell:
        "rosetta step arrays {wildcards.task} {params.generation} 2>&1 | tee {log}"


rule weights:
    input:
        f"{HARNESS}/initial.py",
        f"{HARNESS}/tasks.py",
    output:
        "shared_data/{task}/weights/manifest.json",
    log:
        "reports/logs/weights-{task}.log",
    conda:
        "environment.yml"
    priority: SETUP
    shell:
        "rosetta step weights {wildcards.task} 2>&1 | tee {log}"


rule golden:
    input:
        lambda wildcards: data_of(TASKS[wildcards.task]),
        golden_sources(),
    output:
        "shared_data/{task}/golden/{golden}.npz",
    log:
        "reports/logs/golden-{task}-{golden}.log",
    conda:
        "environment.yml"
    priority: SETUP
    shell:
        "rosetta step golden {wildcards.task} {output} 2>&1 | tee {log}"


rule environment:
    output:
        f"shared_data/environments/{{environment}}-{plan.settings.device}-{plan.settings.deployment}.json",
    params:
        generation=lambda wildcards: generation_of(wildcards.environment),
    log:
        "reports/logs/environment-{environment}.log",
    conda:
        "environment.yml"
    threads: HALF
    resources:
        pair=1,
    priority: SETUP
    shell:
        "rosetta step environment {wildcards.environment} {params.generation} 2>&1 | tee {log}"


for name, priority, late in (("proof", PROOF, False), ("late_proof", LATE_PROOF, True)):

    rule:
        name:
            name
        wildcard_constraints:
            framework="|".join(sorted({leg.framework.name for leg in every.legs if leg.compiles == late})),
        input:
            lambda wildcards: needs_of(leg_of(wildcards)),
            f"{HARNESS}/tasks.py",
            golden=lambda wildcards: [golden.path for golden in plan.goldens(TASKS[wildcards.task])],
        output:
            f"{RECORDS}/{LEG}/proof.json",
        params:
            settings=lambda wildcards: plan.proof_settings(leg_of(wildcards)),
            attempt=lambda wildcards: next_attempt(plan, leg_of(wildcards), 0),
        log:
            f"reports/logs/proof-{LEG}.log",
        conda:
            "environment.yml"
        # On a CPU two at a time, with one thread each; a GPU's memory is one leg's alone. A late proof takes all cores: it would
        # start as soon as one is free, before the rounds, which need all.
        threads: HALF if plan.settings.device == "cpu" and not late else workflow.cores
        resources:
            pair=1,
        priority: priority
        shell:
            "rosetta step proof {wildcards.language}/{wildcards.framework}/{wildcards.task} {params.attempt} 2>&1 | tee {log}"


# A rule of its own for each leg and round, because only rules have priorities: they keep the shuffled order, behind all proofs. The proof is
# no input: a new one of the same code does not ask for new timings, and a change of both would not reach behind an input that is `ancient`.
for place, (leg, number) in enumerate(reversed(every.runs()), start=1):
    place += not leg.compiles  # above the late proofs

    rule:
        name:
            f"round_{number}_{leg.identifier}"
        input:
            needs_of(leg),
        output:
            plan.round(leg, number),
        params:
            settings=lambda wildcards, leg=leg: plan.round_settings(leg),
            attempt=lambda wildcards, leg=leg, number=number: next_attempt(plan, leg, number),
            leg=leg.name,
            number=number,
        log:
            f"reports/logs/round-{number}-{leg.name}.log",
        conda:
            "environment.yml"
        threads: workflow.cores
        priority: place
        shell:
            "rosetta step round {params.leg} {params.number} {params.attempt} 2>&1 | tee {log}"


rule record:
    input:
        lambda wildcards: plan.proof(leg_of(wildcards)),
        lambda wildcards: [plan.round(leg_of(wildcards), i + 1) for i in range(plan.settings.rounds)],
    output:
        f"{RECORDS}/{LEG}.json",
    log:
        f"reports/logs/record-{LEG}.log",
    conda:
        "environment.yml"
    shell:
        "rosetta step gather {wildcards.language}/{wildcards.framework}/{wildcards.task} 2>&1 | tee {log}"
