# Everything works from a fresh clone: each target sets up .venv from the lock file first.

.DEFAULT_GOAL := help
SHELL := /bin/bash

# The first of these that is Python 3.11 to 3.13; another one can be named: make demo PYTHON=/path/to/python
FIND_PYTHON = for name in python3 python3.13 python3.12 python3.11 python; do \
	if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	then echo "$$name"; break; fi; done
PYTHON ?= $(shell $(FIND_PYTHON))

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_HOME := .mnemoduck-demo
DEMO_AS_OF := 2026-03-15T18:30:00Z

.PHONY: help
help: ## Say what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: setup
setup: $(READY) ## Set up .venv with the pinned dependencies

$(READY): requirements-dev.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11, 3.12 or 3.13 was found. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
		exit 2; fi
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

.PHONY: demo
demo: $(READY) ## Ingest, build and recall the sample stream
	@export MNEMODUCK_HOME=$(DEMO_HOME); as_of=$(DEMO_AS_OF); \
	run() { printf '\n$$'; for word in "$$@"; do case "$$word" in *' '*) printf ' "%s"' "$$word" ;; *) printf ' %s' "$$word" ;; esac; done; \
		printf '\n'; PATH="$(CURDIR)/$(BIN):$$PATH" "$$@"; }; \
	run mnemoduck ingest seeds/sample_stream.jsonl && \
	run mnemoduck run && \
	run mnemoduck working-memory --user maya --as-of $$as_of && \
	run mnemoduck long-term --limit 8 --as-of $$as_of && \
	run mnemoduck recall "when is the flight to Lisbon" --user maya --limit 5 --as-of $$as_of && \
	run mnemoduck status

.PHONY: lint
lint: $(READY) ## Check style and types: ruff, mypy --strict, sqlfluff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint models tests/data --processes 2

.PHONY: test
# The profile makes hypothesis try the same cases each time: what a change broke is told from what chance found.
test: $(READY) ## Run the tests (pytest alone tries other random cases each time)
	$(BIN)/python -m pytest -n 2 --dist worksteal --hypothesis-profile=ci -m "not long"

.PHONY: test-long
test-long: $(READY) ## Run the tests that take long: what is killed, dropped or away in the middle of its work
	$(BIN)/python -m pytest -n 2 --dist worksteal --hypothesis-profile=ci -m long

.PHONY: soak
soak: $(READY) ## Hold the promises under fire and write docs/reliability.md: kills, faults, a full disk, clocks, a crowd (hours)
	@status=0; for part in "crash --instants $(SOAK_INSTANTS)" "faults --instants $(SOAK_INSTANTS)" full-disk clocks concurrency; \
	do $(BIN)/python -m benchmarks.reliability $$part || status=1; done; \
	$(BIN)/python -m benchmarks.reliability report; exit $$status

SOAK_INSTANTS := 440

AIRFLOW := target/airflow

.PHONY: test-airflow
test-airflow: $(READY) $(AIRFLOW)/.ready ## Test the DAGs in a real Airflow, in an environment of its own (ten minutes)
	$(AIRFLOW)/bin/python -m pytest --config-file=/dev/null --rootdir=. -p no:cacheprovider orchestration/airflow/tests

$(AIRFLOW)/.ready: orchestration/airflow/requirements.txt
	@$(PYTHON) -m venv --clear $(AIRFLOW)
	@$(AIRFLOW)/bin/python -m pip install --quiet --disable-pip-version-check -r orchestration/airflow/requirements.txt
	@touch $@

.PHONY: bench
bench: $(READY) ## Measure everything at 10k and 100k memories and compare with the baseline (BENCH_SCALES="1m": an hour)
	$(BIN)/python -m benchmarks.suite run $(foreach scale,$(BENCH_SCALES),--scale $(scale))
	$(BIN)/python -m benchmarks.suite compare benchmarks/suite/baseline.json

BENCH_SCALES := 10k 100k

.PHONY: bench-partitions
bench-partitions: $(READY) ## Measure monthly partitions at 10k, 1M and 10M rows (ten minutes, 10 GB of disk)
	$(BIN)/python -m benchmarks.partitions run --rows 10000 --rows 1000000 --rows 10000000
	$(BIN)/python -m benchmarks.partitions report

