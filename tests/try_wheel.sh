#!/bin/sh
# Install a wheel as a user would and try it: tests/try_wheel.sh x86_64|aarch64|armv7l|sdist DIST
#
# x86_64, sdist: a fresh venv with no compiler on PATH.  The wheel must count with the C kernel; the source distribution
# must install all the same, count with Numba, and say once why.
# aarch64, armv7l: an emulated Debian root (emulated_root.sh).
set -eu
architecture=$1 dist=$(realpath "$2") tests=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() { echo "$architecture: $1" >&2; exit 1; }
case $architecture in
x86_64 | sdist)
    python3 -m venv venv
    if [ "$architecture" = sdist ]; then kernel=numba file=$(ls "$dist"/bnnchain-*.tar.gz)
    else kernel=c file=$(ls "$dist"/bnnchain-*_x86_64.whl); fi
    # cc, gcc and clang live in no directory of this PATH.
    PATH="$work/venv/bin" "$work/venv/bin/python" -m pip install --quiet "$file"
    run() { env -i HOME="$work" PATH="$work/venv/bin" OPENBLAS_NUM_THREADS=1 bnnchain "$@"; }
    ;;
aarch64 | armv7l)
    kernel=c
    . "$tests/emulated_root.sh"
    make_emulated_root "$architecture" "$dist" "$work"
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
