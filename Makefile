# Requires only Python 3.11 or later and make. The virtual environment is .venv.

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

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: $(READY)  ## run the service on an embedded PostgreSQL; needs no settings
	@$(BIN)/sync-service dev

test: $(READY)  ## run all tests on every installed PostgreSQL; ARGS="-k name" selects some
	@$(PYTEST) $(ARGS)

check: $(READY)  ## check format, lint and types, run all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) $(ARGS)

format: $(READY)  ## format code, apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(READY)  ## run the fault suite with a hundred kills of each process; takes 15 minutes
	@FAULTS_KILLS=$${FAULTS_KILLS:-100} $(BIN)/python -m pytest tests/faults

histories: $(READY)  ## run the property test over 2,000 histories; HISTORIES=… sets the number
	@HISTORIES=$${HISTORIES:-2000} $(BIN)/python -m pytest tests/test_property.py -k any_history -o faulthandler_timeout=0

bench: $(READY)  ## measure the figures of the README on this machine
	@$(BIN)/python -m tests.benchmarks

lock: $(READY)  ## create the lock files again from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
		--extra embedded --extra dev --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --extra build \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		--constraints requirements.lock pyproject.toml --output-file deploy/requirements.lock

clean:  ## remove .venv; the data of `make run` in .sync-service stays
	rm -rf $(VENV)

# pip checks all hashes. Only this package is built, with the locked hatchling.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing requirements.lock into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
