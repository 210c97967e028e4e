# Needs make and Python 3.11 or newer; everything else goes into .venv. `make help` lists the targets.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
WORKERS ?= 2            # test processes
HOURS ?= 1              # of make soak
PYTEST_ARGS ?=          # e.g. make test PYTEST_ARGS="-k metrics -x"
PIP_ARGS ?=             # e.g. where to find a CPU-only PyTorch

BIN := .venv/bin
comma := ,
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# One thread a process: two test processes on two cores, not two times all cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
DEMO_RECIPE := recipes/text-classification/sample-topics.yaml

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-slow test-all soak check format bench constraints clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: .venv/.ready-demo ## Train a topic classifier on the sample messages that come with the package
	$(BIN)/nlp-pipeline train $(DEMO_RECIPE) registry=file:runs/registry/sample-topics

test: .venv/.ready-dev ## Run the tests, without the slow, multi-process, GPU and network ones
	$(PYTEST) -n $(strip $(WORKERS)) $(PYTEST_ARGS)

# Several processes a test take all cores themselves: one test at a time. Exit code 5: there are none.
test-slow: .venv/.ready-dev ## Run the slow and the multi-process tests only
	$(PYTEST) -n $(strip $(WORKERS)) -m "slow and not (multi_process or gpu or network)" $(PYTEST_ARGS) || [ $$? -eq 5 ]
	$(PYTEST) -m "multi_process and not (gpu or network)" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-all: test test-slow ## Run all tests but those that need a GPU or the network

soak: .venv/.ready-dev ## Kill training at random moments for HOURS (1) and compare the weights
	$(BIN)/python -m tests.faults.soak --hours $(HOURS)

check: .venv/.ready-dev ## Lint, check the format and the types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/.ready-dev ## Mend what ruff can mend, and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.ready-python ## List the benchmark programs and the question each answers
	@find benchmarks -maxdepth 1 -name '*.py' | sort | $(BIN)/python -c 'import ast, sys; \
	docs = {p: ast.get_docstring(ast.parse(open(p, encoding="utf-8").read())) for p in sys.stdin.read().split()}; \
	[print(p, (doc or "(no docstring)").splitlines()[0], sep="\n    ") for p, doc in docs.items()]'

# To hold a package back: make constraints PIP_ARGS=torch==2.13.0
constraints: .venv/.ready-python ## Write constraints.txt anew from the newest versions that fit, torch as it is
	@echo "Resolving and installing the newest versions into a fresh environment (a minute or more)"
	@rm -rf build/constraints
	@$(BIN)/python -m venv build/constraints
	@build/constraints/bin/python -m pip --disable-pip-version-check install -q $(PIP_ARGS) "$$(grep ^torch== constraints.txt)" ".[demo,dev]"
	@{ sed -n '/^#/p' constraints.txt; build/constraints/bin/python -m pip freeze --all \
	    --exclude nlp-pipeline --exclude pip --exclude wheel \
	    | grep -Eiv '^(nvidia-|cuda-|triton)' | sed 's/+[a-z0-9.]*$$//'; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@rm -rf build/constraints
	@echo "Wrote constraints.txt; run 'make check test-all' before committing it"

clean: ## Remove caches and build outputs (keeps .venv and runs/)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find nlp_pipeline tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is ready when its stamp is there: the stamp comes last, so an interrupted set-up starts again.

.venv/.ready-python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "PYTHON=$(PYTHON) is missing or older than 3.11" >&2; exit 1; }
	@echo "Creating .venv with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv .venv
	@touch $@

# $(call install,EXTRAS): a set-up that was cut short may leave half a package, which pip can't mend: start anew.
define install
	@test ! -e .venv/.installing || test -e .venv/.ready-demo || { \
	    echo "The last set-up didn't finish; starting with an empty .venv"; \
	    "$(PYTHON)" -m venv --clear .venv && touch .venv/.ready-python; }
	@touch .venv/.installing
	@$(PIP) install -q $(PIP_ARGS) -c constraints.txt -e ".[$(1)]"
	@rm .venv/.installing
endef

.venv/.ready-demo: pyproject.toml constraints.txt | .venv/.ready-python
	@echo "Installing packages (about a minute; 2 GB on disk, several GB more with a PyTorch for CUDA)"
	$(call install,demo)
	@touch $@

.venv/.ready-dev: pyproject.toml constraints.txt | .venv/.ready-python
	@echo "Installing packages and development tools (about a minute; 2 GB on disk, several GB more with a PyTorch for CUDA)"
	$(call install,demo$(comma)dev)
	@touch .venv/.ready-demo $@
