"""Everything that hashes cover: what a decoder accepts it has one spelling for."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from builders import Builder, family_shape, make_spec, transfer
from fuzz.target import Target, canonical, refusals
from learnable import OWN, payload_tree, random_model, uploaded_dataset
from uploads import evidence, order, upload

from bnnchain.bnn.encoding import (
    apply_difference,
    apply_flips,
    decode_model,
    encode_difference,
    encode_model,
    model_hash,
)
from bnnchain.bnn.notation import format_architecture, parse_architecture
from bnnchain.consensus.codec import (
    decode_block,
    decode_header,
    decode_proof,
    decode_transaction,
    encode_block,
    encode_header,
    encode_proof,
    encode_transaction,
)
from bnnchain.consensus.header import block_id
from bnnchain.consensus.spec import decode_spec, encode_spec
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import Amount, Bounty, DatasetId
from bnnchain.datasets.chunks import ChunkAssembler, ChunkTree, decode_chunk, encode_chunk, validate_chunk
from bnnchain.datasets.manifest import decode_manifest, encode_manifest
from bnnchain.datasets.payload import decode_payload, encode_payload
from bnnchain.mining.larq.messages import (
    MAX_CHECKPOINT_BYTES,
    Checkpoint,
    Request,
    decode_checkpoint,
    decode_request,
    encode_checkpoint,
    encode_request,
)
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Model, build_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.consensus.types import Block, Transaction

LARGE = b"large"
_ENCODING = ("bad-encoding", "bad-kind")
_MODEL = ("bad-encoding", "bad-architecture", "bad-model")
_TRANSACTION = ("bad-encoding", "bad-tx-kind", "bad-kind", "bad-manifest")


@lru_cache
def blocks() -> tuple[Block, ...]:
    """Founders, an evolved block, an idle one with all kinds of transactions, proofs and a stale header."""
    builder = Builder(genesis_state(make_spec(availability_window=9)))
    made = [decode_block(builder.take(builder.next())) for _ in range(3)]
    made.append(decode_block(builder.take(builder.idle(transactions=[upload(), transfer(nonce=1)]))))
    twins = builder.idle(), builder.idle(timestamp=builder.state.timestamp + 2)
    wanted = [evidence(twins[0].header, twins[1].header), Bounty(DatasetId(OWN), Amount(500))]
    orders = [order(body, nonce=number + 2) for number, body in enumerate(wanted)]
    made.append(builder.idle(transactions=orders, proofs=builder.proofs(0), stale=made[-1].header))
    return tuple(made)


def transactions() -> Sequence[Transaction]:
    return [transaction for block in blocks() for transaction in block.transactions]


@lru_cache
def models() -> tuple[Model, ...]:
    """Models of small shapes: dense, convolving, with biases, without hidden layers."""
    shape = Architecture(3, 4, 2, (Dense(5), Dense(3)))
    rng = np.random.default_rng(4)
    weights = [rng.random((layer.out_channels, layer.fan_in)) < 0.5 for layer in shape.geometry]
    biased = build_model(shape, weights, [np.arange(5, dtype=np.int32)], np.array([-9, 0, 1 << 20], np.int32))
    plain = random_model(Architecture(2, 2, 1, (Dense(2),)), 1)
    return (
        biased,
        plain,
        random_model(family_shape(0), 2),
        random_model(Architecture(6, 6, 1, (Conv3x3(2), Dense(4))), 3),
    )


def run_block(data: bytes) -> None:
    with refusals("bad-block-size", *_TRANSACTION):
        block = decode_block(data)
        assert encode_block(block) == data
        assert block_id(block.header) == block_id(decode_header(data[: len(encode_header(block.header))]))
        assert len({transaction_id(each) for each in block.transactions}) <= len(block.transactions)


def run_model(data: bytes) -> None:
    with refusals(*_MODEL):
        model = decode_model(data)
        assert encode_model(model) == data
        assert model_hash(decode_model(data)) == model_hash(model)
        assert parse_architecture(format_architecture(model.architecture)) == model.architecture


def run_difference(data: bytes) -> None:
    """The first byte chooses the parent."""
    parent = models()[data[0] % len(models())] if data else models()[0]
    with refusals(*_MODEL):
        child = apply_difference(parent, data[1:])
        assert encode_difference(parent, child) == data[1:]
        assert model_hash(decode_model(encode_model(child))) == model_hash(child)


@lru_cache
def _tree() -> ChunkTree:
    return ChunkTree(np.random.default_rng(1).bytes((3 << 16) + 999))


def run_chunk(data: bytes) -> None:
    """The first byte chooses the payload; whatever the assembler takes is the payload's own."""
    tree = _tree() if data[:1] == LARGE[:1] else payload_tree(OWN)
    size = sum(len(chunk.data) for chunk in tree)
    with refusals("bad-encoding", "bad-chunk"):
        chunk = decode_chunk(data[1:])
        assert encode_chunk(chunk) == data[1:]
        validate_chunk(chunk, tree.root, size)
        assert chunk == tree.chunk(chunk.index)
        assembler = ChunkAssembler(tree.root, size)
        assert assembler.add(chunk)
        assert not assembler.add(chunk)


