"""The lottery: each ticket is a mutant of the elected parent, evaluated by the kernel (PROTOCOL.md, "Lottery").

Ruling: the paper's literal chain can be rewritten for nothing, because models are public; the ticket binds an objective
cost to the block's content.  A ticket is also a real search step, so the work is not thrown away.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import apply_flips
from bnnchain.wire import HASH_BYTES, hash_domain, tagged_hash

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
_BLOCK_WORDS = HASH_BYTES // _WORD_BYTES
_BLOCK = struct.Struct(f"<{_BLOCK_WORDS}Q")


@dataclass(frozen=True, eq=False)
class LotteryTask:
    """What the kernel must evaluate to check one ticket: ``child`` on the samples that the parent block draws."""

    base: Model
    dataset_id: DatasetId
    previous_hash: BlockId
    seed: bytes
    ticket_flips: int

    @cached_property
    def child(self) -> Model:
        """The ticket's mutant; made when it is asked for, since a block that is only replayed needs none."""
        return mutant(self.base, self.seed, self.ticket_flips)


def ticket_seed(core: bytes, nonce: int) -> bytes:
    """Return the 32-byte seed of ticket number ``nonce`` of a header core."""
    return tagged_hash("ticket", core, nonce.to_bytes(8, "little"))


def sample_indices(previous_hash: BlockId, dataset_id: DatasetId, pool_size: int, n_eval: int) -> Int32Array:
    """Return ``int32[min(n_eval, pool_size)]``: distinct pool samples of this height's tickets, in drawing order.

    The whole pool in order where it is no larger than ``n_eval``.
    """
    if pool_size <= n_eval:
        return np.arange(pool_size, dtype=np.int32)
    # As draw_distinct would, hundreds of hashes at a time: half a millisecond for 1,024 of 60,000 instead of seven.
    seed, drawn, blocks = tagged_hash("eval", previous_hash, dataset_id), np.zeros(0, np.uint64), 0
    limit, step = _WORD_RANGE - _WORD_RANGE % pool_size, -(-2 * n_eval // _BLOCK_WORDS)
    while True:
        words = np.frombuffer(_stream_bytes(seed, blocks, step), "<u8")
        blocks += step
        drawn = np.concatenate([drawn, words[words <= np.uint64(limit - 1)] % np.uint64(pool_size)])
        _, places = np.unique(drawn, return_index=True)
        if len(places) >= n_eval:
            return drawn[np.sort(places)[:n_eval]].astype(np.int32)


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
        yield from _BLOCK.unpack(_stream_bytes(seed, counter, 1))
        counter += 1


def _stream_bytes(seed: bytes, start: int, blocks: int) -> bytes:
    """Return the bytes of :func:`counter_stream` from block number ``start`` on."""
    seeded = hash_domain("stream").copy()
    seeded.update(seed)
    digests = []
    for counter in range(start, start + blocks):
        digest = seeded.copy()
        digest.update(counter.to_bytes(8, "little"))
        digests.append(digest.digest())
    return b"".join(digests)


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
