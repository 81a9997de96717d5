# Two commands for a newcomer: `make demo` and `make test`. Both make .venv first, once.

PYTHON ?= python3
BIN := .venv/bin
MODULATORS := joint ogm-ge agm agm-ge

.PHONY: help install demo test test-long test-faults lint docs bench baselines study reproduce clean

help:
	@echo "make demo       install, then joint, OGM-GE, AGM and AGM-GE on the embedded data set, side by side"
	@echo "make test       install what tests need, run all that are quick"
	@echo "make test-long  the tests that take long: kills at every place, full disks, servers that go down"
	@echo "make test-faults  the study of faults in docs/reliability.md: dozens of kills and hostile folders (half an hour)"
	@echo "make lint       ruff and mypy"
	@echo "make docs       the documentation, built into site/; a warning is an error"
	@echo "make bench      the measurements behind the figures in docs/"
	@echo "make baselines  logistic regression on each modality of avmnist-mini and on both"
	@echo "make study      the five-seed comparisons in README and docs/study.md (suite mini, about an hour)"
	@echo "make reproduce  the paper's experiments on AV-MNIST, in the background: a night; first data prepare avmnist (docs/reproduction.md)"
	@echo "make clean      remove .venv, site/ and caches; runs/ stays"

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

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

install: .venv/installed

demo: .venv/installed
	@set -e; for modulator in $(MODULATORS); do $(BIN)/agmbench run --modulator $$modulator; done
	@$(BIN)/agmbench compare --dataset avmnist-mini

test: .venv/installed-test
	$(BIN)/python -m pytest -m "not long"

test-long: .venv/installed-test
	$(BIN)/python -m pytest -m "long and not faults"

test-faults: .venv/installed-test
	$(BIN)/python -m pytest -m faults

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed-docs
	@$(BIN)/python scripts/docs.py
	@echo "site/index.html is the start; it needs no server"

bench: .venv/installed
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/listing.py
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/jobs.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/reads.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/variants.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/compiled.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/reading.py --workers
	$(BIN)/python benchmarks/reading.py --waiting
	$(BIN)/python benchmarks/compare.py
	$(BIN)/python benchmarks/launchers.py --calls
	$(BIN)/python benchmarks/launchers.py

baselines: .venv/installed
	$(BIN)/python scripts/baselines.py

study: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/agmbench suite run mini --jobs 2
	@$(BIN)/agmbench compare --dataset avmnist-mini
	@$(BIN)/agmbench compare --dataset avmnist-mini --cost

SCALE ?= small

reproduce: .venv/installed
	$(BIN)/python scripts/reproduce.py --scale $(SCALE) --estimate
	$(BIN)/python scripts/reproduce.py --scale $(SCALE) --background

clean:
	rm -rf .venv site build .pytest_cache .mypy_cache .ruff_cache
