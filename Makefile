# The habits of this project. `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=
PORT   ?= 5000
SCRIPT ?= sweeps/gap.py
CLUSTER ?= cluster/gpu.yaml
JOBS   ?= 2
# So many processes take a file of tests each; most of a slow test's time is waiting.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --no-loadscope-reorder -rfEs

.PHONY: help install sweep aws-setup submit test test-all test-long e2e-cluster bench lint docs format ui clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(READY)  ## a virtual environment with everything pinned in constraints.txt

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

sweep: $(READY)  ## the GAP study on the default domain, to a promoted model (ARGS="--trials 6")
	$(BIN)/svgan assets i3d
	$(BIN)/python sweeps/gap.py $(ARGS)

aws-setup: $(READY)  ## what cluster/gpu.yaml needs on AWS: said, or with ARGS=--apply made
	@$(BIN)/python -m cluster.aws_setup $(ARGS)

# make itself ends with 2 for every failure and says the command's exit code as `Error N`.
submit: $(READY)  ## a study on the cluster, with this code; its exit code as `Error N` (SCRIPT= ARGS="..." CLUSTER=)
	@$(BIN)/python cluster/submit.py --cluster $(CLUSTER) $(SCRIPT) -- $(ARGS)

test: $(READY)  ## the fast tests, with one small sweep in them (JOBS=8: so many files at once)
	$(PYTEST)

test-all: $(READY)  ## the slow suites: faults, services, clusters of several hosts (JOBS=3: so many at once)
	$(PYTEST) -m "slow and not long and not gpu" --durations=25

test-long: $(READY)  ## hours: every crash of a study at each of its effects, and what else the suites above only sample
	$(PYTEST) -m "long and not gpu" --durations=25

e2e-cluster: $(READY)  ## the launcher's clusters, of several hosts on this machine (root; Debian's packages as it says)
	$(BIN)/python -m pytest -m slow -rsP --durations=12 tests/e2e

bench: $(READY)  ## the training step, and what the platform costs, on an idle machine: tables with goals (45 min; bench/LOG.md)
	$(BIN)/python bench/training_step.py
	$(BIN)/python bench/training_step.py --recipes paper --codes 18 512 --rounds 1 --iterations 1 --n-critic 1
	$(BIN)/python bench/two_cores.py
	$(BIN)/python bench/shards_read.py
	$(BIN)/python bench/platform_overhead.py
	$(BIN)/python bench/simulated_study.py
	$(BIN)/python bench/s3_read.py

lint: $(READY)  ## ruff, mypy, the contracts of imports (pyproject.toml), and no sentence above 35 words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tests/docs/check_sentences.py --code

docs: $(READY)  ## the documentation as a site in build/docs; a broken link is an error
	$(BIN)/zensical build --clean --strict

format: $(READY)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(READY)  ## the MLflow UI on this folder's runs, at http://127.0.0.1:5000 (PORT=5001)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --port $(PORT) --workers 1

clean:  ## the virtual environment and Python's leavings; runs stay
	rm -rf $(VENV) build .cache *.egg-info .pytest_cache .ruff_cache .mypy_cache
