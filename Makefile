# Requires only Python 3.11 or later and make. The virtual environment is .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# `make run` needs the packages of requirements.lock; the other targets need those of requirements-dev.lock.
RUN_READY := $(VENV)/ready-to-run
READY := $(VENV)/ready

# Many tests wait, so tests/conftest.py sets two workers per CPU. ARGS="-n 0" runs all tests in one process.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

# The tests start hundreds of processes, which would each compile the package again.
unexport PYTHONDONTWRITEBYTECODE

# The folder of a whole virtual environment. It is missing while packages are installed, and wrong after a move.
MADE_IN := $(VENV)/made-in
ifneq ($(shell $(BIN)/python -c "" 2>/dev/null && cat $(MADE_IN) 2>/dev/null),$(CURDIR))
.PHONY: $(RUN_READY) $(READY)
endif

.PHONY: help run test check javascript format faults histories schemas bench lock clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: $(RUN_READY)  ## run the service on an embedded PostgreSQL; needs no settings
	@$(BIN)/sync-service dev

test: $(READY)  ## run all tests; ARGS="-k name" selects some
	@$(PYTEST) $(ARGS)

check: $(READY)  ## check format, lint and types, run all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) $(ARGS)

javascript: $(READY)  ## install the JavaScript packages of some tests; needs npm
	@mkdir -p $(VENV)/javascript
	@cp tests/javascript/package.json tests/javascript/package-lock.json $(VENV)/javascript
	@npm ci --prefix $(VENV)/javascript --ignore-scripts --no-audit --no-fund

format: $(READY)  ## format code, apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# These test a fault each, too: connections to a demoted server, long deletions, attacks, a full log disk. The last one is
# the import of an application with many rows.
FAULTS := tests/faults tests/test_failover.py tests/test_long_deletions.py tests/test_attacks.py tests/test_logs.py \
	tests/reconcile/test_existing_app.py

faults: $(READY)  ## run the fault suite with a hundred kills of each process; takes half an hour
	@FAULTS_KILLS=$${FAULTS_KILLS:-100} IMPORT_ROWS=$${IMPORT_ROWS:-50000} $(BIN)/python -m pytest $(FAULTS)

histories: $(READY)  ## run the property test over 2,000 histories; HISTORIES=… sets the number
	@HISTORIES=$${HISTORIES:-2000} $(BIN)/python -m pytest tests/test_property.py -k any_history -o faulthandler_timeout=0

schemas: $(READY)  ## run the property test over 500 random users tables; SCHEMAS=… sets the number
	@SCHEMAS=$${SCHEMAS:-500} $(BIN)/python -m pytest tests/test_random_schemas.py -o faulthandler_timeout=0

bench: $(READY)  ## measure the figures of the README on this machine; ARGS="load" selects some
	@$(BIN)/python -m tests.benchmarks $(ARGS)

lock: $(READY)  ## create the lock files again from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(COMPILE) --upgrade --extra embedded --extra dev --output-file requirements-dev.lock
	$(COMPILE) --extra embedded --extra editable --constraints requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --extra build --constraints requirements-dev.lock --output-file deploy/requirements.lock

clean:  ## remove .venv; the data of `make run` in .sync-service stays
	rm -rf $(VENV)

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml

# An environment that is broken, moved or half installed is made again from the start.
# pip checks all hashes. Only this package is built, with the locked hatchling.
PIP := $(BIN)/python -m pip --disable-pip-version-check
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 …")'
	@$(BIN)/python -c "import pip" 2>/dev/null && test "$$(cat $(MADE_IN) 2>/dev/null)" = "$(CURDIR)" \
		|| { echo "Creating $(VENV) …" && $(PYTHON) -m venv --clear $(VENV); }
	@rm -f $(MADE_IN)
	@echo "Installing $(1) into $(VENV). The first time this takes a minute …"
	@$(PIP) install --require-hashes -r $(1)
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@echo "$(CURDIR)" > $(MADE_IN)
	@touch $@
endef

$(RUN_READY): requirements.lock pyproject.toml
	$(call install,requirements.lock)

$(READY): requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)
