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
	flock .venv $(BIN)/snakemake --nolock --rerun-incomplete --cores 1 reports/summary.html $(if $(CONFIG),--config $(CONFIG))

test: setup
	$(BIN)/python -m pytest

# Resolves the requirements again; commit what changes. torch stands there under its public version and without its CUDA packages:
# which build it is, and what comes with it, depends on the machine's device.
locks: setup
	for name in $(basename $(notdir $(wildcard python/environments/*.in))); do \
	  $(BIN)/python -m rosetta.indexes $(BIN)/uv pip compile -q --universal --python-version 3.10 --no-header --no-annotate --upgrade \
	    python/environments/$$name.in -o python/environments/$$name.lock && \
	  sed -i -E '/^(nvidia-|cuda-|triton)/d; s/^(torch==[0-9.]+).*/\1/' python/environments/$$name.lock && \
	  sort -u -o python/environments/$$name.lock python/environments/$$name.lock || exit 1; done
