# The deterministic simulator, included by the Makefile: `make test-sim`, on demand `make sim-deep`.
#
# A failure prints its seed and the command that replays it, for example
#   make test-sim SIM_SEED=7 SIM_SEEDS=1 SIM_TESTS=tests/sim/test_faults.py
# with SIM_LOG=INFO in the environment also what its nodes logged.
SIM_SEED ?= 0
SIM_SEEDS ?= 10
SIM_BLOCKS ?= 200
SIM_TESTS ?= tests/sim
SIM_DEEP ?= 2000
SIM_ENV = SIM_SEED=$(SIM_SEED) SIM_SEEDS=$(SIM_SEEDS) SIM_BLOCKS=$(SIM_BLOCKS)

.PHONY: test-sim sim-deep

test-sim: $(VENV)/.installed-test
	$(SIM_ENV) $(BIN)/pytest -n 2 -rP --durations=10 $(SIM_TESTS)

sim-deep: $(VENV)/.installed-test
	SIM_SEED=$(SIM_SEED) SIM_DEEP=$(SIM_DEEP) $(BIN)/pytest -s --timeout 7200 tests/sim/test_deep.py
