#!/bin/sh
# Make a fresh emulated root with the package in it: tests/edge/make_root.sh aarch64|armv7l WHEELS DIRECTORY
set -eu
for tool in mmdebstrap qemu-aarch64-static qemu-arm-static; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt install mmdebstrap qemu-user-static" >&2; exit 1; }
done
wheels=$(realpath "$2")
rm -rf "$3" && mkdir -p "$3"
. "$(dirname "$0")/../emulated_root.sh"
make_emulated_root "$1" "$wheels" "$(realpath "$3")"
