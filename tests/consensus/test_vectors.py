"""Every output in ``tests/vectors`` derived again from its inputs; ``make_vectors.py`` wrote them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import GENESIS_TIME, made_up_state, outcome

from bnnchain.bnn.encoding import (
    apply_difference,
    apply_flips,
    canonical_bytes,
    decode_model,
    encode_architecture,
    encode_difference,
    encode_model,
    flip_positions,
    model_hash,
    read_architecture,
    shape_hash,
)
from bnnchain.bnn.zoo import ZOO
from bnnchain.chain.validator import Validator
from bnnchain.consensus import lottery
from bnnchain.consensus.booking import earned_bounty, split_bounty
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
from bnnchain.consensus.difficulty import asert, block_weight
from bnnchain.consensus.election import election_order, join_offset
from bnnchain.consensus.errors import CODES
from bnnchain.consensus.header import block_id, core_hash
from bnnchain.consensus.lineage import new_family, novel_flip_count, novelty_of, with_child
from bnnchain.consensus.params import PRESETS, encode_params, params_hash, read_params
from bnnchain.consensus.registry import leaf_count, leaf_index
from bnnchain.consensus.signatures import is_valid
from bnnchain.consensus.spec import decode_spec, encode_spec
from bnnchain.consensus.state import ChainState, ModelRecord, genesis_state, own_dataset
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import BlockId, DatasetId, Height, ModelHash, PublicKey, Signature
from bnnchain.datasets.dataset import dataset_from_payloads
from bnnchain.datasets.manifest import Manifest, decode_manifest
from bnnchain.wire import Reader, Writer, merkle_path, merkle_root, tagged_hash, verify_merkle_path
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.reference import ReferenceEvaluator

VECTORS = Path(__file__).parents[1] / "vectors"
ENCODING = json.loads((VECTORS / "encoding.json").read_text())
CONSENSUS = json.loads((VECTORS / "consensus.json").read_text())
NOW = GENESIS_TIME + 10**6


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def named(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=[vector.get("name", "") for vector in vectors])


@named(ENCODING["tagged_hashes"])
def test_tagged_hashes(vector: dict[str, Any]) -> None:
    assert tagged_hash(vector["tag"], *map(raw, vector["parts"])).hex() == vector["hash"]


@named(ENCODING["varints"])
def test_varints(vector: dict[str, Any]) -> None:
    assert Writer().varint(vector["value"]).bytes().hex() == vector["bytes"]
    assert Reader(raw(vector["bytes"])).varint() == vector["value"]


@pytest.mark.parametrize("data", ENCODING["bad_varints"])
def test_bad_varints(data: str) -> None:
    assert outcome(Reader(raw(data)).varint) == "bad-encoding"


@named(ENCODING["merkle"])
def test_merkle_trees(vector: dict[str, Any]) -> None:
    leaves = [raw(leaf) for leaf in vector["leaves"]]
    assert merkle_root(leaves).hex() == vector["root"]
    for index, path in enumerate(vector["paths"]):
        assert [node.hex() for node in merkle_path(leaves, index)] == path


@named(ENCODING["architectures"])
def test_architectures(vector: dict[str, Any]) -> None:
    shape = read_architecture(Reader(raw(vector["bytes"])))
    assert encode_architecture(shape).hex() == vector["bytes"]
    assert shape_hash(shape).hex() == vector["hash"]
    assert ZOO.get(vector["name"], shape) == shape


@named(ENCODING["models"])
def test_models(vector: dict[str, Any]) -> None:
    model = decode_model(raw(vector["wire"]))
    assert encode_model(model).hex() == vector["wire"]
    assert canonical_bytes(model).hex() == vector["canonical"]
    assert model_hash(model).hex() == vector["hash"]


@named(ENCODING["differences"])
def test_differences(vector: dict[str, Any]) -> None:
    parent, child = decode_model(raw(vector["parent"])), decode_model(raw(vector["child"]))
    assert encode_difference(parent, child).hex() == vector["difference"]
    assert flip_positions(parent, child).tolist() == vector["flips"]
    assert model_hash(apply_difference(parent, raw(vector["difference"]))).hex() == vector["child_hash"]
    for name, data in vector["bad"].items():
        assert outcome(lambda data=data: apply_difference(parent, raw(data))) == "bad-encoding", name


def test_the_header() -> None:
    vector = ENCODING["header"]
    header = decode_header(raw(vector["bytes"]))
    for name, value in vector["fields"].items():
        held = getattr(header, name)
        assert (held.hex() if isinstance(held, bytes) else held) == value, name
    assert encode_header(header).hex() == vector["bytes"]
    assert block_id(header).hex() == vector["id"]
    assert core_hash(header).hex() == vector["core"]


def test_the_transaction() -> None:
    vector = ENCODING["transaction"]
    transaction = decode_transaction(raw(vector["bytes"]))
    assert transaction_id(transaction).hex() == vector["id"]
    assert transaction.sender.hex() == vector["fields"]["sender"]
    assert transaction.body.recipient.hex() == vector["fields"]["body"]["recipient"]
    assert (transaction.nonce, transaction.fee, transaction.body.amount) == (3, 9, 1 << 40)


@named(ENCODING["transactions"])
def test_transactions_of_each_kind(vector: dict[str, Any]) -> None:
    transaction = decode_transaction(raw(vector["bytes"]))
    assert encode_transaction(transaction).hex() == vector["bytes"]
    assert transaction_id(transaction).hex() == vector["id"]
    assert type(transaction.body).__name__.lower() == vector["name"]


@named(ENCODING["params"])
def test_presets(vector: dict[str, Any]) -> None:
    params = read_params(Reader(raw(vector["bytes"])))
    assert params == PRESETS[vector["name"]]
    assert params_hash(params).hex() == vector["hash"]
    assert encode_params(params).hex() == vector["bytes"]


@named(CONSENSUS["signatures"])
def test_signatures(vector: dict[str, Any]) -> None:
    key, signature = PublicKey(raw(vector["key"])), Signature(raw(vector["signature"]))
    assert is_valid(key, raw(vector["message"]), signature) is vector["is_valid"]


@named(CONSENSUS["election"])
def test_elections(vector: dict[str, Any]) -> None:
    params = read_params(Reader(raw(vector["params"])))
    state = made_up_state(vector["families"], vector["height"])
    assert [[place.kind, place.family_id] for place in election_order(state, params)] == vector["order"]
    assert join_offset(state, params) == vector["join_offset"]


@named(CONSENSUS["lottery"])
def test_tickets(vector: dict[str, Any]) -> None:
    seed = lottery.ticket_seed(raw(vector["core"]), vector["nonce"])
    assert seed.hex() == vector["seed"]
    shape = read_architecture(Reader(raw(vector["shape"])))
    assert lottery.mutant_flips(shape, seed, vector["ticket_flips"]) == vector["flips"]
    drawn = lottery.sample_indices(
        BlockId(raw(vector["previous_hash"])),
        DatasetId(raw(vector["dataset_id"])),
        vector["pool_size"],
        vector["n_eval"],
    )
    assert drawn.tolist() == vector["samples"]
    logits = np.array(vector["logits"], np.int32).reshape(3, 4)
    assert lottery.lottery_value(seed, logits).hex() == vector["y"]


@named(CONSENSUS["novelty"])
def test_novelty(vector: dict[str, Any]) -> None:
    parent = decode_model(raw(vector["parent"]))
    record = ModelRecord(parent, ModelHash(b""), BlockId(b""), Height(1), 0, 0, PublicKey(b""))
    family = new_family(0, DatasetId(b""), record, 0)
    for child in vector["children"]:
        flips = np.array(child["flips"], np.int64)
        assert novel_flip_count(family, flips) == child["novel"]
        model = apply_flips(family.best.model, flips)
        assert model_hash(model).hex() == child["child"]
        family = with_child(family, replace(record, model=model))
        seen = novelty_of(family)
        assert int(np.unpackbits(seen.seen_zero & seen.seen_one).sum()) == child["both_values"]


def manifest_of(dataset_id: str) -> Manifest:
    manifests = [decode_manifest(raw(dataset["manifest"])) for dataset in CONSENSUS["datasets"]]
    return next(manifest for manifest in manifests if manifest.dataset_id.hex() == dataset_id)


@named(CONSENSUS["availability"])
def test_availability(vector: dict[str, Any]) -> None:
    manifest, previous, miner = manifest_of(vector["dataset_id"]), raw(vector["previous_hash"]), raw(vector["miner"])
    assert leaf_count(manifest) == vector["leaves"]
    assert leaf_index(BlockId(previous), PublicKey(miner), manifest) == vector["index"]
    proof = decode_proof(raw(vector["proof"]))
    assert proof.dataset_id.hex() == vector["dataset_id"]
    assert encode_proof(proof).hex() == vector["proof"]
    assert verify_merkle_path(manifest.pool_root, proof.leaf, vector["index"], vector["leaves"], proof.path)


@named(CONSENSUS["bounties"])
def test_bounties(vector: dict[str, Any]) -> None:
    spec = decode_spec(raw(CONSENSUS["chains"][0]["spec"]))
    assert spec.dataset.pool_size == vector["pool"]
    entry = replace(own_dataset(spec.dataset), bounty=vector["pot"], record=vector["record"])
    paid = earned_bounty(entry, vector["correct"])
    shares = split_bounty(paid, has_parent=vector["has_parent"], params=spec.params_at(0))
    assert (paid, *shares) == (vector["paid"], vector["miner"], vector["parent"], vector["burned"])


@named(CONSENSUS["asert"])
def test_targets(vector: dict[str, Any]) -> None:
    target = asert(1 << 240, vector["time"], vector["height"], 60, 600)
    assert f"{target:x}" == vector["target"]
    assert f"{block_weight(target):x}" == vector["weight"]


@lru_cache
def validator() -> Validator:
    made = Validator(ReferenceEvaluator)
    for dataset in CONSENSUS["datasets"]:
        manifest = decode_manifest(raw(dataset["manifest"]))
        made.add_dataset(DatasetId(manifest.dataset_id), dataset_from_payloads(manifest, raw(dataset["payload"])).pool)
    return made


def genesis(spec: str, identity: str) -> ChainState:
    decoded = decode_spec(raw(spec))
    assert encode_spec(decoded).hex() == spec
    assert decoded.genesis_id.hex() == identity
    return genesis_state(decoded)


@named(CONSENSUS["chains"])
def test_chains(vector: dict[str, Any]) -> None:
    state = genesis(vector["spec"], vector["genesis"])
    for block in vector["blocks"]:
        assert encode_block(decode_block(raw(block["raw"]))).hex() == block["raw"]
        state = validator().judge(state, raw(block["raw"]), NOW).state
        assert state.head.hex() == block["id"]
        assert f"{state.weight:x}" == block["weight"]
        assert state.supply == block["supply"]
        accounts = {key.hex(): [account.balance, account.nonce] for key, account in state.ledger}
        assert accounts == block["accounts"]
        families = [
            [family.generation, family.model_count, family.best.correct, model_hash(family.best.model).hex()]
            for family in state.families
        ]
        assert families == block["families"]
        datasets = {
            key.hex(): [int(entry.status), entry.window, entry.deposit, entry.bounty, entry.record]
            for key, entry in state.datasets.items()
        }
        assert datasets == block["datasets"]


@named(CONSENSUS["invalid"])
def test_invalid_blocks(vector: dict[str, Any]) -> None:
    state = genesis(CONSENSUS["specs"][vector["genesis"]], vector["genesis"])
    for parent in vector["parents"]:
        state = validator().judge(state, raw(CONSENSUS["blocks"][parent]), NOW).state
    with pytest.raises(Invalid) as caught:
        validator().judge(state, raw(vector["raw"]), NOW)
    assert caught.value.code == vector["code"]


def test_there_is_a_vector_for_every_code_of_blocks() -> None:
    elsewhere = {"bad-chunk", "bad-samples", "bad-spec", "mempool-full", "fee-too-low", "other-checkpoint"}
    assert {vector["code"] for vector in CONSENSUS["invalid"]} == set(CODES) - elsewhere
