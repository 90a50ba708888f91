# Two commands do everything on a fresh machine: `make report` and `make test`.
PYTHON ?= python3
# Overrides of config/config.yaml: make report CONFIG="profile=smoke data=synthetic"
CONFIG ?=
BIN := .venv/bin

.PHONY: setup report test locks
setup:
	@$(PYTHON) python/bootstrap.py

# A run that was killed leaves Snakemake's own lock behind; this one ends with the process that holds it.
report: setup
	flock .venv $(BIN)/snakemake --nolock --rerun-incomplete --cores 1 reports/summary.html reports/rosetta.html $(if $(CONFIG),--config $(CONFIG))

test: setup
	$(BIN)/python -m pytest

# Resolves the requirements again; commit what changes.
locks: setup
	$(BIN)/python -m rosetta.locks
