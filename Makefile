# Two commands do everything: `make run` and `make test`; each works as the first one typed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# BLAS threads that compete with our own for few cores slow training down by far.
export OPENBLAS_NUM_THREADS ?= 1

PYTHONS ?= 3.10 3.12 3.13
# Rooms with targets of their own: they need tools, quiet or time.
ELSEWHERE := $(addprefix --ignore tests/,fpga edge chaos sim web/browser)

.PHONY: run test test-fast test-pythons check clean

# The first target is what a bare `make` does.
run: $(VENV)/.installed
	$(BIN)/bnnchain demo

test: check
	$(BIN)/pytest -n 2 $(ELSEWHERE) --cov --cov-report=term

test-fast: check
	$(BIN)/pytest -n 2 $(ELSEWHERE) -m "not slow"

# The core on every Python it supports, the oldest with the oldest NumPy; each in a throw-away environment.
test-pythons:
	set -e; for version in $(PYTHONS); do \
	  directory=$$(mktemp -d); python$$version -m venv $$directory; \
	  numpy=$$(test $$version = 3.10 && echo 'numpy<2' || echo numpy); \
	  $$directory/bin/python -m pip install --quiet '.[test]' "$$numpy"; \
	  $$directory/bin/python -c "import sys, numpy; print('Python', sys.version.split()[0], 'numpy', numpy.__version__)"; \
	  $$directory/bin/python -m pytest -q -n 2 $(ELSEWHERE) -m "not slow"; \
	  rm -rf $$directory; \
	done

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory gen-check

INSTALLED_FROM := pyproject.toml CMakeLists.txt $(wildcard kernels/native/*)

$(VENV)/.installed: $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

include proto/proto.mk
include tests/mutation/mutation.mk
include kernels/kernels.mk fpga/fpga.mk wheels.mk
include tests/sim/sim.mk tests/train/train.mk tests/chaos/chaos.mk tests/fuzz/fuzz.mk tests/edge/edge.mk tests/web/web.mk

clean:
	rm -rf $(VENV) build dist
