# Coverage-guided fuzzing of every decoder and call: `make fuzz FUZZ_S=900`, `make fuzz-short` for CI.
#
# atheris has wheels for CPython 3.11 to 3.13 on x86-64; the kept corpus is replayed by pytest on every Python.
# FUZZ_TARGETS=header,rpc narrows a run, FUZZ_OPTIONS=--keep puts what was found into the kept corpus.
FUZZ_PYTHON ?= $(PYTHON)
FUZZ_S ?= 900
FUZZ_TARGETS ?=
FUZZ_OPTIONS ?=
FUZZ := build/fuzz

.PHONY: fuzz fuzz-short
fuzz: $(FUZZ)/.installed
	env PYTHONPATH=kernels:fpga:miner $(FUZZ)/venv/bin/python tests/fuzz/campaign.py --directory $(FUZZ) \
	  --seconds $(FUZZ_S) --targets '$(FUZZ_TARGETS)' --json $(FUZZ)/report.json $(FUZZ_OPTIONS)

FUZZ_SHORT := transaction,block,model,difference,manifest,messages,text,judge,rpc
fuzz-short:
	$(MAKE) --no-print-directory fuzz FUZZ_S=30 FUZZ_TARGETS=$(FUZZ_SHORT)

# The packages are found in the tree, not installed: what is fuzzed is what is checked out.
$(FUZZ)/.installed: pyproject.toml
	mkdir -p $(FUZZ)
	test -x $(FUZZ)/venv/bin/python || $(FUZZ_PYTHON) -m venv $(FUZZ)/venv
	$(FUZZ)/venv/bin/python -m pip install --quiet '.[onnx]' 'atheris>=3.0' h5py
	$(FUZZ)/venv/bin/python -m pip uninstall --quiet --yes bnnchain
	touch $@
