"""The reject codes of consensus: every rule has one, stable, listed in PROTOCOL.md.

``Invalid(code)`` from ``bnnchain_kernels.errors`` carries them; peers are told the code and nothing else decides.
"""

from __future__ import annotations

from bnnchain_kernels.errors import BnnchainError, Fault, Invalid, Unavailable

__all__ = ["CODES", "BnnchainError", "Fault", "Invalid", "Unavailable"]

CODES: dict[str, str] = {
    # bytes
    "bad-encoding": "the bytes are not the canonical encoding of anything",
    "bad-block-size": "the block is larger than the chain allows",
    "bad-manifest": "a data set manifest breaks its bounds",
    "bad-chunk": "a data set chunk does not match its manifest",
    "bad-samples": "a data set's samples are not what its manifest says",
    "bad-spec": "a chain spec breaks its bounds",
    # header
    "bad-version": "header version is not 1",
    "bad-chain-id": "the block or transaction is of another chain",
    "bad-parent": "previous_hash is not the block that this one is judged to follow",
    "bad-height": "height is not the parent's plus one",
    "time-too-old": "timestamp is below the parent's",
    "time-too-new": "timestamp is too far ahead of this node's clock; it may become valid later",
    "bad-params": "params_hash is not that of the parameters in force at this height",
    "bad-target": "target is not the one the difficulty rule derives",
    "bad-kind": "the kind is unknown, or not allowed on this chain",
    "bad-place": "the election order does not give this place to this kind, data set and family at this time",
    "bad-generation": "generation does not follow from the family",
    "bad-model-count": "model_count is not the family's plus one",
    "bad-previous-model": "previous_model_hash is not the block of the family's previous model",
    "bad-unused-field": "a field that the kind does not use is not zero",
    "bad-header-signature": "the miner's signature of the header is wrong",
    # lottery
    "bad-lottery-value": "y is not the value the kernel gives for this ticket",
    "lottery-lost": "y is not below the target",
    # body
    "bad-body-root": "body_root is not the Merkle root of the body's items",
    "bad-tx-count": "more transactions, or more bytes of them, than a block may hold",
    "bad-availability": "an availability proof is not the piece of a data set that this block must show",
    "bad-stale": "the stale header is part of the chain, too old, included before, or breaks a rule itself",
    "bad-body": "a body part is missing, or there where the kind has none",
    "bad-shape": "the model's shape is not the family's, or a new family's shape is already on the chain",
    "bad-architecture": "the shape is not one the types allow, or does not fit the data set",
    "bad-model": "the model's parameters break their bounds",
    "bad-model-hash": "model_hash is not that of the model carried",
    "bad-model-size": "more connections, or more gate work, than the chain allows",
    "bad-model-diff": "too few weights differ from the parent",
    "bad-row-reuse": "too many neurons are nearly those of another family's model",
    "bad-novelty": "too few of the changed weights take a value not used before in this epoch",
    # learning gates
    "bad-eval-total": "eval_total is not the size of the pool",
    "bad-parent-claim": "correct_parent is not the parent's count",
    "bad-claim": "correct_new is not what the kernel counts",
    "bad-family-accuracy": "a founding model is below the data set's least accuracy, or too near its commonest class",
    "bad-family-diff": "a founding model predicts too much like another founder of its family",
    "bad-gain": "the child gains less over its parent than the chain demands",
    # transactions
    "bad-tx-version": "transaction version is not 1",
    "bad-tx-kind": "transaction kind is unknown",
    "bad-tx-amount": "an amount or fee is out of range",
    "bad-tx-signature": "the sender's signature is wrong",
    "bad-tx-nonce": "nonce is not the sender's next one (a replay, a double spend, or a gap)",
    "bad-tx-balance": "the sender cannot pay amount and fee",
    "bad-tx-expired": "the expiry height has passed",
    "bad-upload": "the data set is smaller than the chain allows, or its least accuracy is no share",
    "dataset-known": "the data set is on the chain already",
    "datasets-full": "as many data sets wait as the chain allows",
    "unknown-dataset": "the data set is not on the chain, or closed",
    "bad-evidence": "the two headers do not prove that a miner whose reward still waits signed both",
    # of this node alone: another may take it
    "mempool-full": "this node holds no more waiting transactions, and those pay more per byte",
    "fee-too-low": "a transaction of the same sender and nonce waits, and this one pays too little more",
    "other-checkpoint": "the block is not on the chain that this node's operator has pinned",
}
