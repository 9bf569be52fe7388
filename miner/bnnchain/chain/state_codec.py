"""A chain's state as bytes, so that a node that starts need not replay the chain: never sent, known to no rule.

Canonical: equal states give equal bytes.  What states share is written once: a state holds its last ancestors, which
differ from it in little.  A digest tells bytes that the disk has changed; :data:`STATE_FORMAT` those of other programs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bnnchain.bnn.encoding import decode_model, encode_model
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.ledger import Ledger
from bnnchain.consensus.state import (
    ChainState,
    Coinbase,
    DatasetState,
    DatasetStatus,
    FamilyState,
    ModelRecord,
    Novelty,
)
from bnnchain.consensus.types import Account, Amount, BlockId, DatasetId, Height, ModelHash, PublicKey
from bnnchain.datasets.manifest import decode_manifest, encode_manifest
from bnnchain.wire import HASH_BYTES, Reader, Writer, tagged_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.consensus.spec import ChainSpec
    from bnnchain_kernels.model import UInt8Array

STATE_FORMAT = 1
"""Raise it whenever a state's meaning changes, by a field or a rule: what older programs kept is then replayed."""
MAX_STATE_BYTES = 1 << 30
WEIGHT_BYTES = 40
"""2**64 blocks of the heaviest target."""

Value = TypeVar("Value")


