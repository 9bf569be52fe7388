# Faults, included by the Makefile: `make test-chaos`; the long form is `make test-chaos KILLS=200`.
#
# Kills draw their moments from a seed, which a failure prints; `make test-chaos CHAOS_SEED=7` replays it.
KILLS ?= 20
CHAOS_SEED ?= 20261122
# Eight processes under faults for so long, and hostile peers; the long form is CLUSTER_S=600.
CLUSTER_S ?= 60
HOSTILE_S ?= 20

.PHONY: test-chaos

test-chaos: $(VENV)/.installed-test
	KILLS=$(KILLS) CHAOS_SEED=$(CHAOS_SEED) CLUSTER_S=$(CLUSTER_S) HOSTILE_S=$(HOSTILE_S) $(BIN)/pytest -rP --durations=10 --timeout 1800 tests/chaos
