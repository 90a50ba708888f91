# Two commands do everything on a fresh machine: `make report` and `make test`.
PYTHON ?= python3
# The legs that run, instead of those in config/config.yaml: make report LEGS="core more", LEGS=all, LEGS='python/pytorch/*'
LEGS ?=
# Overrides of config/config.yaml: make report CONFIG="profile=smoke data=synthetic"; blanks part them, so no value can hold one.
CONFIG ?=
# The shell reads both as variables, so that no quote or pattern in them means anything to it.
export LEGS CONFIG
# What `make clean` removes: make clean WHAT="reports data". Without it nothing is removed, and what there is is listed.
WHAT ?=
BIN := .venv/bin

.PHONY: setup report test test-all clean locks pictures
setup:
	@$(PYTHON) python/bootstrap.py

report: setup
	@set -f; for word in $$CONFIG; do set -- "$$@" -c "$$word"; done; $(BIN)/rosetta bench $${LEGS:+--legs "$$LEGS"} "$$@"

# What protects every change: a quarter of an hour on two cores.
test: setup
	$(BIN)/python -m pytest -m "not thorough"

# Every framework, every browser view and the whole proofs besides.
test-all: setup
	$(BIN)/python -m pytest

clean:
	@if [ -x $(BIN)/rosetta ]; then $(BIN)/rosetta clean $(WHAT); else echo "Nothing has been made here yet."; fi

# Takes the README's pictures anew, of the pages that `make report` made; what the browser's tests see lands in reports/screenshots too.
ENVIRONMENTS := $(or $(ROSETTA_ENVIRONMENTS),.environments)
pictures: setup
	$(BIN)/python -m pytest -q tests/test_browser.py
	$(ENVIRONMENTS)/browser/bin/python tests/browse.py "$$(command -v chromium)" reports/summary.html reports/rosetta.html reports/screenshots > reports/screenshots/seen.json
	cp reports/screenshots/overview.png reports/screenshots/stone.png docs/

# Resolves the requirements again; commit what changes.
locks: setup
	$(BIN)/python -m rosetta.locks
