# The edge proof and the container, included by the Makefile: `make test-edge`, `make test-image`, `make test-first-day`.
#
# test-edge: an emulated aarch64 machine and an emulated Cortex-A9 install the package from this tree's wheels, sync a
# chain that this machine mines and end at its tip.  A missing tool is an error.
# test-image: the Dockerfile's steps as committed, executed in a Debian root (as root: chroot and namespaces).
# test-first-day: the handbook's first five commands in a fresh environment, from the committed tree.
# Debian: apt install mmdebstrap qemu-user-static iproute2 gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf
EDGE_ROOTS := build/edge
EDGE_MACHINES := aarch64 armv7l

.PHONY: test-edge test-image test-first-day $(addprefix edge-root-,$(EDGE_MACHINES))

test-edge: $(VENV)/.installed-test $(addprefix edge-root-,$(EDGE_MACHINES))
	EDGE_ROOTS=$(EDGE_ROOTS) $(BIN)/pytest -rA tests/edge/test_sync.py

test-image: $(VENV)/.installed-test $(EDGE_ROOTS)/slim
	EDGE_ROOTS=$(EDGE_ROOTS) $(BIN)/pytest -rA tests/edge/test_image.py

test-first-day: $(VENV)/.installed-test
	$(BIN)/pytest -rA tests/edge/test_first_day.py

$(addprefix edge-root-,$(EDGE_MACHINES)): edge-root-%: wheel-%
	sh tests/edge/make_root.sh $* $(WHEEL_DIRECTORY) $(EDGE_ROOTS)/$*

# Stands in for the image debian:bookworm-slim.
$(EDGE_ROOTS)/slim:
	mkdir -p $(EDGE_ROOTS)
	rm -rf $@.part && mmdebstrap --quiet --variant=minbase bookworm $@.part http://deb.debian.org/debian
	mv $@.part $@
