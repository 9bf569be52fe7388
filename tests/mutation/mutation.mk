# Mutation testing of the consensus, on demand: hours.  It goes on where it stopped; MUTANTS and MUTATION_S bound a run.
MUTANTS ?= 1000
MUTATION_S ?= 21600
MUTATION := build/mutation

.PHONY: test-mutation
test-mutation: $(MUTATION)/venv/.installed
	env -u PYTHONPATH $(MUTATION)/venv/bin/python tests/mutation/mutate.py --directory $(MUTATION) --sample $(MUTANTS) \
	  --workers 2 --limit-s $(MUTATION_S)

# The packages are found in each copy, not installed: cosmic-ray changes the files of the copy.
$(MUTATION)/venv/.installed: pyproject.toml
	mkdir -p $(MUTATION)
	test -x $(MUTATION)/venv/bin/python || $(PYTHON) -m venv $(MUTATION)/venv
	$(MUTATION)/venv/bin/python -m pip install --quiet '.[test]' 'cosmic-ray>=8.4'
	$(MUTATION)/venv/bin/python -m pip uninstall --quiet --yes bnnchain
	touch $@
