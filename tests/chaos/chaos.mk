# Faults, included by the Makefile: `make test-chaos`; the long form is `make test-chaos KILLS=200`.
#
# Kills draw their moments from a seed, which a failure prints; `make test-chaos CHAOS_SEED=7` replays it.
KILLS ?= 20
CHAOS_SEED ?= 20261122

.PHONY: test-chaos

test-chaos: $(VENV)/.installed-test
	KILLS=$(KILLS) CHAOS_SEED=$(CHAOS_SEED) $(BIN)/pytest -rP --durations=10 --timeout 1800 tests/chaos
