# The C kernel on other instruction sets, included by the Makefile: `make test-arm`.
#
# The random cases and their answers are written by the reference on this machine and replayed by static ARM programs
# under qemu.  Debian: apt install gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf qemu-user-static
KERNEL_BUILD := build/kernels
KERNEL_SOURCES := $(wildcard kernels/native/*.c)
KERNEL_HEADERS := $(wildcard kernels/native/*.h)
KERNEL_CFLAGS := -std=c11 -O3 -Wall -Wextra -Werror -static
ARM_CASES ?= 1000

.PHONY: test-arm test-arm-aarch64 test-arm-armv7

test-arm: test-arm-aarch64 test-arm-armv7

$(KERNEL_BUILD)/replay-$(ARM_CASES).bin: tests/kernels/write_replay.py tests/random_networks.py $(VENV)/.installed-test
	mkdir -p $(KERNEL_BUILD)
	PYTHONPATH=tests $(BIN)/python tests/kernels/write_replay.py $@.part 1,2 $(ARM_CASES)
	mv $@.part $@

$(KERNEL_BUILD)/replay-aarch64: tests/kernels/replay.c $(KERNEL_SOURCES) $(KERNEL_HEADERS)
	mkdir -p $(KERNEL_BUILD)
	aarch64-linux-gnu-gcc $(KERNEL_CFLAGS) -o $@ $< $(KERNEL_SOURCES)

# Debian's armhf default has no NEON: the kernel's NEON file switches it on for itself, and the selector asks the machine.
$(KERNEL_BUILD)/replay-armv7: tests/kernels/replay.c $(KERNEL_SOURCES) $(KERNEL_HEADERS)
	mkdir -p $(KERNEL_BUILD)
	arm-linux-gnueabihf-gcc $(KERNEL_CFLAGS) -march=armv7-a+fp -o $@ $< $(KERNEL_SOURCES)

test-arm-aarch64: $(KERNEL_BUILD)/replay-aarch64 $(KERNEL_BUILD)/replay-$(ARM_CASES).bin
	qemu-aarch64-static $^ neon-aarch64

test-arm-armv7: $(KERNEL_BUILD)/replay-armv7 $(KERNEL_BUILD)/replay-$(ARM_CASES).bin
	qemu-arm-static -cpu cortex-a9 $^ neon-armv7