def run_payload(data: bytes) -> None:
    manifest = uploaded_dataset().manifest
    with refusals("bad-samples"):
        assert encode_payload(decode_payload(manifest, data)) == data


def chunk_seeds() -> Sequence[bytes]:
    return [b"o" + encode_chunk(payload_tree(OWN).chunk(0)), LARGE[:1] + encode_chunk(_tree().chunk(3))]


def difference_seeds() -> Sequence[bytes]:
    made = []
    for number, parent in enumerate(models()):
        flips = np.arange(0, parent.architecture.weight_count, 3, dtype=np.int64)
        child = apply_flips(parent, flips)
        biases = child.biases - np.arange(len(child.biases), dtype=np.int32)
        thresholds = tuple(np.clip(limits + 1, 0, None).astype(np.int32) for limits in child.thresholds)
        moved = Model(parent.architecture, child.weights, tuple(parent.thresholds), biases)
        made += [bytes([number]) + encode_difference(parent, each) for each in (parent, child, moved)]
        if thresholds and number > 1:
            raised = Model(parent.architecture, parent.weights, thresholds, parent.biases)
            made.append(bytes([number]) + encode_difference(parent, raised))
    return made


def request_seeds() -> Sequence[bytes]:
    pool = uploaded_dataset().pool.take(np.arange(5))
    return [encode_request(Request(family_shape(1), pool, 7, 3, 2))]


def run_request(data: bytes) -> None:
    with refusals(*_MODEL, "bad-samples"):
        assert encode_request(decode_request(data)) == data


def run_checkpoint(data: bytes) -> None:
    with refusals(*_MODEL):
        checkpoint = decode_checkpoint(data[:MAX_CHECKPOINT_BYTES])
        again = encode_checkpoint(checkpoint)
        assert again[:16] + again[24:] == data[:16] + data[24:]  # a loss that is no number has many spellings


def checkpoint_seeds() -> Sequence[bytes]:
    return [encode_checkpoint(Checkpoint(5, 3, 0.5, model)) for model in models()[:2]]


TARGETS = [
    Target(
        "header",
        canonical(decode_header, encode_header, *_ENCODING),
        lambda: [encode_header(block.header) for block in blocks()],
        max_size_bytes=512,
        share=3,
    ),
    Target(
        "transaction",
        canonical(decode_transaction, encode_transaction, *_TRANSACTION),
        lambda: [encode_transaction(each) for each in transactions()],
        max_size_bytes=2_048,
        share=2,
    ),
    Target(
        "proof",
        canonical(decode_proof, encode_proof, "bad-encoding"),
        lambda: [encode_proof(proof) for block in blocks() for proof in block.proofs],
        max_size_bytes=2_048,
    ),
    Target("block", run_block, lambda: [encode_block(block) for block in blocks()], max_size_bytes=8_192, share=3),
    Target("model", run_model, lambda: [encode_model(model) for model in models()], max_size_bytes=1_024, share=2),
    Target("difference", run_difference, difference_seeds, max_size_bytes=256, share=2),
    Target(
        "manifest",
        canonical(decode_manifest, encode_manifest, "bad-encoding", "bad-manifest"),
        lambda: [encode_manifest(uploaded_dataset(number).manifest) for number in range(2)],
        max_size_bytes=700,
        share=2,
    ),
    Target("chunk", run_chunk, chunk_seeds, max_size_bytes=70_000),
    Target("payload", run_payload, lambda: [encode_payload(uploaded_dataset().pool.take(np.arange(4)))]),
    Target(
        "spec",
        canonical(decode_spec, encode_spec, "bad-spec", "bad-params", *_MODEL, "bad-manifest"),
        lambda: [encode_spec(make_spec()), encode_spec(make_spec((50, make_spec(n_eval=9).params_at(0))))],
        max_size_bytes=2_048,
        share=2,
    ),
    Target("larq-request", run_request, request_seeds, max_size_bytes=512),
    Target("larq-checkpoint", run_checkpoint, checkpoint_seeds, max_size_bytes=512),
]
