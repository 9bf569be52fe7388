# The edge proof, included by the Makefile: `make test-edge`.
#
# An emulated aarch64 machine and an emulated Cortex-A9 install the package from this tree's wheels, sync a chain that
# this machine mines and end at its tip; the Dockerfile's steps are executed in a Debian root (as root: chroot and
# namespaces).  A missing tool is an error.  Debian: apt install mmdebstrap qemu-user-static iproute2
# gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf
EDGE_ROOTS := build/edge
EDGE_MACHINES := aarch64 armv7l

.PHONY: test-edge $(addprefix edge-root-,$(EDGE_MACHINES))

test-edge: $(VENV)/.installed-test $(addprefix edge-root-,$(EDGE_MACHINES)) $(EDGE_ROOTS)/slim
	EDGE_ROOTS=$(EDGE_ROOTS) $(BIN)/pytest -rA --durations=5 tests/edge

$(addprefix edge-root-,$(EDGE_MACHINES)): edge-root-%: wheel-%
	sh tests/edge/make_root.sh $* $(WHEEL_DIRECTORY) $(EDGE_ROOTS)/$*

# Stands in for the image debian:bookworm-slim.
$(EDGE_ROOTS)/slim:
	mkdir -p $(EDGE_ROOTS)
	rm -rf $@.part && mmdebstrap --quiet --variant=minbase bookworm $@.part http://deb.debian.org/debian
	mv $@.part $@
