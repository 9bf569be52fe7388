from __future__ import annotations

import numpy as np
import pytest

from bnnchain.datasets.chunks import payload_root
from bnnchain.datasets.dataset import Dataset, build_dataset, dataset_from_payloads
from bnnchain.datasets.hidden import hidden_root, hidden_salt
from bnnchain.datasets.manifest import decode_manifest, encode_manifest
from bnnchain.datasets.payload import encode_payload
from bnnchain.wire import ZERO_HASH, merkle_root, tagged_hash
from bnnchain_kernels.errors import Invalid

SECRET = b"s" * 32


def test_manifest_commits_to_both_splits(small_dataset: Dataset) -> None:
    manifest = small_dataset.manifest
    assert manifest.pool_root == payload_root(encode_payload(small_dataset.pool))
    salt = tagged_hash("hidden-salt", manifest.pool_root)
    assert manifest.hidden_root == hidden_root(encode_payload(small_dataset.heldout), salt)
    assert (manifest.pool_size, manifest.hidden_size) == (11_000, 90)


def test_without_heldout_samples_there_is_no_hidden_root(small_dataset: Dataset) -> None:
    none = small_dataset.heldout.take(np.empty(0, np.int32))
    manifest = build_dataset("x", b"\x01\x02\x03", small_dataset.pool, none, licence="l", origin="o").manifest
    assert (manifest.hidden_size, manifest.hidden_root) == (0, ZERO_HASH)


def test_a_stranger_rebuilds_the_data_set(small_dataset: Dataset) -> None:
    manifest = decode_manifest(encode_manifest(small_dataset.manifest))
    pool, heldout = encode_payload(small_dataset.pool), encode_payload(small_dataset.heldout)
    rebuilt = dataset_from_payloads(manifest, pool, heldout)
    assert np.array_equal(rebuilt.pool.images, small_dataset.pool.images)
    assert np.array_equal(rebuilt.heldout.labels, small_dataset.heldout.labels)
    assert len(dataset_from_payloads(manifest, pool).heldout) == 0


def test_other_payloads_are_refused(small_dataset: Dataset) -> None:
    pool, heldout = encode_payload(small_dataset.pool), encode_payload(small_dataset.heldout)
    flipped = bytes([pool[0] ^ 1]) + pool[1:]
    for wrong in (flipped, pool[:-13], b"", pool + bytes(13)):
        with pytest.raises(Invalid, match=r"bad-samples .*pool differs"):
            dataset_from_payloads(small_dataset.manifest, wrong)
    for wrong in (heldout[::-1], heldout[:-13]):
        with pytest.raises(Invalid, match=r"bad-samples .*held-out samples differ"):
            dataset_from_payloads(small_dataset.manifest, pool, wrong)
    with pytest.raises(Invalid, match=r"bad-samples .*held-out samples differ"):
        dataset_from_payloads(small_dataset.manifest, pool, heldout, salt=bytes(32))


def test_hidden_root_depends_on_the_owners_secret() -> None:
    payload, root = b"p" * 3000, b"r" * 32
    salt = hidden_salt(SECRET, root)
    assert hidden_root(payload, salt) != hidden_root(payload, hidden_salt(b"t" * 32, root))
    assert hidden_root(payload, salt) != hidden_root(payload, hidden_salt(SECRET, b"q" * 32))
    assert hidden_root(payload, salt) != merkle_root([payload])
    assert hidden_root(b"", salt) == ZERO_HASH


def test_equal_hidden_leaves_do_not_show() -> None:
    one, two = bytes(1024), bytes(2048)
    salt = hidden_salt(SECRET, ZERO_HASH)
    leaves = [tagged_hash("hidden-leaf", salt, i.to_bytes(4, "little")) + bytes(1024) for i in range(2)]
    assert hidden_root(one, salt) == merkle_root(leaves[:1])
    assert hidden_root(two, salt) == merkle_root(leaves)
    assert leaves[0] != leaves[1]
