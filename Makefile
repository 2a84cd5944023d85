# Python 3.11 or later and make are all that this needs. The environment lives in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# Many tests wait, so tests/conftest.py sets two workers per CPU. ARGS="-n 0" runs all tests in one process.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

# The tests start hundreds of processes, which would each compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test check format faults histories bench lock clean
.DEFAULT_GOAL := help

help:  ## what there is
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: $(READY)  ## the service on an embedded PostgreSQL, with nothing to set
	@$(BIN)/sync-service dev

test: $(READY)  ## all tests, on every PostgreSQL that is here; ARGS="-k name" picks some
	@$(PYTEST) $(ARGS)

check: $(READY)  ## format, lint, strict types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) $(ARGS)

format: $(READY)  ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(READY)  ## the fault suite, a hundred kills of each; a quarter of an hour
	@FAULTS_KILLS=$${FAULTS_KILLS:-100} $(BIN)/python -m pytest tests/faults

histories: $(READY)  ## the property over 2,000 histories; HISTORIES=… for another number
	@HISTORIES=$${HISTORIES:-2000} $(BIN)/python -m pytest tests/test_property.py -k any_history -o faulthandler_timeout=0

bench: $(READY)  ## the figures of the README, measured here and now
	@$(BIN)/python -m tests.benchmarks

lock: $(READY)  ## write the locks anew from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
		--extra embedded --extra dev --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --extra build \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		--constraints requirements.lock pyproject.toml --output-file deploy/requirements.lock

clean:  ## remove the environment; .sync-service, the data of `make run`, stays
	rm -rf $(VENV)

# Hashes are checked, and nothing is built but this package, with the locked hatchling.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what requirements.lock names into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
