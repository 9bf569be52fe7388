"""The wallet file: what is sealed opens again with its password alone, and no byte of it can change unnoticed."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnchain import sealing
from bnnchain.consensus.errors import Fault, Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.sealing import (
    DEFAULT_COST,
    MAX_PASSWORD_BYTES,
    MAX_WALLET_BYTES,
    MIN_COST,
    ScryptCost,
    decode_sealed_key,
    encode_sealed_key,
    open_key,
    seal_key,
)

CHEAP = ScryptCost(MIN_COST)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FILE = encode_sealed_key(seal_key(KEY, "correct horse", CHEAP))
passwords = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def rewritten(**changes: object) -> bytes:
    """The file as somebody writes it who knows its form, digest included, and not its password."""
    fields = json.loads(FILE)
    del fields["sha256"]
    body = json.dumps({**fields, **changes}, indent=2).encode() + b"\n"
    digest = hashlib.sha256(body).hexdigest()
    return json.dumps({**fields, **changes, "sha256": digest}, indent=2).encode() + b"\n"


@settings(max_examples=30, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), password=passwords)
def test_what_is_sealed_opens_again(seed: bytes, password: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    data = encode_sealed_key(seal_key(key, password, CHEAP))
    assert seed not in data
    assert seed.hex().encode() not in data
    read = decode_sealed_key(data)
    assert read.address == public_key(key)
    assert open_key(read, password).private_bytes_raw() == seed


def test_every_flipped_bit_of_the_file_is_damage() -> None:
    assert decode_sealed_key(FILE)
    for place in range(len(FILE)):
        for bit in range(8):
            changed = bytearray(FILE)
            changed[place] ^= 1 << bit
            with pytest.raises(Fault):
                decode_sealed_key(bytes(changed))


def test_every_cut_of_the_file_and_every_addition_is_damage() -> None:
    for size in range(len(FILE)):
        with pytest.raises(Fault):
            decode_sealed_key(FILE[:size])
    for more in (b" ", b"\n", b"\0", FILE, bytes(MAX_WALLET_BYTES)):
        with pytest.raises(Fault):
            decode_sealed_key(FILE + more)


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_no_other_bytes_are_a_wallet(data: bytes) -> None:
    with pytest.raises(Fault):
        decode_sealed_key(data)


def test_a_deeply_nested_file_is_damage() -> None:
    with pytest.raises(Fault):
        decode_sealed_key(b"[" * MAX_WALLET_BYTES)


@pytest.mark.parametrize("name", ["address", "salt", "nonce", "sealed"])
def test_a_field_changed_with_its_digest_opens_nothing(name: str) -> None:
    text = json.loads(FILE)[name]
    for place in (0, len(text) - 1):
        changed = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
        with pytest.raises(Invalid, match="wrong-password"):
            open_key(decode_sealed_key(rewritten(**{name: changed})), "correct horse")


@pytest.mark.parametrize(
    "cost",
    [
        {"n": MIN_COST // 2, "r": 8, "p": 1},
        {"n": 1 << 30, "r": 8, "p": 1},
        {"n": MIN_COST + 1, "r": 8, "p": 1},
        {"n": MIN_COST, "r": 1 << 20, "p": 1},
        {"n": MIN_COST, "r": 8, "p": 0},
        {"n": MIN_COST, "r": 8, "p": 1 << 20},
        {"n": True, "r": 8, "p": 1},
        {"n": -MIN_COST, "r": 8, "p": 1},
        {"n": 2048.0, "r": 8, "p": 1},
        {},
        [],
    ],
)
def test_a_cost_out_of_bounds_is_refused_before_it_is_paid(cost: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "Scrypt", None)
    with pytest.raises(Fault):
        decode_sealed_key(rewritten(scrypt=cost))


@pytest.mark.parametrize("field", ["format", "version", "address", "scrypt", "salt", "nonce", "sealed"])
@pytest.mark.parametrize("value", [None, 2, "", "zz", [1], {"n": 1}])
def test_a_field_of_another_kind_is_damage(field: str, value: object) -> None:
    with pytest.raises(Fault):
        decode_sealed_key(rewritten(**{field: value}))


@settings(max_examples=20, deadline=None)
@given(password=passwords)
def test_another_password_opens_nothing(password: str) -> None:
    with pytest.raises(Invalid) as refusal:
        open_key(decode_sealed_key(FILE), "not " + password)
    assert refusal.value.code == "wrong-password"
    assert set(refusal.value.values) == {"address"}


@pytest.mark.parametrize("password", ["", "x" * (MAX_PASSWORD_BYTES + 1), "ä" * MAX_PASSWORD_BYTES])
def test_a_password_has_bounds(password: str) -> None:
    with pytest.raises(Invalid, match="bad-password"):
        seal_key(KEY, password, CHEAP)


def test_a_password_means_the_same_from_every_keyboard() -> None:
    composed, decomposed = "\u00e9t\u00e9", "e\u0301te\u0301"
    assert composed != decomposed
    assert open_key(seal_key(KEY, composed, CHEAP), decomposed).private_bytes_raw() == KEY.private_bytes_raw()


def test_salt_and_nonce_are_never_used_twice() -> None:
    first, second = seal_key(KEY, "same", CHEAP), seal_key(KEY, "same", CHEAP)
    assert first.salt != second.salt
    assert first.nonce != second.nonce
    assert first.sealed != second.sealed


def test_what_is_shown_of_a_wallet_holds_no_key() -> None:
    assert KEY.private_bytes_raw().hex() not in repr(seal_key(KEY, "x", CHEAP))


def test_the_default_costs_a_guess_what_it_should() -> None:
    # OWASP's password storage sheet: N=2^15, r=8, p=3 stands beside N=2^17, r=8, p=1.
    assert ScryptCost(1 << 15, 8, 3) == DEFAULT_COST
    sealed = seal_key(KEY, "once", DEFAULT_COST)
    assert open_key(decode_sealed_key(encode_sealed_key(sealed)), "once").private_bytes_raw() == KEY.private_bytes_raw()
