"""Headers, transactions and blocks as bytes; fixed order, little-endian, one spelling for each thing.

PROTOCOL.md, section "Encoding".  Decoders raise :class:`Invalid` ``bad-encoding`` and look at no state; limits are
checked before anything is allocated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import MAX_WIRE_BYTES
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.params import MAX_BLOCK_BYTES, MAX_OBJECTS
from bnnchain.consensus.signatures import KEY_BYTES, SIGNATURE_BYTES
from bnnchain.consensus.types import (
    Amount,
    AvailabilityProof,
    Block,
    BlockId,
    BlockKind,
    Bounty,
    DatasetId,
    Equivocation,
    Header,
    Height,
    ModelHash,
    PublicKey,
    ShapeHash,
    Signature,
    Transaction,
    TransactionKind,
    Transfer,
    Upload,
)
from bnnchain.datasets.chunks import LEAF_BYTES, MAX_PAYLOAD_BYTES
from bnnchain.datasets.manifest import MAX_MANIFEST_BYTES, decode_manifest, encode_manifest
from bnnchain.wire import HASH_BYTES, Reader, Writer

if TYPE_CHECKING:
    from bnnchain.consensus.types import TransactionBody

CORE_BYTES = 335
HEADER_BYTES = CORE_BYTES + 8 + HASH_BYTES + SIGNATURE_BYTES
"""439: every header has this size."""
MAX_TRANSACTION_BYTES = 4_096
MAX_BLOCK_TRANSACTIONS = 4_096
"""What the codec can carry; ``Params.max_block_transactions`` is what a chain allows."""
MAX_BLOCK_PROOFS = 2 * MAX_OBJECTS
"""One for each data set that a state can hold."""
MAX_PROOF_HASHES = (MAX_PAYLOAD_BYTES // LEAF_BYTES - 1).bit_length()
MAX_PROOF_BYTES = HASH_BYTES + 2 + LEAF_BYTES + 1 + MAX_PROOF_HASHES * HASH_BYTES


def encode_core(header: Header) -> bytes:
    """Return the header without nonce, y and signature: what a lottery ticket is bound to."""
    writer = Writer().u16(header.version).u32(header.chain_id).u64(header.height).raw(header.previous_hash)
    writer.u64(header.timestamp).raw(header.miner).raw(header.body_root).raw(header.params_hash)
    writer.u8(header.kind).raw(header.dataset_id).u32(header.family_id).u32(header.generation)
    writer.u32(header.model_count).raw(header.previous_model_hash).raw(header.shape_hash).raw(header.model_hash)
    writer.u32(header.correct_new).u32(header.correct_parent).u32(header.eval_total).u256(header.target)
    return writer.bytes()


def encode_unsigned(header: Header) -> bytes:
    """Return the header without its signature: what the id and the signature cover."""
    return encode_core(header) + Writer().u64(header.nonce).raw(header.y).bytes()


def encode_header(header: Header) -> bytes:
    """Return the header's 439 bytes."""
    return encode_unsigned(header) + header.signature


def decode_header(data: bytes) -> Header:
    """Return the header of exactly ``HEADER_BYTES`` bytes."""
    reader = Reader(data)
    header = _read_header(reader)
    reader.finish()
    return header


def encode_transaction(transaction: Transaction) -> bytes:
    """Return a transaction's bytes, signature last."""
    return encode_unsigned_transaction(transaction) + transaction.signature


def encode_unsigned_transaction(transaction: Transaction) -> bytes:
    """Return a transaction without its signature: what its id and signature cover."""
    kind, body = _encode_body(transaction.body)
    writer = Writer().u8(transaction.version).u8(kind).u32(transaction.chain_id)
    writer.raw(transaction.sender).u64(transaction.nonce).u64(transaction.fee).u64(transaction.expiry_height)
    return writer.raw(body).bytes()


def decode_transaction(data: bytes) -> Transaction:
    """Return the transaction of ``data``; an unknown kind is :class:`Invalid` ``bad-tx-kind``."""
    if len(data) > MAX_TRANSACTION_BYTES:
        raise Invalid("bad-encoding", reason="transaction too large", size=len(data))
    reader = Reader(data)
    version, kind, chain_id = reader.u8(), reader.u8(), reader.u32()
    if kind not in TransactionKind.__members__.values():
        raise Invalid("bad-tx-kind", kind=kind)
    sender, nonce, fee, expiry = reader.raw(KEY_BYTES), reader.u64(), reader.u64(), reader.u64()
    body = _read_body(TransactionKind(kind), reader)
    signature = Signature(reader.raw(SIGNATURE_BYTES))
    reader.finish()
    return Transaction(version, chain_id, PublicKey(sender), nonce, Amount(fee), Height(expiry), body, signature)


def encode_proof(proof: AvailabilityProof) -> bytes:
    """Return a proof's bytes: data set, u16 size and leaf, u8 count and path."""
    writer = Writer().raw(proof.dataset_id).u16(len(proof.leaf)).raw(proof.leaf).u8(len(proof.path))
    return writer.raw(b"".join(proof.path)).bytes()


def decode_proof(data: bytes) -> AvailabilityProof:
    """Return the proof of ``data``; whether it proves anything is another question."""
    reader = Reader(data)
    dataset_id, size = DatasetId(reader.raw(HASH_BYTES)), reader.u16()
    if size > LEAF_BYTES:
        raise Invalid("bad-encoding", reason="leaf too large", size=size)
    leaf, count = reader.raw(size), reader.u8()
    if count > MAX_PROOF_HASHES:
        raise Invalid("bad-encoding", reason="path too long", hashes=count)
    path = tuple(reader.raw(HASH_BYTES) for _ in range(count))
    reader.finish()
    return AvailabilityProof(dataset_id, leaf, path)


