# The checks of training and its neighbours, included by the Makefile: `make test-train` (first run: 2.5 GB to install).
#
# An environment of its own: Larq needs NumPy 1 and TensorFlow, which needs Python 3.10 to 3.12, and grpcio-tools, which
# the other tests use, needs an older protobuf than TensorFlow.  What is tested is an installed wheel, not the checkout.
TRAIN_PYTHON ?= $(PYTHON)
TRAIN_DIRECTORY := build/train
TRAIN_BIN := $(TRAIN_DIRECTORY)/bin
TRAIN_EXTRAS := train,onnx,images,pool
TRAIN_TOOLS := hypothesis pytest pytest-asyncio pytest-timeout pytest-xdist \
  "larq-compute-engine==0.16.0; platform_machine == 'x86_64'"

.PHONY: test-train test-train-fast

# Everything; the trainings on MNIST take most of half an hour on two cores.
test-train: train-install
	$(TRAIN_BIN)/python -m pytest tests/train
	$(TRAIN_BIN)/python -m pytest tests/fuzz/test_corpus.py -k keras

# Without the long trainings.
test-train-fast: train-install
	$(TRAIN_BIN)/python -m pytest -m "not slow" tests/train

.PHONY: train-install
train-install: $(TRAIN_DIRECTORY)/.installed
	$(TRAIN_BIN)/python -m pip install --quiet --no-deps --force-reinstall \
	  --config-settings=build-dir=$(TRAIN_DIRECTORY)/cmake .

$(TRAIN_DIRECTORY)/.installed: pyproject.toml tests/train/train.mk
	$(TRAIN_PYTHON) -c "import sys; sys.exit(sys.version_info >= (3, 13) and 'TensorFlow needs Python 3.10 to 3.12: make test-train TRAIN_PYTHON=python3.12')"
	test -x $(TRAIN_BIN)/python || $(TRAIN_PYTHON) -m venv $(TRAIN_DIRECTORY)
	$(TRAIN_BIN)/python -m pip install --quiet --config-settings=build-dir=$(TRAIN_DIRECTORY)/cmake \
	  '.[$(TRAIN_EXTRAS)]' $(TRAIN_TOOLS)
	touch $@
