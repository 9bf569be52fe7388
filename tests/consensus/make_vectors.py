"""Writes ``vectors/encoding.json`` and ``vectors/consensus.json``: what any implementation must reproduce to the byte.

    PYTHONPATH=tests python tests/consensus/make_vectors.py

The files change only together with PROTOCOL.md.  Each vector holds its inputs, so that
``tests/consensus/test_vectors.py`` derives every output again from the file alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from builders import (
    Builder,
    made_up_state,
    make_params,
    make_spec,
    private_key,
    random_model,
    tiny_dataset,
    transfer,
)
from consensus.chain_vectors import invalid_vectors, learned_chain, mined_chain, raced_chain, uploaded_chain
from curve import MESSAGE, TORSION, L, challenge, encode, signature_of, spellings
from learnable import OWN, known_datasets, payload_tree
from uploads import evidence, order, upload, uploaded_id

from bnnchain.bnn.bits import RICE_PARAMETER_BITS, BitWriter
from bnnchain.bnn.encoding import (
    apply_flips,
    canonical_bytes,
    encode_architecture,
    encode_difference,
    encode_model,
    model_hash,
    shape_hash,
)
from bnnchain.bnn.zoo import ZOO
from bnnchain.consensus import lottery
from bnnchain.consensus.booking import earned_bounty, split_bounty
from bnnchain.consensus.codec import encode_header, encode_proof, encode_transaction
from bnnchain.consensus.difficulty import asert, block_weight
from bnnchain.consensus.election import election_order, join_offset
from bnnchain.consensus.header import block_id, core_hash
from bnnchain.consensus.lineage import new_family, novel_flip_count, novelty_of, with_child
from bnnchain.consensus.params import PRESETS, encode_params, params_hash
from bnnchain.consensus.registry import leaf_count, leaf_index, prove_available
from bnnchain.consensus.signatures import is_valid, public_key
from bnnchain.consensus.state import ModelRecord, genesis_state, own_dataset
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import (
    Amount,
    BlockId,
    Bounty,
    DatasetId,
    Height,
    ModelHash,
    PublicKey,
    Signature,
)
from bnnchain.datasets.manifest import encode_manifest
from bnnchain.datasets.payload import encode_payload
from bnnchain.wire import Writer, merkle_path, merkle_root, tagged_hash
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Model

VECTORS = Path(__file__).parents[1] / "vectors"
SHAPES = {
    **ZOO,
    "one-dense": Architecture(1, 1, 1, (Dense(2),)),
    "odd-pool": Architecture(7, 9, 3, (Conv3x3(5, pool=True), Dense(7), Dense(3))),
}


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: bytes as hex, enums as integers."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, IntEnum):
        return int(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def encoding_vectors() -> dict[str, Any]:
    odd = random_model(SHAPES["odd-pool"], 1)
    models = {"one-dense": random_model(SHAPES["one-dense"], 1), "odd-pool": odd}
    models["biased"] = replace(odd, biases=np.array([-(1 << 20), 0, 1 << 20], np.int32))
    return {
        "tagged_hashes": [
            {"tag": tag, "parts": parts, "hash": tagged_hash(tag, *parts)}
            for tag, parts in (("block", []), ("tx", [b"a"]), ("model", [b"ab", b"", b"c"]))
        ],
        "varints": [
            {"value": value, "bytes": Writer().varint(value).bytes()}
            for value in (0, 1, 127, 128, 300, 16_383, 16_384, (1 << 35) - 1)
        ],
        "bad_varints": [b"\x80\0", b"\xff\xff\0", b"\x80" * 5 + b"\1", b"\x80"],
        "merkle": [merkle_vector([bytes([leaf]) * leaf for leaf in range(count)]) for count in (0, 1, 2, 3, 5, 8)],
        "architectures": [
            {"name": name, "bytes": encode_architecture(shape), "hash": shape_hash(shape)}
            for name, shape in SHAPES.items()
        ],
        "models": [model_vector(name, model) for name, model in models.items()],
        "differences": [difference_vector(odd), difference_vector(models["biased"])],
        "header": header_vector(),
        "transaction": transaction_vector(),
        "transactions": transaction_vectors(),
        "params": [
            {"name": name, "bytes": encode_params(params), "hash": params_hash(params)}
            for name, params in PRESETS.items()
        ],
    }


def merkle_vector(leaves: list[bytes]) -> dict[str, Any]:
    paths = [merkle_path(leaves, index) for index in range(len(leaves))]
    return {"leaves": leaves, "root": merkle_root(leaves), "paths": paths}


def model_vector(name: str, model: Model) -> dict[str, Any]:
    return {
        "name": name,
        "wire": encode_model(model),
        "canonical": canonical_bytes(model),
        "hash": model_hash(model),
    }


def difference_vector(parent: Model) -> dict[str, Any]:
    flips = np.array([0, 1, 63, 64, 200], np.int64)
    limits = parent.thresholds[0].copy()
    limits[3] = 0
    child = replace(
        apply_flips(parent, flips),
        thresholds=(limits, *parent.thresholds[1:]),
        biases=parent.biases + np.array([0, 7, 0], np.int32),
    )
    difference = encode_difference(parent, child)
    past, zero = np.array([parent.architecture.weight_count]), np.zeros(1, np.int64)
    wide = BitWriter().count(0).count(0).count(1)
    longer = BitWriter().count(1).integers(zero + 1, RICE_PARAMETER_BITS)
    return {
        "parent": encode_model(parent),
        "difference": difference,
        "child": encode_model(child),
        "child_hash": model_hash(child),
        "flips": flips.tolist(),
        "bad": {
            "trailing byte": difference + b"\0",
            "longer Rice code": longer.raw(np.array([True, False])).count(0).count(0).bytes(),
            "flip past the end": BitWriter().count(1).rice(past).count(0).count(0).bytes(),
            "more flips than weights": BitWriter().count(int(past[0]) + 1).bytes() + bytes(1000),
            "bias of more than 32 bits": wide.rice(zero).rice(zero + (1 << 33)).bytes(),
        },
    }


def header_vector() -> dict[str, Any]:
    builder = Builder(genesis_state(make_spec()))
    header = builder.found(builder.place(), transactions=[transfer()]).header
    return {
        "fields": asdict(header),
        "bytes": encode_header(header),
        "id": block_id(header),
        "core": core_hash(header),
    }


def transaction_vector() -> dict[str, Any]:
    order = transfer(nonce=3, amount=1 << 40, fee=9)
    return {"fields": asdict(order), "bytes": encode_transaction(order), "id": transaction_id(order)}


def transaction_vectors() -> list[dict[str, Any]]:
    """Return one transaction of each kind."""
    twins = Builder(genesis_state(make_spec()))
    proof = evidence(*(twins.idle(nonce=nonce).header for nonce in (0, 1)))
    orders = {
        "transfer": transfer(),
        "upload": upload(bounty=9, min_family_acc_bp=7_000),
        "bounty": order(Bounty(uploaded_id(), Amount(5))),
        "equivocation": order(proof),
    }
    return [
        {"name": name, "bytes": encode_transaction(made), "id": transaction_id(made)} for name, made in orders.items()
    ]


def consensus_vectors() -> dict[str, Any]:
    return {
        "datasets": [
            {"manifest": encode_manifest(dataset.manifest), "payload": encode_payload(dataset.pool)}
            for dataset in known_datasets().values()
        ],
        "signatures": signature_vectors(),
        "election": election_vectors(),
        "lottery": lottery_vectors(),
        "novelty": novelty_vectors(),
        "availability": availability_vectors(),
        "bounties": bounty_vectors(),
        "asert": asert_vectors(),
        "chains": [learned_chain(), mined_chain(), uploaded_chain(), raced_chain()],
        **invalid_vectors(),
    }


def signature_vectors() -> list[dict[str, Any]]:
    """Return the edges of "Taming the many EdDSAs": small and mixed orders, spellings of points and of S."""
    made: list[tuple[str, bytes, bytes, bytes]] = []
    key, signature = signature_of(5, 7)
    made.append(("honest", key, signature, MESSAGE))
    for a, r in ((0, 1), (1, 0), (4, 0), (0, 4), (4, 4), (2, 6), (3, 5), (7, 7)):
        message = MESSAGE + bytes([a, r])
        made.append((f"mixed order {a} {r}", *signature_of(5, 7, TORSION[a], TORSION[r], message), message))
    for index, small in enumerate(TORSION):
        for number, data in enumerate(spellings(small)):
            made.append((f"small A {index} spelt {number}", data, signature, MESSAGE))
            s = challenge(data, key) * 5 % L
            made.append((f"small R {index} spelt {number}", key, data + s.to_bytes(32, "little"), MESSAGE))
    for multiple in (1, 2, 15):
        s = int.from_bytes(signature[32:], "little") + multiple * L
        made.append((f"S plus {multiple} L", key, signature[:32] + s.to_bytes(32, "little"), MESSAGE))
    made.append(("small A and R", encode(TORSION[1]), encode(TORSION[1]) + bytes(32), MESSAGE))
    return [
        {"name": name, "key": key, "message": message, "signature": signature,
         "is_valid": is_valid(PublicKey(key), message, Signature(signature))}
        for name, key, signature, message in made
    ]  # fmt: skip


def election_vectors() -> list[dict[str, Any]]:
    """Return orders of made-up families: (model_count, join_offset, founders, generation, height of the last model)."""
    cases = {
        "an empty chain": [],
        "the paper's 5, 5 and a newcomer": [(5, 0, 2, 3, 9), (5, 0, 2, 3, 10), (1, -4, 1, 0, 11)],
        "its next turn": [(6, 0, 2, 4, 12), (5, 0, 2, 3, 10), (1, -4, 1, 0, 11)],
        "and the next": [(6, 0, 2, 4, 12), (6, 0, 2, 4, 13), (1, -4, 1, 0, 11)],
        "6, 6 and 2": [(6, 0, 2, 4, 12), (6, 0, 2, 4, 13), (2, -4, 2, 0, 14)],
        "closed by generation": [(9, 0, 2, 64, 9), (3, 0, 2, 1, 9)],
        "closed by patience": [(9, 0, 2, 7, 0), (3, 0, 2, 1, 9)],
    }
    params = make_params(min_families=2, min_population=2, max_family_generations=64, family_patience=12)
    vectors = []
    for name, counters in cases.items():
        state = made_up_state(counters, height=12)
        order = election_order(state, params)
        vectors.append(
            {
                "name": name,
                "families": counters,
                "height": 12,
                "params": encode_params(params),
                "order": [[place.kind, place.family_id] for place in order],
                "join_offset": join_offset(state, params),
            }
        )
    return vectors


def lottery_vectors() -> list[dict[str, Any]]:
    vectors = []
    for number, shape in enumerate((SHAPES["odd-pool"], ZOO["cnn-4k"], ZOO["cnn-94k"], SHAPES["one-dense"])):
        core, nonce, logits = bytes([number]) * 32, 1 << (21 * number), np.arange(-6, 6, dtype=np.int32)
        seed = lottery.ticket_seed(core, nonce)
        previous, dataset_id = bytes([9]) * 32, bytes([8]) * 32
        vectors.append(
            {
                "core": core,
                "nonce": nonce,
                "seed": seed,
                "shape": encode_architecture(shape),
                "ticket_flips": 2,
                "flips": lottery.mutant_flips(shape, seed, 2),
                "previous_hash": previous,
                "dataset_id": dataset_id,
                "pool_size": 60_000,
                "n_eval": 8,
                "samples": lottery.sample_indices(BlockId(previous), DatasetId(dataset_id), 60_000, 8).tolist(),
                "logits": logits.tolist(),
                "y": lottery.lottery_value(seed, logits.reshape(3, 4)),
            }
        )
    return vectors


def novelty_vectors() -> list[dict[str, Any]]:
    """Return a line of children with what their flips were worth, over the start of a second epoch."""
    shape = Architecture(3, 3, 1, (Dense(4), Dense(3)))
    rng, parent, vectors = np.random.default_rng(5), random_model(shape, 8), []
    record = ModelRecord(parent, ModelHash(bytes(32)), BlockId(bytes(32)), Height(1), 0, 0, PublicKey(bytes(32)))
    family = new_family(0, OWN, record, 0)
    for generation in range(1, 13):
        flips = np.sort(rng.choice(shape.weight_count, 5, replace=False)).astype(np.int64)
        child = apply_flips(family.best.model, flips)
        novel = novel_flip_count(family, flips)
        family = with_child(family, replace(record, model=child, generation=generation))
        seen = novelty_of(family)
        both = int(np.unpackbits(seen.seen_zero & seen.seen_one).sum())
        vectors.append({"flips": flips.tolist(), "novel": novel, "both_values": both, "child": model_hash(child)})
    return [{"parent": encode_model(parent), "children": vectors}]


def availability_vectors() -> list[dict[str, Any]]:
    vectors = []
    for number in range(12):
        dataset_id = list(known_datasets())[number % 4]
        manifest, previous = known_datasets()[dataset_id].manifest, BlockId(bytes([number]) * 32)
        miner = public_key(private_key(number + 1))
        proof = prove_available(previous, miner, manifest, payload_tree(dataset_id))
        vectors.append(
            {
                "dataset_id": dataset_id,
                "previous_hash": previous,
                "miner": miner,
                "leaves": leaf_count(manifest),
                "index": leaf_index(previous, miner, manifest),
                "proof": encode_proof(proof),
            }
        )
    return vectors


def bounty_vectors() -> list[dict[str, Any]]:
    vectors, entry, params = [], own_dataset(tiny_dataset().manifest), make_params()
    for pot, record, correct, has_parent in (
        (10_000, 0, 300, False), (10_000, 300, 300, True), (10_000, 300, 301, True), (10_000, 300, 301, False),
        (9_975, 301, 350, True), (1, 300, 699, True), (7, 300, 700, True), ((1 << 62) + 1, 1, 640, True),
        (0, 5, 9, True),
    ):  # fmt: skip
        paid = earned_bounty(replace(entry, bounty=Amount(pot), record=record), correct)
        shares = split_bounty(paid, has_parent=has_parent, params=params)
        vectors.append(
            {"pool": 700, "pot": pot, "record": record, "correct": correct, "has_parent": has_parent, "paid": paid,
             "miner": shares[0], "parent": shares[1], "burned": shares[2]}
        )  # fmt: skip
    return vectors


def asert_vectors() -> list[dict[str, Any]]:
    vectors = []
    for seconds, height in ((0, 0), (60, 0), (660, 0), (59, 0), (7, 5), (10**6, 3), (-(10**5), 9), (0, 10**4)):
        target = asert(1 << 240, seconds, height, 60, 600)
        vectors.append(
            {"time": seconds, "height": height, "target": f"{target:x}", "weight": f"{block_weight(target):x}"}
        )
    return vectors


def main() -> None:
    for name, vectors in (("encoding", encoding_vectors()), ("consensus", consensus_vectors())):
        (VECTORS / f"{name}.json").write_text(json.dumps(plain(vectors), indent=1) + "\n")


if __name__ == "__main__":
    main()
