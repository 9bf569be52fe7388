#!/bin/sh
# What a container runs: join the chain of /etc/bnnchain/chain.json, then `bnnchain "$@"` with /etc/bnnchain/node.toml,
# each where it is mounted.
set -eu
if [ -f /etc/bnnchain/node.toml ]; then
    export BNNCHAIN_CONFIG=/etc/bnnchain/node.toml
fi
if [ -f /etc/bnnchain/chain.json ]; then
    bnnchain init --spec /etc/bnnchain/chain.json
fi
exec bnnchain "$@"
