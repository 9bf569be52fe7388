# The explorer page in a browser, included by the Makefile: `make test-web`.
#
# Needs Debian's chromium (`apt-get install chromium`); CHROMIUM names another one.  Pictures of every page are left in
# build/web/screenshots; `make web-pictures` takes those of the documents anew.
CHROMIUM ?= /usr/bin/chromium

.PHONY: test-web web-pictures

test-web: $(VENV)/.installed-web
	CHROMIUM=$(CHROMIUM) $(BIN)/pytest -rA --tb=short tests/web

web-pictures: test-web
	cp build/web/documents/*.png miner/docs/

$(VENV)/.installed-web: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --editable '.[browser]'
	touch $@
