from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.datasets import manifest as module
from bnnchain.datasets.manifest import MAX_MANIFEST_BYTES, Manifest, decode_manifest, encode_manifest
from bnnchain.wire import ZERO_HASH
from bnnchain_kernels.errors import Invalid

GOLDEN = Manifest(
    name="golden-1.0_x",
    height=8,
    width=9,
    thresholds=bytes([1, 128, 255]),
    classes=10,
    pool_size=1000,
    hidden_size=20,
    pool_root=bytes(range(32)),
    hidden_root=bytes(range(32, 64)),
    licence="CC-BY-4.0 OR MIT",
    origin="https://example.org/ (somebody, 2026)",
)
GOLDEN_BYTES = (
    b"\x0c\x00golden-1.0_x\x08\x00\x09\x00\x03\x01\x80\xff\x0a\x00\x01\xe8\x03\x00\x00\x14\x00\x00\x00"
    + bytes(range(64))
    + b"\x10\x00CC-BY-4.0 OR MIT\x25\x00https://example.org/ (somebody, 2026)"
)

printable = st.characters(min_codepoint=32, max_codepoint=126)
roots = st.binary(min_size=32, max_size=32).filter(any)


@st.composite
def manifests(draw: Any) -> Manifest:
    height, width = draw(st.integers(1, 256)), draw(st.integers(1, 256))
    thresholds = bytes(sorted(draw(st.sets(st.integers(1, 255), min_size=1, max_size=64))))
    most = (1 << 24) // (-(-height * width * len(thresholds) // 8) + 1)
    hidden_size = draw(st.integers(0, most))
    return Manifest(
        name=draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)),
        height=height,
        width=width,
        thresholds=thresholds,
        classes=draw(st.integers(2, 256)),
        pool_size=draw(st.integers(1, most)),
        hidden_size=hidden_size,
        pool_root=draw(roots),
        hidden_root=draw(roots) if hidden_size else ZERO_HASH,
        licence=draw(st.text(printable, min_size=1, max_size=64)),
        origin=draw(st.text(printable, min_size=1, max_size=256)),
    )


def reject_code(data: bytes) -> str | None:
    """The code with which the bytes are refused, None where they are accepted."""
    try:
        decode_manifest(data)
    except Invalid as error:
        return error.code
    return None


def test_bytes_are_the_documented_ones() -> None:
    assert encode_manifest(GOLDEN) == GOLDEN_BYTES
    assert decode_manifest(GOLDEN_BYTES) == GOLDEN
    assert GOLDEN.dataset_id.hex() == "502d06cf9ee876e960278d43b4f305e411ecec1df1190637b717af941be601c6"


def test_sizes() -> None:
    assert (GOLDEN.planes, GOLDEN.image_bytes, GOLDEN.pool_bytes, GOLDEN.hidden_bytes) == (3, 27, 28_000, 560)


@given(manifests())
def test_round_trip(manifest: Manifest) -> None:
    data = encode_manifest(manifest)
    assert len(data) <= MAX_MANIFEST_BYTES
    assert decode_manifest(data) == manifest
    assert encode_manifest(decode_manifest(data)) == data


@given(manifests(), st.data())
def test_a_changed_byte_is_refused_or_another_canonical_manifest(manifest: Manifest, data: st.DataObject) -> None:
    original = encode_manifest(manifest)
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    code = reject_code(bytes(changed))
    assert code in {None, "bad-manifest", "bad-encoding"}
    if code is None:
        decoded = decode_manifest(bytes(changed))
        assert encode_manifest(decoded) == bytes(changed)
        assert decoded.dataset_id != manifest.dataset_id


@given(st.binary(max_size=700))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    assert reject_code(data) in {"bad-manifest", "bad-encoding"}


@pytest.mark.parametrize("size", range(len(GOLDEN_BYTES)))
def test_truncated_bytes_are_refused(size: int) -> None:
    with pytest.raises(Invalid, match=r"bad-encoding"):
        decode_manifest(GOLDEN_BYTES[:size])


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(Invalid, match=r"bad-encoding"):
        decode_manifest(GOLDEN_BYTES + b"\0")


def test_bytes_over_the_limit_are_refused_unread() -> None:
    with pytest.raises(Invalid, match=r"bad-manifest .*limit=640"):
        decode_manifest(bytes(MAX_MANIFEST_BYTES + 1))


def test_the_limit_has_room_for_the_largest_manifest() -> None:
    largest = replace(
        GOLDEN,
        name="n" * 64,
        licence="l" * 64,
        origin="o" * 256,
        thresholds=bytes(range(1, 65)),
        pool_size=1,
    )
    assert decode_manifest(encode_manifest(largest)) == largest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ""}, "name"),
        ({"name": "Upper"}, "name"),
        ({"name": "-dash"}, "name"),
        ({"name": "new\nline"}, "name"),
        ({"name": "ümlaut"}, "name"),
        ({"name": "n" * 65}, "name"),
        ({"height": 0}, "image size"),
        ({"height": 257}, "image size"),
        ({"width": 0}, "image size"),
        ({"width": 257}, "image size"),
        ({"thresholds": b""}, "planes"),
        ({"thresholds": bytes(range(1, 66))}, "planes"),
        ({"thresholds": bytes([0, 1])}, "thresholds"),
        ({"thresholds": bytes([5, 5])}, "thresholds"),
        ({"thresholds": bytes([6, 5])}, "thresholds"),
        ({"classes": 1}, "classes"),
        ({"classes": 257}, "classes"),
        ({"label_coding": 0}, "label coding"),
        ({"label_coding": 2}, "label coding"),
        ({"pool_size": 0}, "split size"),
        ({"pool_size": (1 << 24) + 1}, "split size"),
        ({"hidden_size": (1 << 24) + 1}, "split size"),
        ({"pool_size": (1 << 24) // 28 + 1}, "payload size"),
        ({"hidden_size": (1 << 24) // 28 + 1}, "payload size"),
        ({"pool_root": bytes(31)}, "root"),
        ({"hidden_root": b"x" * 33}, "root"),
        ({"pool_root": ZERO_HASH}, "root"),
        ({"hidden_root": ZERO_HASH}, "root"),
        ({"hidden_size": 0}, "root"),
        ({"licence": ""}, "licence"),
        ({"licence": "l" * 65}, "licence"),
        ({"licence": "é"}, "licence"),
        ({"origin": ""}, "origin"),
        ({"origin": "o" * 257}, "origin"),
        ({"origin": "\x1b[31m"}, "origin"),
    ],
)
def test_a_broken_rule_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        replace(GOLDEN, **changes)
    assert caught.value.code == "bad-manifest"
    assert reason in str(caught.value)
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)


def test_payload_limit_is_inclusive() -> None:
    assert replace(GOLDEN, pool_size=(1 << 24) // 28).pool_bytes <= module.MAX_PAYLOAD_BYTES


@pytest.mark.parametrize("field", [field.name for field in fields(Manifest) if field.name != "label_coding"])
def test_every_field_is_in_the_id(field: str) -> None:
    value = getattr(GOLDEN, field)
    if field == "thresholds":
        other: Any = bytes([1, 128, 254])
    elif isinstance(value, bytes):
        other = value[::-1]
    else:
        other = value + 1 if isinstance(value, int) else value + "x"
    assert replace(GOLDEN, **{field: other}).dataset_id != GOLDEN.dataset_id
