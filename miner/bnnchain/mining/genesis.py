"""A new chain's spec: preset parameters, a first data set, a lottery model and the first coins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnnchain.consensus.lottery import counter_stream
from bnnchain.consensus.params import preset
from bnnchain.consensus.spec import ChainSpec
from bnnchain.consensus.types import MAX_TARGET, Amount, Height, PublicKey
from bnnchain.mining.shapes import default_shape
from bnnchain.wire import tagged_hash
from bnnchain_kernels.model import build_model

if TYPE_CHECKING:
    from bnnchain.datasets.manifest import Manifest
    from bnnchain_kernels.model import Architecture, Model

FIRST_COINS = Amount(1_000_000_000_000)
"""Units that `init` gives the creator, so that transfers work before the first reward matures."""
FIRST_TICKETS = 1 << 16
"""Expected tickets of a first block where they cost something: a minute or so of a small board; ASERT does the rest."""


def new_spec(preset_name: str, dataset: Manifest, owner: PublicKey, genesis_time: int) -> ChainSpec:
    """Return the spec of a new chain with a preset's parameters; its id follows from all of it."""
    params = preset(preset_name)
    seed = tagged_hash("genesis", dataset.dataset_id, owner, genesis_time.to_bytes(8, "little"))
    return ChainSpec(
        name=preset_name,
        chain_id=int.from_bytes(seed[:4], "little"),
        genesis_time=genesis_time,
        initial_target=MAX_TARGET if params.is_lottery_open else MAX_TARGET // FIRST_TICKETS,
        schedule=((Height(0), params),),
        dataset=dataset,
        model=random_model(default_shape(dataset), seed),
        allocations=((owner, FIRST_COINS),),
    )


def random_model(architecture: Architecture, seed: bytes) -> Model:
    """Return a model whose weights come from the seed's SHA-256 stream, with every threshold at half the fan-in."""
    words = counter_stream(tagged_hash("random-model", seed))
    count = -(-architecture.weight_count // 64)
    octets = b"".join(next(words).to_bytes(8, "little") for _ in range(count))
    bits = np.unpackbits(np.frombuffer(octets, np.uint8), bitorder="little").astype(np.bool_)
    weights, start = [], 0
    for layer in architecture.geometry:
        stop = start + layer.weight_count
        weights.append(bits[start:stop].reshape(layer.out_channels, layer.fan_in))
        start = stop
    thresholds = [np.full(layer.out_channels, -(-layer.fan_in // 2)) for layer in architecture.geometry[:-1]]
    return build_model(architecture, weights, thresholds, np.zeros(architecture.classes))
