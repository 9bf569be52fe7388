"""Bytes that are not the canonical encoding of a block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from builders import (
    CLASSES,
    Builder,
    family_shape,
    founder,
    transfer,
)
from uploads import upload

from bnnchain.bnn.bits import RICE_PARAMETER_BITS, BitWriter
from bnnchain.bnn.encoding import encode_model
from bnnchain.consensus.codec import (
    HEADER_BYTES,
    MAX_PROOF_BYTES,
    MAX_PROOF_HASHES,
    MAX_TRANSACTION_BYTES,
    encode_block,
    encode_transaction,
)
from bnnchain.consensus.params import MAX_BLOCK_BYTES
from bnnchain.wire import Writer
from refusals import FOUNDED, best_model, body, difference_tail, evolved, founding, refused


@refused("bad-encoding")
def nothing(builder: Builder) -> bytes:
    return b""


@refused("bad-encoding")
def truncated_header(builder: Builder) -> bytes:
    return encode_block(founding(builder))[: HEADER_BYTES - 1]


@refused("bad-encoding")
def truncated_body(builder: Builder) -> bytes:
    return encode_block(founding(builder))[:-1]


@refused("bad-encoding")
def trailing_byte(builder: Builder) -> bytes:
    return encode_block(founding(builder)) + b"\0"


@refused("bad-encoding")
def long_form_of_the_model_size(builder: Builder) -> bytes:
    raw = encode_block(builder.idle())
    assert raw[HEADER_BYTES:] == bytes(4)
    return raw[:HEADER_BYTES] + b"\x80" + bytes(4)


@refused("bad-encoding")
def long_form_of_the_transaction_count(builder: Builder) -> bytes:
    return encode_block(builder.idle())[:-1] + b"\x80\0"


@refused("bad-encoding")
def endless_varint(builder: Builder) -> bytes:
    return encode_block(builder.idle())[:HEADER_BYTES] + b"\xff" * 6


@refused("bad-encoding")
def model_size_past_the_limit(builder: Builder) -> bytes:
    return encode_block(builder.idle())[:HEADER_BYTES] + Writer().varint((1 << 20) + 1).bytes()


@refused("bad-encoding")
def transaction_count_past_the_limit(builder: Builder) -> bytes:
    return encode_block(builder.idle())[:-1] + Writer().varint(4_097).bytes()


@refused("bad-encoding")
def transaction_too_large(builder: Builder) -> bytes:
    data = encode_transaction(transfer()) + bytes(MAX_TRANSACTION_BYTES)
    return encode_block(builder.idle())[:-1] + Writer().varint(1).varint(len(data)).raw(data).bytes()


@refused("bad-encoding")
def transaction_with_a_trailing_byte(builder: Builder) -> bytes:
    data = encode_transaction(transfer()) + b"\0"
    return encode_block(builder.idle())[:-1] + Writer().varint(1).varint(len(data)).raw(data).bytes()


@refused("bad-encoding")
def founder_without_model(builder: Builder) -> bytes:
    return builder.tamper(founding(builder), model=b"")


@refused("bad-encoding")
def founder_with_padding_bits(builder: Builder) -> bytes:
    block = founding(builder)
    return builder.tamper(block, model=block.model[:-1] + bytes([block.model[-1] | 0x80]))


@refused("bad-encoding")
def founder_with_a_byte_more(builder: Builder) -> bytes:
    block = founding(builder)
    return builder.tamper(block, model=block.model + b"\0")


@refused("bad-encoding")
def founder_that_spells_out_zero_biases(builder: Builder) -> bytes:
    model = founder(family_shape(0), 0)
    biased = replace(model, biases=np.array([1, 0, 0, 0], np.int32))
    bits = np.unpackbits(np.frombuffer(encode_model(biased)[12:], np.uint8), bitorder="little")
    start = biased.architecture.weight_count + 8 * 6 + 1
    zero = np.unpackbits(np.frombuffer((1 << 20).to_bytes(4, "little"), np.uint8), bitorder="little")[:22]
    bits[start : start + 22] = zero
    data = encode_model(biased)[:12] + np.packbits(bits, bitorder="little").tobytes()
    return body(builder, founding(builder), model, data)


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_a_longer_code_for_its_gaps(builder: Builder) -> bytes:
    flips, zero = np.array([0, 0, 0, 3]), np.zeros(1, np.int64)
    writer = BitWriter().count(4).integers(zero + 1, RICE_PARAMETER_BITS).raw(np.array([1, 1, 1, 0, 1], np.bool_))
    writer.integers(flips & 1, 1).count(0).count(0)
    return builder.tamper(evolved(builder), model=writer.bytes())


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_a_trailing_byte(builder: Builder) -> bytes:
    block = evolved(builder)
    return builder.tamper(block, model=block.model + b"\0")


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_a_padding_bit(builder: Builder) -> bytes:
    return difference_tail(builder, BitWriter().count(0).count(0).raw(np.array([False, True])))


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_a_position_past_the_end(builder: Builder) -> bytes:
    data = BitWriter().count(2).rice(np.array([family_shape(0).weight_count - 1, 0])).count(0).count(0)
    return builder.tamper(evolved(builder), model=data.bytes())


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_more_flips_than_weights(builder: Builder) -> bytes:
    return builder.tamper(evolved(builder), model=BitWriter().count(321).rice(np.zeros(321, np.int64)).bytes())


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_more_flips_than_bits(builder: Builder) -> bytes:
    return builder.tamper(evolved(builder), model=BitWriter().count(300).rice(np.zeros(270, np.int64)).bytes())


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_a_threshold_past_the_end(builder: Builder) -> bytes:
    hidden = len(best_model(builder).thresholds[0])
    return difference_tail(builder, BitWriter().count(1).rice(np.array([hidden])).rice(np.array([0])).count(0))


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_a_bias_past_the_end(builder: Builder) -> bytes:
    return difference_tail(builder, BitWriter().count(0).count(1).rice(np.array([CLASSES])).rice(np.array([0])))


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_a_bias_of_more_than_32_bits(builder: Builder) -> bytes:
    return difference_tail(builder, BitWriter().count(0).count(1).rice(np.array([0])).rice(np.array([1 << 32])))


@refused("bad-encoding", blocks=FOUNDED)
def difference_with_more_biases_than_classes(builder: Builder) -> bytes:
    return difference_tail(builder, BitWriter().count(0).count(CLASSES + 1).rice(np.zeros(CLASSES + 1, np.int64)))


def tail(name: str, items: Writer, code: str = "bad-encoding") -> None:
    """Register an IDLE block with other bytes after its empty model: proofs, stale header, transactions."""

    def make(builder: Builder) -> bytes:
        return encode_block(builder.idle())[:HEADER_BYTES] + b"\0" + items.bytes()

    make.__name__ = name
    refused(code)(make)


def proof_bytes(leaf_size: int, hashes: int) -> bytes:
    return Writer().raw(bytes(32)).u16(leaf_size).raw(bytes(leaf_size)).u8(hashes).raw(bytes(32 * hashes)).bytes()


def one(data: bytes) -> Writer:
    return Writer().varint(1).varint(len(data)).raw(data)


UPLOAD_HEAD = encode_transaction(upload())[: 1 + 1 + 4 + 32 + 8 + 8 + 8]
tail("proof_count_past_the_limit", Writer().varint(129))
tail("proof_larger_than_any", one(bytes(MAX_PROOF_BYTES + 1)))
tail("proof_with_a_leaf_too_large", one(proof_bytes(1_025, 0)))
tail("proof_with_a_path_too_long", one(proof_bytes(8, MAX_PROOF_HASHES + 1)))
tail("proof_with_a_trailing_byte", one(proof_bytes(8, 1) + b"\0"))
tail("two_stale_headers", Writer().varint(0).varint(2))
tail("stale_header_cut_short", Writer().varint(0).varint(1).varint(99).raw(bytes(99)).varint(0))
tail("stale_header_too_long", Writer().varint(0).varint(1).varint(HEADER_BYTES + 1).raw(bytes(HEADER_BYTES + 1)))
tail("stale_header_of_no_kind", Writer().varint(0).raw(one(bytes(HEADER_BYTES)).bytes()).varint(0), "bad-kind")


def uploaded(name: str, manifest_size: int, code: str) -> None:
    """Register a block with an upload whose manifest is zeros."""
    body = Writer().varint(manifest_size).raw(bytes(manifest_size)).raw(bytes(8 + 8 + 64))
    tail(name, Writer().raw(bytes(2)).raw(one(UPLOAD_HEAD + body.bytes()).bytes()), code)


uploaded("manifest_too_large", 641, "bad-encoding")
uploaded("manifest_cut_short", 85, "bad-encoding")
uploaded("manifest_of_nothing", 86, "bad-manifest")


@refused("bad-block-size")
def larger_than_any_chain_allows(builder: Builder) -> bytes:
    return encode_block(founding(builder)).ljust(MAX_BLOCK_BYTES + 1, b"\0")


@refused("bad-block-size", max_block_bytes=HEADER_BYTES + 1)
def larger_than_this_chain_allows(builder: Builder) -> bytes:
    return encode_block(builder.idle())


@refused("bad-kind")
def unknown_kind(builder: Builder) -> bytes:
    raw = bytearray(encode_block(builder.idle()))
    raw[2 + 4 + 8 + 32 + 8 + 32 + 32 + 32] = 4
    return bytes(raw)


@refused("bad-kind", is_idle_allowed=0)
def idle_where_forbidden(builder: Builder) -> bytes:
    return encode_block(builder.idle())
