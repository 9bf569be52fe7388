#!/bin/sh
# Install a wheel as a user would and try it: tests/try_wheel.sh x86_64|aarch64|armv7l|sdist DIST
#
# x86_64, sdist: a fresh venv with no compiler on PATH.  The wheel must count with the C kernel; the source distribution
# must install all the same, count with Numba, and say once why.
# aarch64: a Debian root with packages from PyPI.  armv7l: a Debian root with Debian's packages, as a Cortex-A9, because
# PyPI has no NumPy for it, and its grpcio has instructions that a Cortex-A9 lacks.  Both run under qemu-user: what they
# print as speed says nothing of a board's.  Debian: apt install qemu-user-static mmdebstrap
set -eu
architecture=$1 dist=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() { echo "$architecture: $1" >&2; exit 1; }
# mmdebstrap's "extract" configures nothing; Python runs without.
root() { mmdebstrap --quiet --variant=extract --architectures="$1" --include="$2" "$3" root http://deb.debian.org/debian; [ -e root/lib ] || ln -s usr/lib root/lib; }
install_into_root() { python3 -m pip install --quiet --only-binary=:all: --target root/opt/site "$@"; }
# A program to run the root's Python with, also for a process that the demo starts: qemu-user emulates only one.
write_python() {
    cat >python <<END
#!/bin/sh
exec $1 -0 $work/python -L $work/root -E PYTHONHOME=$work/root/usr -E PYTHONPATH=$2 -E LD_LIBRARY_PATH=${3-} \\
    -E OPENBLAS_NUM_THREADS=1 $work/root/usr/bin/python3 "\$@"
END
    chmod +x python
}

case $architecture in
x86_64 | sdist)
    python3 -m venv venv
    if [ "$architecture" = sdist ]; then kernel=numba file=$(ls "$dist"/bnnchain-*.tar.gz)
    else kernel=c file=$(ls "$dist"/bnnchain-*_x86_64.whl); fi
    # cc, gcc and clang live in no directory of this PATH.
    PATH="$work/venv/bin" "$work/venv/bin/python" -m pip install --quiet "$file"
    run() { env -i HOME="$work" PATH="$work/venv/bin" OPENBLAS_NUM_THREADS=1 bnnchain "$@"; }
    ;;
aarch64)
    kernel=c
    root arm64 python3,libstdc++6 bookworm
    install_into_root --python-version 3.11 --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux_2_26_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
        "$dist"/bnnchain-*_aarch64.whl
    write_python qemu-aarch64-static "$work/root/opt/site"
    run() { ./python -m bnnchain "$@"; }
    ;;
armv7l)
    kernel=c
    # Debian 13's grpcio aborts on the first clock it reads (time_posix.cc); Debian 12's cryptography is too old.
    packages=python3,python3-numpy,python3-cffi,python3-grpcio,python3-protobuf,python3-click
    root armhf "$packages,python3-rich,python3-typing-extensions,libopenblas0-pthread" bookworm
    install_into_root --no-deps --python-version 3.11 --platform manylinux_2_17_armv7l --platform manylinux_2_31_armv7l \
        "$dist"/bnnchain-*_armv7l.whl "cryptography>=45"
    libraries=$work/root/usr/lib/arm-linux-gnueabihf
    write_python "qemu-arm-static -cpu cortex-a9" \
        "$work/root/opt/site:$work/root/usr/lib/python3/dist-packages" "$libraries/openblas-pthread"
    run() { ./python -m bnnchain "$@"; }
    ;;
*) fail "not a wheel that is built here" ;;
esac

run --version >version 2>log
cat version log
grep -q "kernel $kernel," version || fail "the kernel is not $kernel"
if [ "$architecture" = sdist ]; then
    [ "$(grep -c "no C compiler was there" log)" = 1 ] || fail "the missing library is not said once"
else
    [ ! -s log ] || fail "the log is not empty"
fi
# The self-check with the golden vectors has passed by now; this counts, races and draws with every instruction set.
run bench --quick --backend $kernel --model cnn-digits
# Two processes: one mines, the other judges every block again.
run demo --generations 1
