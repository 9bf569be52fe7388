"""The lottery: each ticket is a mutant of the elected parent, evaluated by the kernel (PROTOCOL.md, "Lottery").

Ruling: the paper's literal chain can be rewritten for nothing, because models are public; the ticket binds an objective
cost to the block's content.  A ticket is also a real search step, so the work is not thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import apply_flips
from bnnchain.wire import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain.consensus.types import BlockId, DatasetId
    from bnnchain_kernels.model import Architecture, Int32Array, Model

MACS_REFERENCE = 1 << 17
"""macs_ref: a ticket that costs this much wins with the odds of the target itself."""

TICKET_OVERHEAD_MACS = 3 << 15
"""What drawing a ticket and hashing its logits costs beside the evaluation, in multiply-accumulates.

Ruling: without it a normalised ticket cost 4.5 times as much on the smallest network of the zoo as on the largest; with
it the measured spread is 1.33 (bench/README.md), and no base is worth seeking for its cheap tickets.
"""

_WORD_BYTES = 8
_WORD_RANGE = 1 << (8 * _WORD_BYTES)


@dataclass(frozen=True, slots=True, eq=False)
class LotteryTask:
    """What the kernel must evaluate to check one ticket: ``child`` on the pool samples at ``indices``."""

    base: Model
    child: Model
    dataset_id: DatasetId
    previous_hash: BlockId
    seed: bytes


def ticket_seed(core: bytes, nonce: int) -> bytes:
    """Return the 32-byte seed of ticket number ``nonce`` of a header core."""
    return tagged_hash("ticket", core, nonce.to_bytes(8, "little"))


def sample_indices(previous_hash: BlockId, dataset_id: DatasetId, pool_size: int, n_eval: int) -> Int32Array:
    """Return ``int32[min(n_eval, pool_size)]``: distinct pool samples of this height's tickets, in drawing order.

    The whole pool in order where it is no larger than ``n_eval``.
    """
    if pool_size <= n_eval:
        return np.arange(pool_size, dtype=np.int32)
    stream = counter_stream(tagged_hash("eval", previous_hash, dataset_id))
    return np.array(draw_distinct(stream, pool_size, n_eval), np.int32)


def mutant(base: Model, seed: bytes, ticket_flips: int) -> Model:
    """Return ``base`` with ``ticket_flips`` distinct weights flipped in every layer (all of a smaller layer)."""
    return apply_flips(base, np.array(mutant_flips(base.architecture, seed, ticket_flips), np.int64))


def mutant_flips(architecture: Architecture, seed: bytes, ticket_flips: int) -> list[int]:
    """Return the flat weight positions that a ticket's mutant flips, layer by layer, in drawing order."""
    stream = counter_stream(tagged_hash("mutant", seed))
    flips, start = [], 0
    for layer in architecture.geometry:
        count = min(ticket_flips, layer.weight_count)
        flips += [start + position for position in draw_distinct(stream, layer.weight_count, count)]
        start += layer.weight_count
    return flips


def lottery_value(seed: bytes, logits: Int32Array) -> bytes:
    """Return y, 32 bytes, from the mutant's ``int32[samples, classes]`` logits, hashed image-major, little-endian."""
    return tagged_hash("lottery", seed, tagged_hash("logits", logits.astype("<i4", copy=False).tobytes()))


def is_winning(y: bytes, base: Architecture, target: int) -> bool:
    """Answer whether ``y * macs_ref < target * cost(base)``, exact in integers.

    What a ticket costs is what it is worth: a base of twice the work wins twice as often.
    """
    return int.from_bytes(y, "little") * MACS_REFERENCE < target * ticket_cost(base)


def ticket_cost(base: Architecture) -> int:
    """Return what one ticket on a base costs, in multiply-accumulates an image."""
    return base.mac_count + TICKET_OVERHEAD_MACS


def counter_stream(seed: bytes) -> Iterator[int]:
    """Yield 64-bit integers: SHA-256(seed, counter) cut into four little-endian words, counter after counter."""
    counter = 0
    while True:
        block = tagged_hash("stream", seed, counter.to_bytes(8, "little"))
        for start in range(0, len(block), _WORD_BYTES):
            yield int.from_bytes(block[start : start + _WORD_BYTES], "little")
        counter += 1


def draw_below(stream: Iterator[int], bound: int) -> int:
    """Return a uniform integer in 0..bound-1 by rejection: words past the last whole multiple are dropped."""
    limit = _WORD_RANGE - _WORD_RANGE % bound
    while True:
        word = next(stream)
        if word < limit:
            return word % bound


def draw_distinct(stream: Iterator[int], bound: int, count: int) -> list[int]:
    """Return ``count`` distinct integers below ``bound`` in drawing order; repeats are drawn again."""
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen[draw_below(stream, bound)] = None
    return list(chosen)
