from __future__ import annotations

import pytest

from bnnchain.consensus.errors import Invalid
from bnnchain.net.address import (
    Address,
    Scope,
    parse_address,
    parse_connection,
    parse_peer_address,
    validate_plain,
)


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
        "::1",
        "2001:db8::1:9555",
        "[127.0.0.1]:1",
        "h" * 300 + ":1",
        "h\n:1",
    ],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_address(text)
    assert refusal.value.code == "bad-address"
    assert refusal.value.values["address"].isascii()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("host", "netgroup", "scope", "conduct_key"),
    [
        ("192.0.2.7", "192.0.0.0/16", Scope.PRIVATE, "192.0.2.7"),
        ("44.1.2.3", "44.1.0.0/16", Scope.GLOBAL, "44.1.2.3"),
        ("::ffff:44.1.2.3", "44.1.0.0/16", Scope.GLOBAL, "44.1.2.3"),
        ("2a00:1:2::7", "2a00:1::/32", Scope.GLOBAL, "2a00:1:2::7"),
        ("192.168.3.4", "192.168.0.0/16", Scope.PRIVATE, "192.168.3.4"),
        ("fe80::1", "fe80::/32", Scope.PRIVATE, "fe80::1"),
        ("127.0.0.1", "127.0.0.1:9", Scope.LOOPBACK, "127.0.0.1:9"),
        ("::1", "[::1]:9", Scope.LOOPBACK, "[::1]:9"),
        ("node.example", "node.example:9", Scope.GLOBAL, "node.example"),
    ],
)
def test_neighbourhoods(host: str, netgroup: str, scope: Scope, conduct_key: str) -> None:
    address = Address(host, 9)
    assert (address.netgroup, address.scope, address.conduct_key) == (netgroup, scope, conduct_key)


def test_addresses_that_nodes_tell_have_one_spelling() -> None:
    assert str(parse_peer_address("[2001:DB8:0:0::1]:9")) == "[2001:db8::1]:9"
    assert str(parse_peer_address("[::ffff:44.1.2.3]:9")) == "44.1.2.3:9"
    assert parse_peer_address("[::1]:9").is_dialable
    for text in (
        "node.example:9",
        "44.1.2.3:0",
        "0.0.0.0:9",
        "[::]:9",
        "224.0.0.1:9",
        "[ff02::1]:9",
        "255.255.255.255:9",
    ):
        with pytest.raises(Invalid) as refusal:
            parse_peer_address(text)
        assert refusal.value.code == "bad-address"


def test_connections_are_named_as_every_grpc_names_them() -> None:
    assert parse_connection("ipv4:44.1.2.3:5") == Address("44.1.2.3", 5)
    assert parse_connection("ipv6:[::1]:5") == parse_connection("ipv6:%5B::1%5D:5") == Address("::1", 5)
    for text in ("", "unix:", "unix:/run/x", "ipv4:"):
        with pytest.raises(Invalid):
            parse_connection(text)
