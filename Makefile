# Each target sets up .venv by itself, with what it needs: `demo` with what running needs, the others with the extra `dev`
# as well. The stamps make the second time quick.

PYTHON ?= python3
BIN := .venv/bin
PARALLEL := -n 2 --dist loadscope --no-loadscope-reorder
KILLS ?= 100
SEED ?= 0
OTHER ?= HEAD~1
TWO_USERS := $(shell [ "$$(id -u)" -ne 0 ] || echo --users)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
LOCK := $(BIN)/uv pip compile --quiet --constraint constraints.txt --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-header
RUNNING := .venv/.installed
TESTING := .venv/.installed-dev

.PHONY: demo test test-all chaos lint docs lock

demo: $(RUNNING)
	$(BIN)/prunesweep run sweeps/quickstart.yaml
	@echo "to have the command prunesweep in this shell: . $(BIN)/activate"

# Whatever the environment says: each of the hundreds of processes that tests start would compile our modules anew.
test test-all: export PYTHONDONTWRITEBYTECODE :=

test: $(TESTING)
	$(BIN)/pytest $(PARALLEL) --durations=25 -m "not slow"

test-all: $(TESTING)
	$(BIN)/pytest $(PARALLEL) --durations=25

chaos: $(TESTING)
	$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED)
	$(BIN)/python -m tests.chaos --kills 20 --seed $(SEED) --s3 --ui
	$(BIN)/python -m tests.chaos --kills 20 --seed $(SEED) --version $(OTHER) $(TWO_USERS)
	$(BIN)/python -m tests.chaos --kills 20 --seed $(SEED) --jobs
	$(BIN)/python -m tests.chaos --kills 20 --seed $(SEED) --sweep tests/chaos_search.yaml

lint: $(TESTING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(TESTING)
	@$(PIP) --editable '.[docs]'
	$(BIN)/python docs/build_site.py
	@echo "to read it: $(BIN)/python -m http.server --directory build/site"

# The hashes of all files of the versions in constraints.txt, for every platform: images and CI take no other file.
lock: $(RUNNING)
	$(PIP) uv
	echo dumb-init | $(LOCK) pyproject.toml - --output-file docker/requirements.lock
	$(LOCK) pyproject.toml --extra dev --output-file .ci/requirements.lock

$(RUNNING): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prunesweep needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	@echo "setting up .venv: a minute or two, about 6 GB with torch's GPU libraries"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --editable .
	@touch $@

$(TESTING): $(RUNNING)
	@echo "adding to .venv what tests need"
	@$(PIP) --editable '.[dev]'
	@touch $@
