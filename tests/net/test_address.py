from __future__ import annotations

import pytest

from bnnchain.consensus.errors import Invalid
from bnnchain.net.address import Address, parse_address, validate_plain


@pytest.mark.parametrize(
    ("text", "address", "is_loopback"),
    [
        ("127.0.0.1:9555", Address("127.0.0.1", 9555), True),
        ("127.9.9.9:0", Address("127.9.9.9", 0), True),
        ("localhost:1", Address("localhost", 1), True),
        ("[::1]:65535", Address("::1", 65535), True),
        ("0.0.0.0:1", Address("0.0.0.0", 1), False),  # noqa: S104
        ("[::]:1", Address("::", 1), False),
        ("node.example:9555", Address("node.example", 9555), False),
        ("localhost.example:9555", Address("localhost.example", 9555), False),
        ("128.0.0.1:2", Address("128.0.0.1", 2), False),
    ],
)
def test_addresses(text: str, address: Address, *, is_loopback: bool) -> None:
    assert parse_address(text) == address
    assert str(address) == text
    assert address.is_loopback == is_loopback
    validate_plain(address, allow_plain=True)
    if is_loopback:
        validate_plain(address, allow_plain=False)
    else:
        with pytest.raises(Invalid) as refusal:
            validate_plain(address, allow_plain=False)
        assert refusal.value.code == "insecure-address"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        ":1",
        "host:65536",
        "host:-1",
        "host:1.5",
        "host:²",
        "a b:1",
        "unix:/run/x:1",
        "host/path:1",
        "user@host:1",
        "[]:1",
        "h" * 300 + ":1",
        "h\n:1",
    ],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_address(text)
    assert refusal.value.code == "bad-address"
    assert refusal.value.values["address"].isascii()  # type: ignore[attr-defined]