class Table:
    """Distinct values in order of first use, each as bytes; a value is referred to by its number."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._known: dict[int, tuple[object, int]] = {}
        """By identity, each kept alive beside: what states share need not be encoded again."""

    def number(self, value: Value, encode: Callable[[Value], bytes]) -> int:
        """Return the number of a value, a new one where no equal value has come before."""
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        number = self._numbers.setdefault(encode(value), len(self._numbers))
        self._known[id(value)] = (value, number)
        return number

    def write(self, writer: Writer) -> None:
        """Append the count and the values, each behind its size."""
        writer.u32(len(self._numbers))
        for data in self._numbers:
            writer.u32(len(data)).raw(data)


def encode_state(state: ChainState) -> bytes:
    """Return the bytes of a state with its ancestors, a digest over chain, format and content first."""
    content = _Encoder().encode(state)
    return _digest(state.spec, content) + content


def decode_state(spec: ChainSpec, data: bytes) -> ChainState:
    """Return the state of a chain; raises :class:`Invalid` ``bad-encoding`` where these are not its bytes any more."""
    content = data[HASH_BYTES:]
    if len(data) > MAX_STATE_BYTES or data[:HASH_BYTES] != _digest(spec, content):
        raise Invalid("bad-encoding", reason="a kept state with another digest")
    return _Decoder(spec, Reader(content)).decode()


def _digest(spec: ChainSpec, content: bytes) -> bytes:
    return tagged_hash("kept-state", STATE_FORMAT.to_bytes(4, "little"), spec.genesis_id, content)


class _Encoder:
    def __init__(self) -> None:
        self.models, self.records, self.families = Table(), Table(), Table()
        self.manifests, self.entries, self.coinbases, self.buckets = Table(), Table(), Table(), Table()

    def encode(self, state: ChainState) -> bytes:
        states = [self._state(each) for each in (*state.ancestors, state)]
        writer = Writer()
        for table in (self.models, self.records, self.families, self.manifests, self.entries):
            table.write(writer)
        for table in (self.coinbases, self.buckets):
            table.write(writer)
        writer.u32(len(states))
        return writer.raw(b"".join(states)).bytes()

    def _state(self, state: ChainState) -> bytes:
        writer = Writer().raw(state.head).u64(state.height).u64(state.timestamp).unsigned(state.weight, WEIGHT_BYTES)
        writer.u64(state.supply).u32(len(state.datasets))
        for dataset_id, entry in state.datasets.items():
            writer.raw(dataset_id).u32(self.entries.number(entry, self._entry))
        writer.u32(len(state.families))
        for family in state.families:
            writer.u32(self.families.number(family, self._family))
        for bucket in state.ledger.buckets:
            writer.u32(self.buckets.number(bucket, _bucket))
        writer.u32(len(state.coinbases))
        for coinbase in state.coinbases:
            writer.u32(self.coinbases.number(coinbase, _coinbase))
        writer.u32(len(state.included_stale))
        for height, block_id in state.included_stale:
            writer.u64(height).raw(block_id)
        return writer.bytes()

    def _entry(self, entry: DatasetState) -> bytes:
        writer = Writer().u32(self.manifests.number(entry.manifest, encode_manifest))
        _write_optional(writer, entry.uploader)
        _write_optional(
            writer, None if entry.min_family_acc_bp is None else entry.min_family_acc_bp.to_bytes(8, "little")
        )
        writer.u8(entry.status).u64(entry.added_height).u64(entry.since_height).u64(entry.window)
        writer.u64(entry.below_blocks).u64(entry.deposit).u64(entry.bounty).u64(entry.own_bounty)
        return writer.u64(entry.unfilled_blocks).u32(entry.record).bytes()

    def _family(self, family: FamilyState) -> bytes:
        writer = Writer().u32(family.family_id).raw(family.dataset_id).u32(len(family.founders))
        for record in (*family.founders, family.best, family.latest):
            writer.u32(self.records.number(record, self._record))
        writer.u32(family.generation).u32(family.model_count).i32(family.join_offset).i32(family.last_gain)
        writer.u32(family.waited_blocks)
        novelty = family.novelty
        _write_optional(writer, None if novelty is None else novelty.seen_zero.tobytes())
        _write_optional(writer, None if novelty is None else novelty.seen_one.tobytes())
        return writer.bytes()

    def _record(self, record: ModelRecord) -> bytes:
        writer = Writer().u32(self.models.number(record.model, encode_model)).raw(record.model_hash)
        writer.raw(record.block_id).u64(record.height).u32(record.generation).u32(record.correct)
        return writer.raw(record.miner).bytes()


class _Decoder:
    def __init__(self, spec: ChainSpec, reader: Reader) -> None:
        self._spec = spec
        self._reader = reader

    def decode(self) -> ChainState:
        self.models = self._table(lambda reader: decode_model(reader.raw(reader.remaining)))
        self.records = self._table(self._record)
        self.families = self._table(self._family)
        self.manifests = self._table(lambda reader: decode_manifest(reader.raw(reader.remaining)))
        self.entries = self._table(self._entry)
        self.coinbases = self._table(_read_coinbase)
        self.buckets = self._table(_read_bucket)
        states = [self._state(self._reader) for _ in range(self._reader.u32())]
        self._reader.finish()
        if not states:
            raise Invalid("bad-encoding", reason="a kept state without a state")
        return replace(states[-1], ancestors=tuple(states[:-1]))

    def _table(self, read: Callable[[Reader], Value]) -> list[Value]:
        values = []
        for _ in range(self._reader.u32()):
            reader = Reader(self._reader.raw(self._reader.u32()))
            values.append(read(reader))
            reader.finish()
        return values

    def _state(self, reader: Reader) -> ChainState:
        head, height, timestamp = BlockId(reader.raw(HASH_BYTES)), Height(reader.u64()), reader.u64()
        weight, supply = reader.unsigned(WEIGHT_BYTES), Amount(reader.u64())
        datasets = {DatasetId(reader.raw(HASH_BYTES)): _pick(reader, self.entries) for _ in range(reader.u32())}
        return ChainState(
            spec=self._spec,
            head=head,
            height=height,
            timestamp=timestamp,
            weight=weight,
            datasets=datasets,
            families=tuple(_pick(reader, self.families) for _ in range(reader.u32())),
            ledger=Ledger(tuple(_pick(reader, self.buckets) for _ in range(Ledger.BUCKETS))),
            coinbases=tuple(_pick(reader, self.coinbases) for _ in range(reader.u32())),
            supply=supply,
            included_stale=tuple((Height(reader.u64()), BlockId(reader.raw(HASH_BYTES))) for _ in range(reader.u32())),
        )

    def _entry(self, reader: Reader) -> DatasetState:
        manifest, uploader, accuracy = _pick(reader, self.manifests), _read_optional(reader), _read_optional(reader)
        return DatasetState(
            manifest=manifest,
            uploader=None if uploader is None else PublicKey(uploader),
            min_family_acc_bp=None if accuracy is None else int.from_bytes(accuracy, "little"),
            status=DatasetStatus(reader.u8()),
            added_height=Height(reader.u64()),
            since_height=Height(reader.u64()),
            window=reader.u64(),
            below_blocks=reader.u64(),
            deposit=Amount(reader.u64()),
            bounty=Amount(reader.u64()),
            own_bounty=Amount(reader.u64()),
            unfilled_blocks=reader.u64(),
            record=reader.u32(),
        )

    def _family(self, reader: Reader) -> FamilyState:
        family_id, dataset_id, count = reader.u32(), DatasetId(reader.raw(HASH_BYTES)), reader.u32()
        founders = tuple(_pick(reader, self.records) for _ in range(count))
        best, latest = _pick(reader, self.records), _pick(reader, self.records)
        return FamilyState(
            family_id=family_id,
            dataset_id=dataset_id,
            architecture=best.model.architecture,
            founders=founders,
            best=best,
            latest=latest,
            generation=reader.u32(),
            model_count=reader.u32(),
            join_offset=reader.i32(),
            last_gain=reader.i32(),
            waited_blocks=reader.u32(),
            novelty=_read_novelty(reader),
        )

    def _record(self, reader: Reader) -> ModelRecord:
        return ModelRecord(
            model=_pick(reader, self.models),
            model_hash=ModelHash(reader.raw(HASH_BYTES)),
            block_id=BlockId(reader.raw(HASH_BYTES)),
            height=Height(reader.u64()),
            generation=reader.u32(),
            correct=reader.u32(),
            miner=PublicKey(reader.raw(HASH_BYTES)),
        )


def _pick(reader: Reader, values: list[Value]) -> Value:
    number = reader.u32()
    if number >= len(values):
        raise Invalid("bad-encoding", reason="a kept state refers to nothing", number=number)
    return values[number]


def _write_optional(writer: Writer, data: bytes | None) -> None:
    writer.u8(data is not None)
    if data is not None:
        writer.u32(len(data)).raw(data)


def _read_optional(reader: Reader) -> bytes | None:
    return reader.raw(reader.u32()) if reader.u8() else None


def _read_novelty(reader: Reader) -> Novelty | None:
    seen_zero, seen_one = _read_optional(reader), _read_optional(reader)
    return None if seen_zero is None or seen_one is None else Novelty(_bits(seen_zero), _bits(seen_one))


def _bits(data: bytes) -> UInt8Array:
    return np.frombuffer(data, np.uint8)


def _coinbase(coinbase: Coinbase) -> bytes:
    writer = Writer().u64(coinbase.mature_height).raw(coinbase.owner).u64(coinbase.amount)
    _write_optional(writer, coinbase.block_id)
    return writer.bytes()


def _read_coinbase(reader: Reader) -> Coinbase:
    height, owner, amount = Height(reader.u64()), PublicKey(reader.raw(HASH_BYTES)), Amount(reader.u64())
    block_id = _read_optional(reader)
    return Coinbase(height, owner, amount, None if block_id is None else BlockId(block_id))


def _bucket(bucket: dict[PublicKey, Account]) -> bytes:
    writer = Writer().u32(len(bucket))
    for key, account in sorted(bucket.items()):
        writer.raw(key).u64(account.balance).u64(account.nonce)
    return writer.bytes()


def _read_bucket(reader: Reader) -> dict[PublicKey, Account]:
    return {PublicKey(reader.raw(HASH_BYTES)): Account(Amount(reader.u64()), reader.u64()) for _ in range(reader.u32())}
