# Each target sets up .venv by itself; the stamp makes the second time quick.

PYTHON ?= python3
BIN := .venv/bin
PARALLEL := -n 2 --dist loadscope --no-loadscope-reorder
KILLS ?= 100
SEED ?= 0
STAMP := .venv/.installed

.PHONY: demo test test-all chaos lint

demo: $(STAMP)
	$(BIN)/prunesweep run sweeps/quickstart.yaml

test: $(STAMP)
	$(BIN)/pytest $(PARALLEL) -m "not slow"

test-all: $(STAMP)
	$(BIN)/pytest $(PARALLEL)

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prunesweep needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	@echo "setting up .venv: a minute or two, about 6 GB with torch's GPU libraries"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)
