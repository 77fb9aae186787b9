# `make demo` shows the whole product; `make test` passes the tests. Both set up .venv first.
.DEFAULT_GOAL := help
.PHONY: help setup pango compiler browser demo test test-mlflow test-frameworks test-spark check format examples fuzz bench bench-audit bench-energy bench-gpu bench-tracking wheel wheel-check clean

BIN := .venv/bin
READY := .venv/.ready

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-15s %s\n", $$1, $$2}'

$(READY): pyproject.toml uv.lock .ci/setup
	@echo "Setting up .venv (a few minutes the first time)"
	@sh .ci/setup

setup: $(READY) ## Set up .venv from the lock file

pango: $(READY)
	@sh .ci/pango

compiler:
	@sh .ci/compiler

browser:
	@sh .ci/browser

demo: $(READY) pango ## Record, audit and gate on real data; writes .demo/
	@$(BIN)/mlflow-carbon demo --out .demo

test: $(READY) pango compiler browser ## Run all tests
	$(BIN)/pytest -n 2 --dist loadfile

test-mlflow: $(READY) ## Recording and the gate with another MLflow (MLFLOW=2.14.0; empty: the newest)
	.ci/test-mlflow $(MLFLOW)

test-frameworks: $(READY) ## Recording tests with PyTorch, Lightning, Keras, Transformers (2 GB the first time)
	.ci/test-frameworks

test-spark: $(READY) ## Fingerprints and audits with a real Spark (500 MB the first time)
	.ci/test-spark

check: $(READY) ## Style, types, import directions, lock file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/uv lock --check --quiet

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

examples: $(READY) pango ## Run every example
	$(BIN)/pytest tests/e2e

fuzz: $(READY) ## Fuzz the policy loader and the expressions with atheris (FUZZ_SECONDS=300)
	$(BIN)/uv run --frozen --no-sync --with 'atheris>=3' python tests/fuzz/fuzz_policy.py .fuzz -max_total_time=$(or $(FUZZ_SECONDS),300) -max_len=4000 -timeout=10

bench: $(READY) ## Run the benchmarks (minutes)
	for file in tests/benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

bench-energy: $(READY) compiler ## Error and cost beside CodeCarbon, Zeus and others; writes docs/benchmarks/energy.md (forty minutes)
	$(BIN)/python tests/benchmarks/bench_energy.py

bench-tracking: $(READY) ## What recording adds to MLflow; writes docs/benchmarks/tracking.md (twenty minutes)
	$(BIN)/python tests/benchmarks/bench_import.py
	$(BIN)/python tests/benchmarks/bench_tracking.py

bench-gpu: ## The same on a real NVIDIA GPU (PYTHON= one with PyTorch, CodeCarbon and Zeus); writes docs/benchmarks/gpu.md
	$(or $(PYTHON),$(BIN)/python) tests/benchmarks/bench_gpu.py

bench-audit: $(READY) ## Audits of 1 k, 100 k and 1 M runs beside search_runs and CEL (an hour, 14 GB; goes on where it stopped)
	$(BIN)/python tests/benchmarks/bench_audit.py --runs 1000,100000
	$(BIN)/python tests/benchmarks/bench_audit.py --runs 1000000 --stores sqlite,snapshot,postgresql

wheel: $(READY) ## Build the wheel into dist/
	rm -rf dist
	$(BIN)/uv build --quiet --wheel --out-dir dist

wheel-check: wheel pango ## Install the wheel into an empty environment and run its command line there
	$(BIN)/python .ci/wheel_check.py dist/*.whl

clean: ## Remove what make made
	rm -rf .venv .demo dist
