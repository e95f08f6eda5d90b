# The targets of the README. Everything lives in .venv; nothing but Python 3.11+, git and make is needed.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-fresh up test test-all test-extras prove lint docs lock update audit sbom bench bench-quick clean

help:  ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/installed  ## Make the environment in .venv from the lock.

.venv/installed: requirements.txt requirements-dev.txt pyproject.toml
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

# Without --dist loadfile, tests of one module would land in several processes.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder
# A third of the time of all tests is spent waiting for what they started: four processes leave two cores less idle than three.
PYTEST_ALL := $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

test: setup  ## The tests that a change needs; PostgreSQL and the sandbox are started by them. At its end: what is left.
	$(PYTEST) -m "not proof and not browser and not installation and not slow"

test-all: setup  ## Every test. What each took is in build/tests.xml.
	$(PYTEST_ALL) --junitxml=build/tests.xml

prove: setup  ## The long proof: 10,000 random programs, 5,000 of a season, 1,000 kills (hours).
	RSU_PROOF_PROGRAMS=10000 RSU_SEASON_PROGRAMS=5000 RSU_PROOF_KILLS=1000 $(BIN)/pytest -s rsu_pipeline_tests/proof

lint: setup  ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## Generate what the documentation takes from the code, the schema and the packages.
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.schema_docs
	$(BIN)/python -m tools.capacity
	$(BIN)/python -m tools.licences
	$(BIN)/python -m rsu_pipeline_tests.docs.attacks

bench: setup .venv-bench/installed  ## Measure beside the floor, dlt and pandas, latency, growth, the watch; draw docs/performance.md (an hour).
	mkdir -p build/bench
	$(BIN)/python -m benchmarks.compare --json build/bench/compare.json
	$(BIN)/python -m benchmarks.full_sync --json build/bench/full_sync.json
	$(BIN)/python -m benchmarks.history --json build/bench/history.json
	$(BIN)/python -m benchmarks.latency --json build/bench/latency.json
	$(BIN)/python -m benchmarks.large_race --json build/bench/large_race.json
	$(BIN)/python -m benchmarks.growth --json build/bench/growth.json
	$(BIN)/python -m benchmarks.watch --json build/bench/watch.json
	$(BIN)/python -m benchmarks.performance

bench-quick: setup  ## The three ratios that matter, one repetition (5 minutes).
	$(BIN)/python -m benchmarks.quick

# dlt is compared with and is no dependency. The lock is made from requirements.in beside it, as the others are.
.venv-bench/installed: benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.txt
	@touch $@

lock:  ## Renew every lock from pyproject.toml (needs uv).
	@command -v uv >/dev/null || { echo "make $(or $(MAKECMDGOALS),lock) needs uv, which is not on the PATH: docs/dependencies.md says more."; exit 2; }
	uv pip compile pyproject.toml $(LOCK_OPTIONS) $(UPGRADE) -o requirements.txt
	uv pip compile pyproject.toml $(LOCK_OPTIONS) $(UPGRADE) -c requirements.txt --extra dev -o requirements-dev.txt
	$(PYTHON) -m tools.lock_delta requirements-dev.txt
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements-dev.txt > requirements-build.txt
	echo 'dagster-celery[redis]==$(DAGSTER_LIBRARIES)' \
		| uv pip compile pyproject.toml - $(LOCK_OPTIONS) $(UPGRADE) -c requirements.txt -o deploy/celery/requirements.txt
	$(PYTHON) -m tools.lock_delta deploy/celery/requirements.txt
	echo 'dagster-k8s==$(DAGSTER_LIBRARIES)' \
		| uv pip compile pyproject.toml - $(LOCK_OPTIONS) $(UPGRADE) -c requirements.txt -o deploy/kubernetes/requirements.txt
	$(PYTHON) -m tools.lock_delta deploy/kubernetes/requirements.txt
	echo 'dagster-dg-cli==$(DAGSTER_CORE)' \
		| uv pip compile pyproject.toml - $(LOCK_OPTIONS) $(UPGRADE) -c requirements.txt -o $(DG_LOCK)
	$(PYTHON) -m tools.lock_delta $(DG_LOCK)
	uv pip compile benchmarks/requirements.in $(LOCK_OPTIONS) $(UPGRADE) -o benchmarks/requirements.txt
	printf '%s\n' $(TOOLS) | uv pip compile - $(LOCK_OPTIONS) $(UPGRADE) -o requirements-tools.txt
	printf '%s\n' $(EXTRAS) | uv pip compile - $(LOCK_OPTIONS) $(UPGRADE) -o requirements-extras.txt

LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --no-annotate --no-strip-extras

# Of audit and sbom, in an environment of their own; their lock is requirements-tools.txt.
TOOLS := pip-audit==2.10.1 cyclonedx-bom==7.5.0
# What the tests of Parquet and DuckDB need, in an environment of their own beside .venv: pandas imports pyarrow wherever it is, which
# takes memory and time that installations without it do not need.
EXTRAS := 'duckdb>=1.1' 'pyarrow>=17'
# The version that Dagster's libraries share.
DAGSTER_LIBRARIES := $(shell sed -n 's/.*"dagster-postgres==\(.*\)".*/\1/p' pyproject.toml)
DAGSTER_CORE := $(shell sed -n 's/.*"dagster==\(.*\)".*/\1/p' pyproject.toml)
DG_LOCK := rsu_pipeline_tests/installation/dg/requirements.txt

update:  ## Newest versions within pyproject.toml's ranges into the locks, then every test (needs uv).
	$(MAKE) lock UPGRADE=--upgrade
	$(MAKE) setup
	$(BIN)/python -m tools.licences
	$(MAKE) test-all

.venv-extras/installed: .venv/installed requirements-extras.txt
	$(PYTHON) -m venv .venv-extras
	.venv-extras/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-extras.txt
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> $$(.venv-extras/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth
	@touch $@

test-extras: .venv-extras/installed  ## The tests of Parquet and DuckDB, which are skipped elsewhere.
	.venv-extras/bin/python -m pytest -q -k "parquet or python_examples" \
		rsu_pipeline_tests/cli/test_export.py rsu_pipeline_tests/docs/test_analysts_page.py

.venv-tools/installed: requirements-tools.txt
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-tools.txt
	@touch $@

audit: .venv-tools/installed  ## Known vulnerabilities of what runs (needs the network).
	.venv-tools/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt

sbom: .venv-tools/installed  ## What runs, as a CycloneDX bill of materials in sbom.json.
	.venv-tools/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json requirements.txt

clean:  ## Remove the environment and caches; data in .rsu stays.
	rm -rf .venv .venv-tools .venv-extras .venv-bench build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
