# Everything that a person or CI runs here. Nothing is installed by hand and nothing outside
# the checkout is written, except the caches that pip and Maven keep in the home directory.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Arguments for the target's own program: make demo ARGS=--exit, make test ARGS="-k fold"
ARGS ?=

# Byte code is left for the first import to write: that is a fifth of the time of a first demo.
# Where the environment forbids to write it, every process would compile every module again.
export PYTHONDONTWRITEBYTECODE :=
PIP_INSTALL := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    $(BIN)/python -m pip install --quiet --no-compile

# Two stamps for one environment: the demo does not wait for type checkers and test tools.
DEMO_READY := $(VENV)/.ready-demo
ALL_READY := $(VENV)/.ready-all

.PHONY: help setup test lint format demo bench simulate soak model lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(ALL_READY) ## make .venv with everything, from the lock file

test: setup ## lint, types and all tests; ends with pytest's closing line
	@lint=0; $(MAKE) lint || lint=$$?; \
	$(BIN)/pytest $(ARGS); \
	if [ $$lint -ne 0 ]; then echo "the tests passed, but lint did not: see above" >&2; exit 1; fi

lint: setup ## ruff, the formatter's opinion, mypy and basedpyright; all of them, whatever fails
	@failed=""; \
	$(BIN)/basedpyright > $(VENV)/basedpyright.txt 2>&1 & strict=$$!; \
	$(BIN)/ruff check --quiet . || failed+=" ruff"; \
	$(BIN)/ruff format --quiet --check . || failed+=" format"; \
	$(BIN)/mypy --no-error-summary || failed+=" mypy"; \
	wait $$strict || { cat $(VENV)/basedpyright.txt; failed+=" basedpyright"; }; \
	if [ -n "$$failed" ]; then echo "lint failed:$$failed" >&2; exit 1; fi; \
	echo "lint: clean"

format: setup ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

demo: $(DEMO_READY) ## kill a worker in the middle of a run and see the run finish
	@$(BIN)/stepfold demo $(ARGS)

bench: $(DEMO_READY) ## measure on this machine
	@$(BIN)/stepfold bench $(ARGS)

simulate: setup ## 10,000 simulated lives of a cluster, each from one seed; ARGS="0 --count 100" for others
	@$(BIN)/python -m tests.simulation $(or $(ARGS),0 --count 10000)

soak: setup ## simulated lives that nobody has seen, until you stop it
	@$(BIN)/python -m tests.simulation $$(date +%s) --count 1000000000

model: setup ## the protocol searched without gap in its bounds, and each rule left out; three minutes
	@$(BIN)/python -m tests.model $(ARGS)

lock: setup ## write the lock files again; ARGS=--upgrade takes newer versions
	@$(BIN)/python .ci/lock.py $(ARGS)

clean: ## remove what these targets made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache dist

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "no Python of at least 3.11 was found on PATH; install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1

$(DEMO_READY): requirements.lock pyproject.toml | $(BIN)/python
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(ALL_READY): requirements-dev.lock $(DEMO_READY)
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
