"""A chain's constitution: who it is, its parameters by height, its first data set, model and coins.

Everything here is fixed before the first block; the genesis block's id commits to all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import decode_model, encode_model, model_hash
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import block_id, idle_header
from bnnchain.consensus.params import MAX_MONEY, MAX_U64, Params, encode_params, params_hash, read_params
from bnnchain.consensus.signatures import KEY_BYTES
from bnnchain.consensus.types import (
    MAX_TARGET,
    VERSION,
    Amount,
    BlockId,
    Header,
    Height,
    ModelHash,
    PublicKey,
)
from bnnchain.datasets.manifest import Manifest, decode_manifest, encode_manifest
from bnnchain.wire import ZERO_HASH, Reader, Writer, tagged_hash

if TYPE_CHECKING:
    from bnnchain_kernels.model import Model

MAX_NAME_BYTES = 64
MAX_CHAIN_ID = (1 << 32) - 1
MAX_SCHEDULE = 64
MAX_ALLOCATIONS = 4_096
MAX_SPEC_BYTES = 1 << 21

_NAME = re.compile(rf"[ -~]{{1,{MAX_NAME_BYTES}}}")


@dataclass(frozen=True, eq=False)
class ChainSpec:
    """The constitution; raises :class:`Invalid` ``bad-spec`` where it contradicts itself.

    schedule: (height, parameters in force from it on), heights strictly increasing from 0: the paper's constants
        "updated throughout the blockchain's lifecycle" (section 4).
    model: the base of the lottery where a block has no parent model; it fits ``dataset``.
    allocations: the first coins, strictly increasing by key.
    """

    name: str
    chain_id: int
    genesis_time: int
    initial_target: int
    schedule: tuple[tuple[Height, Params], ...]
    dataset: Manifest
    model: Model
    allocations: tuple[tuple[PublicKey, Amount], ...]

    def __post_init__(self) -> None:
        self._validate_ranges()
        heights = [height for height, _ in self.schedule]
        keys = [key for key, _ in self.allocations]
        if not self.schedule or heights[0] != 0 or heights != sorted(set(heights)) or len(heights) > MAX_SCHEDULE:
            raise Invalid("bad-spec", reason="parameter heights must rise from 0")
        if keys != sorted(set(keys)) or len(keys) > MAX_ALLOCATIONS or any(len(key) != KEY_BYTES for key in keys):
            raise Invalid("bad-spec", reason="allocations must rise by key")
        if not 0 <= sum(amount for _, amount in self.allocations) <= MAX_MONEY:
            raise Invalid("bad-spec", reason="allocations exceed all money there may be")
        if not 0 < self.initial_target <= MAX_TARGET:
            raise Invalid("bad-spec", reason="target out of range")
        shape, wanted = self.model.architecture, self.dataset
        if (shape.height, shape.width, shape.planes, shape.classes) != (
            wanted.height,
            wanted.width,
            wanted.planes,
            wanted.classes,
        ):
            raise Invalid("bad-spec", reason="the lottery's model does not fit the data set")

    def _validate_ranges(self) -> None:
        numbers = [
            self.genesis_time,
            *(height for height, _ in self.schedule),
            *(coins for _, coins in self.allocations),
        ]
        if any(type(number) is not int or not 0 <= number <= MAX_U64 for number in numbers):
            raise Invalid("bad-spec", reason="a time, height or amount is not an unsigned 64-bit integer")
        if type(self.chain_id) is not int or not 0 <= self.chain_id <= MAX_CHAIN_ID:
            raise Invalid("bad-spec", reason="chain_id is not an unsigned 32-bit integer")
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise Invalid("bad-spec", reason=f"name is not 1 to {MAX_NAME_BYTES} printable ASCII characters")
        # Ruling: ASERT counts from genesis, so what it is computed from cannot change on the way.
        if len({(params.is_lottery_open, params.block_interval_s) for _, params in self.schedule}) > 1:
            raise Invalid("bad-spec", reason="the lottery and the block interval are the same at all heights")

    def params_at(self, height: int) -> Params:
        """Return the parameters in force at ``height``."""
        return next(params for start, params in reversed(self.schedule) if start <= height)

    @cached_property
    def genesis_header(self) -> Header:
        """The header of block 0: unsigned, it commits to the spec by its body root."""
        return idle_header(
            chain_id=self.chain_id,
            height=Height(0),
            previous_hash=BlockId(ZERO_HASH),
            timestamp=self.genesis_time,
            miner=PublicKey(bytes(KEY_BYTES)),
            body_root=tagged_hash("spec", encode_spec(self)),
            params_hash=params_hash(self.params_at(0)),
            target=self.initial_target,
        )

    @cached_property
    def genesis_id(self) -> BlockId:
        """The id of block 0, which peers compare in their handshake."""
        return block_id(self.genesis_header)

    @cached_property
    def model_hash(self) -> ModelHash:
        """The hash of the lottery's model."""
        return ModelHash(model_hash(self.model))


def encode_spec(spec: ChainSpec) -> bytes:
    """Return the canonical bytes of a spec."""
    writer = Writer().u16(VERSION).text(spec.name, MAX_NAME_BYTES).u32(spec.chain_id).u64(spec.genesis_time)
    writer.u256(spec.initial_target).varint(len(spec.schedule))
    for height, params in spec.schedule:
        writer.u64(height).raw(encode_params(params))
    for data in (encode_manifest(spec.dataset), encode_model(spec.model)):
        writer.varint(len(data)).raw(data)
    writer.varint(len(spec.allocations))
    for key, amount in spec.allocations:
        writer.raw(key).u64(amount)
    return writer.bytes()


def decode_spec(data: bytes) -> ChainSpec:
    """Return the spec of ``data``; raises ``bad-spec`` or ``bad-encoding``."""
    if len(data) > MAX_SPEC_BYTES:
        raise Invalid("bad-spec", reason="too large", size=len(data))
    reader = Reader(data)
    version = reader.u16()
    if version != VERSION:
        raise Invalid("bad-spec", reason="version", version=version)
    name, chain_id, genesis_time = reader.text(MAX_NAME_BYTES), reader.u32(), reader.u64()
    target, count = reader.u256(), reader.varint()
    if count > MAX_SCHEDULE:
        raise Invalid("bad-spec", reason="too many parameter heights", count=count)
    schedule = tuple((Height(reader.u64()), read_params(reader)) for _ in range(count))
    dataset = decode_manifest(reader.raw(reader.varint()))
    model = decode_model(reader.raw(reader.varint()))
    count = reader.varint()
    if count > MAX_ALLOCATIONS:
        raise Invalid("bad-spec", reason="too many allocations", count=count)
    allocations = tuple((PublicKey(reader.raw(KEY_BYTES)), Amount(reader.u64())) for _ in range(count))
    reader.finish()
    return ChainSpec(name, chain_id, genesis_time, target, schedule, dataset, model, allocations)
