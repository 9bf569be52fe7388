# A Debian root of another machine with the package installed in it, and a command that runs its Python here.
#
# Sourced by try_wheel.sh and edge/make_root.sh:  make_emulated_root aarch64|armv7l WHEELS WORK
# makes WORK/root and WORK/python.  aarch64: packages from PyPI.  armv7l: Debian's, as a Cortex-A9, because PyPI has no
# NumPy for it, and its grpcio has instructions that a Cortex-A9 lacks.  Both run under qemu-user: what they print as
# speed says nothing of a board's.  Debian: apt install qemu-user-static mmdebstrap

# mmdebstrap's "extract" configures nothing; Python runs without.
extract_root() {
    mmdebstrap --quiet --variant=extract --architectures="$1" --include="$2" "$3" "$root" http://deb.debian.org/debian
    [ -e "$root/lib" ] || ln -s usr/lib "$root/lib"
}

install_into_root() { python3 -m pip install --quiet --only-binary=:all: --python-version 3.11 --target "$root/opt/site" "$@"; }

# qemu-user emulates one process; -0 lets it start the next one the same way.
write_python() {
    cat >"$work/python" <<END
#!/bin/sh
exec $1 -0 $work/python -L $root -E PYTHONHOME=$root/usr -E PYTHONPATH=$2 -E LD_LIBRARY_PATH=${3-} \\
    -E OPENBLAS_NUM_THREADS=1 $root/usr/bin/python3 "\$@"
END
    chmod +x "$work/python"
}

make_emulated_root() {
    architecture=$1 wheels=$2 work=$3 root=$3/root
    case $architecture in
    aarch64)
        extract_root arm64 python3,libstdc++6 bookworm
        install_into_root --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 \
            --platform manylinux_2_26_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
            "$wheels"/bnnchain-*_aarch64.whl
        write_python qemu-aarch64-static "$root/opt/site"
        ;;
    armv7l)
        # Debian 13's grpcio aborts on the first clock it reads (time_posix.cc); Debian 12's cryptography is too old.
        packages=python3,python3-numpy,python3-cffi,python3-grpcio,python3-protobuf,python3-click
        extract_root armhf "$packages,python3-rich,python3-typing-extensions,libopenblas0-pthread" bookworm
        install_into_root --no-deps --platform manylinux_2_17_armv7l --platform manylinux_2_31_armv7l \
            "$wheels"/bnnchain-*_armv7l.whl "cryptography>=45" prometheus-client
        write_python "qemu-arm-static -cpu cortex-a9" "$root/opt/site:$root/usr/lib/python3/dist-packages" \
            "$root/usr/lib/arm-linux-gnueabihf/openblas-pthread"
        ;;
    *)
        echo "$architecture: not a machine that is emulated here" >&2
        return 1
        ;;
    esac
}