def encode_block(block: Block) -> bytes:
    """Return a block's bytes: header, model, availability proofs, stale header, transactions.

    Model, proofs and transactions stand behind their varint sizes, proofs and transactions behind their varint count.
    """
    writer = Writer().raw(encode_header(block.header)).varint(len(block.model)).raw(block.model)
    _write_list(writer, [encode_proof(proof) for proof in block.proofs])
    _write_list(writer, [] if block.stale is None else [encode_header(block.stale)])
    _write_list(writer, [encode_transaction(transaction) for transaction in block.transactions])
    return writer.bytes()


def decode_block(data: bytes) -> Block:
    """Return the block of ``data``; raises ``bad-block-size`` or ``bad-encoding`` before it allocates much."""
    if len(data) > MAX_BLOCK_BYTES:
        raise Invalid("bad-block-size", size=len(data), limit=MAX_BLOCK_BYTES)
    reader = Reader(data)
    header = _read_header(reader)
    model_size = reader.varint()
    if model_size > MAX_WIRE_BYTES:
        raise Invalid("bad-encoding", reason="model too large", size=model_size)
    model = reader.raw(model_size)
    proofs = tuple(decode_proof(item) for item in _read_list(reader, MAX_BLOCK_PROOFS, MAX_PROOF_BYTES))
    stale = [decode_header(item) for item in _read_list(reader, 1, HEADER_BYTES)]
    items = _read_list(reader, MAX_BLOCK_TRANSACTIONS, MAX_TRANSACTION_BYTES)
    transactions = tuple(decode_transaction(item) for item in items)
    reader.finish()
    return Block(header, model, transactions, proofs, stale[0] if stale else None)


def _write_list(writer: Writer, items: list[bytes]) -> None:
    writer.varint(len(items))
    for item in items:
        writer.varint(len(item)).raw(item)


def _read_list(reader: Reader, max_items: int, max_item_bytes: int) -> list[bytes]:
    count, items = reader.varint(), []
    if count > max_items:
        raise Invalid("bad-encoding", reason="list too long", count=count, limit=max_items)
    for _ in range(count):
        size = reader.varint()
        if size > max_item_bytes:
            raise Invalid("bad-encoding", reason="item too large", size=size, limit=max_item_bytes)
        items.append(reader.raw(size))
    return items


def _encode_body(body: TransactionBody) -> tuple[TransactionKind, bytes]:
    if isinstance(body, Transfer):
        return TransactionKind.TRANSFER, Writer().raw(body.recipient).u64(body.amount).bytes()
    if isinstance(body, Bounty):
        return TransactionKind.BOUNTY, Writer().raw(body.dataset_id).u64(body.amount).bytes()
    if isinstance(body, Equivocation):
        return TransactionKind.EQUIVOCATION, encode_header(body.first) + encode_header(body.second)
    manifest = encode_manifest(body.manifest)
    writer = Writer().varint(len(manifest)).raw(manifest).u64(body.min_family_acc_bp).u64(body.bounty)
    return TransactionKind.UPLOAD, writer.bytes()


def _read_body(kind: TransactionKind, reader: Reader) -> TransactionBody:
    if kind == TransactionKind.TRANSFER:
        return Transfer(PublicKey(reader.raw(KEY_BYTES)), Amount(reader.u64()))
    if kind == TransactionKind.BOUNTY:
        return Bounty(DatasetId(reader.raw(HASH_BYTES)), Amount(reader.u64()))
    if kind == TransactionKind.EQUIVOCATION:
        return Equivocation(_read_header(reader), _read_header(reader))
    size = reader.varint()
    if size > MAX_MANIFEST_BYTES:
        raise Invalid("bad-encoding", reason="manifest too large", size=size)
    return Upload(decode_manifest(reader.raw(size)), reader.u64(), Amount(reader.u64()))


def _read_header(reader: Reader) -> Header:
    version, chain_id, height = reader.u16(), reader.u32(), Height(reader.u64())
    previous_hash, timestamp = BlockId(reader.raw(HASH_BYTES)), reader.u64()
    miner, body_root, params_hash = PublicKey(reader.raw(KEY_BYTES)), reader.raw(HASH_BYTES), reader.raw(HASH_BYTES)
    kind = reader.u8()
    if kind not in BlockKind.__members__.values():
        raise Invalid("bad-kind", kind=kind)
    return Header(
        version=version,
        chain_id=chain_id,
        height=height,
        previous_hash=previous_hash,
        timestamp=timestamp,
        miner=miner,
        body_root=body_root,
        params_hash=params_hash,
        kind=BlockKind(kind),
        dataset_id=DatasetId(reader.raw(HASH_BYTES)),
        family_id=reader.u32(),
        generation=reader.u32(),
        model_count=reader.u32(),
        previous_model_hash=BlockId(reader.raw(HASH_BYTES)),
        shape_hash=ShapeHash(reader.raw(HASH_BYTES)),
        model_hash=ModelHash(reader.raw(HASH_BYTES)),
        correct_new=reader.u32(),
        correct_parent=reader.u32(),
        eval_total=reader.u32(),
        target=reader.u256(),
        nonce=reader.u64(),
        y=reader.raw(HASH_BYTES),
        signature=Signature(reader.raw(SIGNATURE_BYTES)),
    )
