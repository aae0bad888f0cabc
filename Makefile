# storyjax: `make help` lists what can be done. Everything lives in .venv, which the first call makes; builds on
# Apache Beam live in .venv-beam.

.DEFAULT_GOAL := help
.PHONY: help story test test-all parity parity-small beam lint format
.DELETE_ON_ERROR:

STORY := examples/the_red_kite.yaml
OUT := stories/the_red_kite
ARGS :=
# Processes that share the tests; each needs up to 5 GB of memory.
WORKERS := 2
# Tried in this order; `make story PYTHON=/somewhere/python3.12` takes that one.
PYTHON := python3.11 python3
BIN := .venv/bin
READY := .venv/.ready
PARITY := .venv/.parity
BEAM := .venv-beam/.ready

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

story: $(READY)  ## draw the example story with the model that ships (STORY=file, OUT=folder)
	@$(BIN)/storyjax generate $(STORY) --out $(OUT) --overwrite

test: $(READY)  ## the test suite (ARGS="tests/story -k strip" for a part of it; WORKERS=4 for as many processes)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-all: $(READY)  ## the test suite with what compiles for minutes: all meshes, all benchmarks at toy size
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "slow or not slow" $(ARGS)

# The tests that hold storyjax against PyTorch skip themselves where it is not installed.
PARITY_TESTS = $$(grep -rl --include='test_*.py' 'importorskip("torch")' tests)

parity-small: $(PARITY)  ## storyjax against PyTorch, diffusers and transformers at toy sizes (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PARITY_TESTS) $(ARGS)

parity: parity-small  ## the same, then every network at its released size, into docs/weights.md (hours, 24 GB of memory; continues)
	@$(BIN)/python -m benchmarks.parity --full --write docs/weights.md

beam: $(BEAM)  ## .venv-beam, an environment for building data sets on Apache Beam, and the tests of that
	@.venv-beam/bin/python -m pytest tests/tfds_builders/test_on_beam.py $(ARGS)

lint: $(READY)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(READY)  ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Python 3.11 gets the pinned versions of requirements.lock, a newer one the ranges of setup.cfg. The mark is written last, so
# that an installation that was broken off is done again.
define environment
	@if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
	  found=; \
	  for python in $(PYTHON); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "storyjax needs Python 3.11 or newer; tried: $(PYTHON). Install one, or name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(1) with $$($$found --version); the libraries take a few minutes, once."; \
	  $$found -m venv $(1) || { \
	    echo "$$found cannot make an environment; on Debian and Ubuntu: apt install $$found-venv" >&2; exit 1; }; \
	fi
	@if $(1)/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then \
	  $(1)/bin/python -m pip install --quiet --disable-pip-version-check -r $(2) && \
	  $(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	else \
	  $(1)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[$(3)]'; \
	fi
	@touch $@
endef

$(READY): requirements.lock setup.cfg pyproject.toml
	$(call environment,.venv,requirements.lock,dev)

$(BEAM): requirements-beam.lock setup.cfg pyproject.toml
	$(call environment,.venv-beam,requirements-beam.lock,beam)

$(PARITY): $(READY) requirements-parity.lock
	@echo "Installing PyTorch and diffusers to compare with; a few minutes, once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-parity.lock
	@touch $@
