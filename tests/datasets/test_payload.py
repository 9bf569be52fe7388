from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnchain.datasets import payload as module
from bnnchain.datasets.payload import decode_payload, encode_payload, pack_pixels
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples

if TYPE_CHECKING:
    from bnnchain.datasets.dataset import Dataset


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 9),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sets(st.integers(1, 255), min_size=1, max_size=9),
    st.integers(0, 2**32 - 1),
)
def test_planes_are_thermometer_bits_in_y_x_plane_order(
    count: int, height: int, width: int, levels: set[int], seed: int
) -> None:
    thresholds = bytes(sorted(levels))
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width)).astype(np.uint8)
    packed = pack_pixels(pixels, thresholds)
    labels = np.zeros(count, np.uint8)
    unpacked = Samples(height, width, len(thresholds), 2, packed, labels).unpack(0, count)
    for plane, threshold in enumerate(thresholds):
        assert np.array_equal(unpacked[..., plane], pixels >= threshold), seed


def test_first_bit_is_the_lowest() -> None:
    pixels = np.array([[[9, 0, 5], [0, 5, 0]]], np.uint8)
    # (y, x, plane) order with planes >= 5 and >= 9: 11 00 10 | 00 10 00
    assert pack_pixels(pixels, bytes([5, 9])).tolist() == [[0b00010011, 0b0001]]


def test_blocks_of_packing_join_seamlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (10, 3, 3)).astype(np.uint8)
    whole = pack_pixels(pixels, b"\x80")
    monkeypatch.setattr(module, "PACK_BLOCK_IMAGES", 4)
    assert np.array_equal(pack_pixels(pixels, b"\x80"), whole)


def test_payload_is_images_then_labels(small_dataset: Dataset) -> None:
    heldout = small_dataset.heldout
    payload = encode_payload(heldout)
    assert payload == heldout.images.tobytes() + heldout.labels.tobytes()
    assert len(payload) == small_dataset.manifest.hidden_bytes
    decoded = decode_payload(small_dataset.manifest, payload)
    assert np.array_equal(decoded.images, heldout.images)
    assert np.array_equal(decoded.labels, heldout.labels)
    assert encode_payload(decoded) == payload
    assert len(decode_payload(small_dataset.manifest, b"")) == 0


def test_wrong_payloads_are_refused(small_dataset: Dataset) -> None:
    payload = encode_payload(small_dataset.heldout)
    image_bytes = small_dataset.manifest.image_bytes
    bad_label = payload[:-1] + b"\x04"
    padding = bytearray(payload)
    padding[image_bytes - 1] |= 0x80  # 90 bits: six of the twelfth byte are unused
    for changed, reason in ((payload[:-1], "size"), (bad_label, "labels"), (bytes(padding), "unused")):
        with pytest.raises(Invalid) as caught:
            decode_payload(small_dataset.manifest, changed)
        assert caught.value.code == "bad-samples"
        assert reason in str(caught.value)
