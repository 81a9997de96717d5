# Two commands for a newcomer: `make demo` and `make test`. Both make .venv first, once.

PYTHON ?= python3
BIN := .venv/bin
MODULATORS := joint ogm-ge agm agm-ge

.PHONY: help install demo test lint bench baselines study clean

help:
	@echo "make demo       install, then joint, OGM-GE, AGM and AGM-GE on the embedded data set, side by side"
	@echo "make test       install what tests need, run them all"
	@echo "make lint       ruff and mypy"
	@echo "make bench      the measurements behind the figures in docs/"
	@echo "make baselines  logistic regression on each modality of avmnist-mini and on both"
	@echo "make study      the five-seed comparisons in README and docs/study.md (about half an hour)"
	@echo "make clean      remove .venv and caches; runs/ stays"

# A stamp tells an install that finished from one that was cut off; it is older than pyproject.toml when that has changed.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "agmbench needs Python >= 3.11; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

install: .venv/installed

demo: .venv/installed
	@set -e; for modulator in $(MODULATORS); do $(BIN)/agmbench run --modulator $$modulator; done
	@$(BIN)/agmbench compare --dataset avmnist-mini

test: .venv/installed-test
	$(BIN)/python -m pytest

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/listing.py
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/jobs.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/variants.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/compare.py

baselines: .venv/installed
	$(BIN)/python scripts/baselines.py

study: .venv/installed
	$(BIN)/python scripts/study.py
	@$(BIN)/agmbench compare --dataset avmnist-mini
	@$(BIN)/agmbench compare --dataset avmnist-mini --cost

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
