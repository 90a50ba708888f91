# Two commands do everything on a fresh machine: `make report` and `make test`.
PYTHON ?= python3
# Overrides of config/config.yaml: make report CONFIG="profile=smoke data=synthetic"
CONFIG ?=
# Which legs, in place of those of config/config.yaml: make report LEGS="python/pytorch julia"
LEGS ?=
BIN := .venv/bin

.PHONY: setup report test locks pictures
setup:
	@$(PYTHON) python/bootstrap.py

report: setup
	@$(BIN)/rosetta bench $(if $(LEGS),--legs '$(LEGS)') $(foreach word,$(CONFIG),-c '$(word)')

test: setup
	$(BIN)/python -m pytest

# Takes the README's pictures anew, of the pages that `make report` made; what the browser's tests see lands in reports/screenshots too.
ENVIRONMENTS := $(or $(ROSETTA_ENVIRONMENTS),.environments)
pictures: setup
	$(BIN)/python -m pytest -q tests/test_browser.py
	$(ENVIRONMENTS)/browser/bin/python tests/browse.py "$$(command -v chromium)" reports/summary.html reports/rosetta.html reports/screenshots > reports/screenshots/seen.json
	cp reports/screenshots/overview.png reports/screenshots/stone.png docs/

# Resolves the requirements again; commit what changes.
locks: setup
	$(BIN)/python -m rosetta.locks
