# The targets of the README. Everything lives in .venv; nothing but Python 3.11+, git and make is needed.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-fresh up test prove lint lock bench clean

help:  ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/installed  ## Make the environment in .venv from the lock.

.venv/installed: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
		|| { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try make PYTHON=python3.11 setup."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## Everything with a local RunSignup: web UI at http://127.0.0.1:3000, no account needed.
	@exec $(BIN)/rsu demo

demo-fresh: setup  ## The same, its earlier data forgotten.
	@exec $(BIN)/rsu demo --fresh

up: setup  ## Everything with real credentials.
	@exec $(BIN)/rsu up

test: setup  ## Every test; PostgreSQL and the sandbox are started by the tests.
	$(BIN)/pytest -n 2 --dist loadfile

prove: setup  ## The long proof: 10,000 random programs, 1,000 kills (hours).
	RSU_PROOF_PROGRAMS=10000 RSU_PROOF_KILLS=1000 $(BIN)/pytest -s rsu_pipeline_tests/proof

lint: setup  ## Style, types, definitions.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## Measure against the floor, in one run.
	$(BIN)/python -m benchmarks.full_sync

lock: setup  ## Make the lock anew from pyproject.toml (needs uv).
	uv pip compile pyproject.toml $(LOCK_OPTIONS) -o requirements.txt
	uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra dev -o requirements-dev.txt

LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --no-annotate --no-strip-extras

clean:  ## Remove the environment and caches; data in .rsu stays.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