.PHONY: bench-layers
bench-layers: $(READY) ## Measure each layer at 10k, 100k and 1M memories, full and incremental (15 minutes, 5 GB of disk)
	$(BIN)/python -m benchmarks.layers run --rows 10000 --rows 100000 --rows 1000000
	$(BIN)/python -m benchmarks.layers report

PEERS := target/peers

.PHONY: bench-recall
bench-recall: $(READY) $(PEERS)/.ready ## Measure recall at 10k, 100k and 1M memories, and its peers (20 minutes, 10 GB of disk)
	$(BIN)/python -m benchmarks.recall run --peers-python $(PEERS)/bin/python
	$(BIN)/python -m benchmarks.recall report

$(PEERS)/.ready: pyproject.toml
	@$(BIN)/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check '.[peers]' || \
		echo "The peers could not be installed: they are left out, and the page says so." >&2
	@touch $@

.PHONY: bench-episodes
bench-episodes: $(READY) ## Measure logging, extraction and suggestions of episodes (five minutes)
	$(BIN)/python -m benchmarks.episodes run
	$(BIN)/python -m benchmarks.episodes report

.PHONY: bench-science
bench-science: $(READY) ## Run the studies of memory anew and write docs/science.md (seconds)
	$(BIN)/python -m benchmarks.science run
	$(BIN)/python -m benchmarks.science report

.PHONY: bench-patterns
bench-patterns: $(READY) ## Test patterns of episodes on tasks left out, and write docs/patterns-evaluation.md (../shared/data; minutes)
	$(BIN)/python -m benchmarks.patterns run
	$(BIN)/python -m benchmarks.patterns report

.PHONY: bench-recall-quality
bench-recall-quality: $(READY) ## Measure what recall finds on LoCoMo and LongMemEval (../shared/data; ten minutes)
	$(BIN)/python -m benchmarks.recall_quality run
	$(BIN)/python -m benchmarks.recall_quality report

FUZZ_CASES := 1000000
FUZZ_MINUTES := 20
ATHERIS := target/atheris

.PHONY: fuzz
fuzz: $(READY) $(ATHERIS)/.ready ## Try a million odd cases on all that reads the texts of others (FUZZ_CASES, FUZZ_MINUTES)
	PYTHONPATH="$(CURDIR)/$(ATHERIS)" $(BIN)/python -m fuzz run --cases $(FUZZ_CASES) --minutes $(FUZZ_MINUTES)

# A folder beside .venv: it needs no other package.
$(ATHERIS)/.ready: fuzz/requirements.lock
	@mkdir -p $(ATHERIS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: --upgrade \
		--target $(ATHERIS) -r fuzz/requirements.lock || \
		echo "Atheris could not be installed for this Python: fuzzing goes on without it, by hypothesis alone." >&2
	@touch $@

SUPPLY := target/supply-chain

.PHONY: audit
audit: $(READY) $(SUPPLY)/.ready ## Check what is installed: versions, files, licences, known vulnerabilities (needs the network)
	$(BIN)/python -m supply_chain audit --pip-audit $(SUPPLY)/bin/pip-audit

.PHONY: sbom
sbom: $(SUPPLY)/.ready ## Write sbom.cdx.json, the bill of materials, from requirements.lock
	$(SUPPLY)/bin/python -m supply_chain sbom

$(SUPPLY)/.ready: supply_chain/requirements.lock
	@$(PYTHON) -m venv --clear $(SUPPLY)
	@$(SUPPLY)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: lock
lock: ## Pin the dependencies anew (needs uv)
	uv pip compile pyproject.toml $(LOCK_OPTIONS) --output-file requirements.lock
	uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	uv pip compile --group fuzz $(LOCK_OPTIONS) --output-file fuzz/requirements.lock
	uv pip compile --group audit $(LOCK_OPTIONS) --output-file supply_chain/requirements.lock

LOCK_OPTIONS := --upgrade --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header --quiet

.PHONY: clean
clean: ## Remove what make and dbt have made, but no home
	rm -rf $(VENV) target logs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
