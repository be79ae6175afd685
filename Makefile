# Ketang: the two commands are `make demo` and `make test`. Both set themselves up.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test soak check bench schemas scan screenshots lock parts

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := constraints.txt
PACKAGES := contract device_profiles models provisioning agent center cli benchmarks
# Words for the program behind a target, e.g. make demo ARGS="--check --seconds 60"
ARGS ?=
# Tests wait more than they work: five at once for every two cores.
JOBS ?= $(shell echo $$((5 * $$(nproc) / 2)))

# An older pip applies the first to build requirements too, a newer one only the second.
export PIP_CONSTRAINT := $(LOCK)
export PIP_BUILD_CONSTRAINT := $(LOCK)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.ready-demo ## Start the demo: broker, centre, this machine's agent, three simulated schools
	@$(BIN)/ketang demo $(ARGS)

test: $(VENV)/.ready-dev parts ## Run the tests; says first which outside parts are missing
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(VENV)/.ready-dev ## Long searches, a hundred kills and bad configurations, all that is marked soak (hours)
	KETANG_SEARCH=1 KETANG_SIMULATOR_RUNS=10000 $(BIN)/python -m pytest tests/simulator tests/simulator_rollouts \
	  -m "soak or not soak" $(ARGS)
	KETANG_ROLLOUT_KILLS=100 KETANG_BAD_CONFIG_RUNS=100 $(BIN)/python -m pytest \
	  tests/faults/test_rollout_kills.py tests/faults/test_bad_config.py -m "soak or not soak" $(ARGS)
	$(BIN)/python -m pytest -m soak --ignore tests/simulator --ignore tests/simulator_rollouts \
	  --ignore tests/faults/test_bad_config.py $(ARGS)

check: $(VENV)/.ready-dev ## Lint, format, types, import floors, generated files, project text (< 60 s)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m ketang_contract.publish_schemas --check
	$(BIN)/python -m ketang_center.enrolment.publish_openapi --check
	$(BIN)/python tests/unit/repo/house_rules.py

bench: $(VENV)/.ready-dev ## Run every quick benchmark
	@$(BIN)/ketang bench all --quick $(ARGS)

schemas: $(VENV)/.ready-dev ## Write docs/interfaces/ anew from the code
	$(BIN)/python -m ketang_contract.publish_schemas
	$(BIN)/python -m ketang_center.enrolment.publish_openapi

scan: $(VENV)/.ready-dev ## Scanners: bandit over the packages, pip-audit over the lock (asks an advisory service)
	$(BIN)/bandit --quiet --configfile pyproject.toml --severity-level medium --recursive $(PACKAGES)
	$(BIN)/pip-audit --requirement $(LOCK) --strict --no-deps --disable-pip --progress-spinner off

screenshots: $(VENV)/.ready-dev ## Take the pictures under docs/img/ from a running demo (needs Chromium)
	$(BIN)/python -m tests.web.screenshots $(ARGS)

lock: ## Resolve constraints.txt anew from pyproject.toml, to the newest versions in bounds
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	env -u PIP_CONSTRAINT -u PIP_BUILD_CONSTRAINT build/lock/bin/python -m pip install --quiet pip-tools
	env -u PIP_CONSTRAINT -u PIP_BUILD_CONSTRAINT build/lock/bin/pip-compile --quiet --upgrade \
	  --extra dev --build-deps-for editable --strip-extras --no-header --annotation-style line \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --output-file build/lock/all.txt pyproject.toml
	{ echo "# Exact versions of everything behind the [dev] extra. Made by: make lock"; \
	  grep -E '^[A-Za-z0-9._-]+==' build/lock/all.txt; } > $(LOCK)

parts: $(VENV)/.ready-dev
	@$(BIN)/python tests/parts.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed as '$(PYTHON)'; name another with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing; install it with: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (first time only)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-demo: pyproject.toml $(LOCK) | $(BIN)/python
	@echo "Installing the demo's parts into $(VENV) (once; a few minutes on a slow line)"
	@$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

# The tests need all of the demo, so what serves them serves the demo as well.
$(VENV)/.ready-dev: pyproject.toml $(LOCK) | $(BIN)/python
	@echo "Installing the development parts into $(VENV) (once; a few minutes on a slow line)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(VENV)/.ready-demo $@
