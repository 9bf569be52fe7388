"""Headers, transactions and blocks as bytes; fixed order, little-endian, one spelling for each thing.

PROTOCOL.md, section "Encoding".  Decoders raise :class:`Invalid` ``bad-encoding`` and look at no state; limits are
checked before anything is allocated.
"""

from __future__ import annotations

from bnnchain.bnn.encoding import MAX_WIRE_BYTES
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.params import MAX_BLOCK_BYTES
from bnnchain.consensus.signatures import KEY_BYTES, SIGNATURE_BYTES
from bnnchain.consensus.types import (
    Amount,
    Block,
    BlockId,
    BlockKind,
    DatasetId,
    Header,
    Height,
    ModelHash,
    PublicKey,
    ShapeHash,
    Signature,
    Transaction,
    TransactionKind,
    Transfer,
)
from bnnchain.wire import HASH_BYTES, Reader, Writer

CORE_BYTES = 335
HEADER_BYTES = CORE_BYTES + 8 + HASH_BYTES + SIGNATURE_BYTES
"""439: every header has this size."""
MAX_TRANSACTION_BYTES = 4_096
MAX_BLOCK_TRANSACTIONS = 4_096
"""What the codec can carry; ``Params.max_block_transactions`` is what a chain allows."""


def encode_core(header: Header) -> bytes:
    """Return the header without nonce, y and signature: what a lottery ticket is bound to."""
    writer = Writer().u16(header.version).u32(header.chain_id).u64(header.height).raw(header.previous_hash)
    writer.u64(header.timestamp).raw(header.miner).raw(header.tx_root).raw(header.params_hash)
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
    writer = Writer().u8(transaction.version).u8(transaction.kind).u32(transaction.chain_id)
    writer.raw(transaction.sender).u64(transaction.nonce).u64(transaction.fee).u64(transaction.expiry_height)
    return writer.raw(transaction.body.recipient).u64(transaction.body.amount).bytes()


def decode_transaction(data: bytes) -> Transaction:
    """Return the transaction of ``data``; an unknown kind is :class:`Invalid` ``bad-tx-kind``."""
    if len(data) > MAX_TRANSACTION_BYTES:
        raise Invalid("bad-encoding", reason="transaction too large", size=len(data))
    reader = Reader(data)
    version, kind, chain_id = reader.u8(), reader.u8(), reader.u32()
    if kind not in TransactionKind.__members__.values():
        raise Invalid("bad-tx-kind", kind=kind)
    sender, nonce, fee, expiry = reader.raw(KEY_BYTES), reader.u64(), reader.u64(), reader.u64()
    body = Transfer(PublicKey(reader.raw(KEY_BYTES)), Amount(reader.u64()))
    signature = Signature(reader.raw(SIGNATURE_BYTES))
    reader.finish()
    return Transaction(
        version, TransactionKind(kind), chain_id, PublicKey(sender), nonce, Amount(fee), Height(expiry), body, signature
    )


def encode_block(block: Block) -> bytes:
    """Return a block's bytes: header, varint model size, model, varint count, each transaction with its size."""
    writer = Writer().raw(encode_header(block.header)).varint(len(block.model)).raw(block.model)
    writer.varint(len(block.transactions))
    for transaction in block.transactions:
        data = encode_transaction(transaction)
        writer.varint(len(data)).raw(data)
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
    count = reader.varint()
    if count > MAX_BLOCK_TRANSACTIONS:
        raise Invalid("bad-encoding", reason="too many transactions", count=count)
    transactions = tuple(decode_transaction(reader.raw(reader.varint())) for _ in range(count))
    reader.finish()
    return Block(header, model, transactions)


def _read_header(reader: Reader) -> Header:
    version, chain_id, height = reader.u16(), reader.u32(), Height(reader.u64())
    previous_hash, timestamp = BlockId(reader.raw(HASH_BYTES)), reader.u64()
    miner, tx_root, params_hash = PublicKey(reader.raw(KEY_BYTES)), reader.raw(HASH_BYTES), reader.raw(HASH_BYTES)
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
        tx_root=tx_root,
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
