"""Mutual TLS: who is let in, who is not, and in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from net.running import Nodes, eventually

from bnnchain.certificates import (
    CA_FILE,
    CA_KEY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    issue_certificate,
    read_files,
    write_certificates,
)
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.net.client import NodeClient
from bnnchain.net.network import PeerOptions
from bnnchain.net.security import Security, read_security

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    directory = tmp_path / "ours"
    write_certificates(directory)
    return directory


def certificate(authority: Path, directory: Path, valid_days: int = 10) -> Security:
    issue_certificate(authority, directory, valid_days)
    return Security(*read_files(directory, CA_FILE, CERTIFICATE_FILE, KEY_FILE).values())


async def test_nodes_of_one_authority_relay_blocks(nodes: Nodes, ours: Path, tmp_path: Path) -> None:
    first = await nodes.start(options=PeerOptions(outbound=0, security=read_security(ours)))
    other = certificate(ours, tmp_path / "other")
    second = await nodes.start(dial=[first], options=PeerOptions(outbound=0, security=other))
    await eventually(lambda: second.network.peer_count == first.network.peer_count == 1)
    await first.network.submit_block(encode_block(first.builder.idle()))
    await eventually(lambda: second.height == 1)
    await second.network.submit_block(encode_block(second.builder.idle()))
    await eventually(lambda: first.height == 2)


async def test_who_is_not_of_ours_is_refused_in_one_clear_line(nodes: Nodes, ours: Path, tmp_path: Path) -> None:
    write_certificates(tmp_path / "theirs")
    good, theirs = read_security(ours), read_security(tmp_path / "theirs")
    node = await nodes.start(options=PeerOptions(outbound=0, security=good))
    plain = await nodes.start()
    expired = certificate(ours, tmp_path / "expired", -1)
    aged = await nodes.start(options=PeerOptions(outbound=0, security=expired))
    refused = "may not take this side's certificate"
    cases = [
        (node, theirs, "its certificate is of another authority"),
        (node, replace(good, certificate=theirs.certificate, key=theirs.key), refused),
        (node, replace(good, certificate=None, key=None), refused),
        (node, expired, refused),
        (node, None, r"may want TLS \(--tls DIR\)"),
        (plain, good, "it talks plain TCP, not TLS"),
        (aged, good, "its certificate (has expired, or this machine's clock is wrong|.* or out of its time)"),
    ]
    for server, security, words in cases:
        async with NodeClient(server.address, security=security) as client:
            with pytest.raises(Unavailable, match=words) as refusal:
                await client.status()
        assert "\n" not in str(refusal.value)
        assert server.network.peer_count == 0
    async with NodeClient(node.address, security=good) as client:
        assert (await client.status()).height == 0


async def test_a_refused_dialler_gets_no_block(nodes: Nodes, ours: Path) -> None:
    node = await nodes.start(blocks=2, options=PeerOptions(outbound=0, security=read_security(ours)))
    plain = await nodes.start(dial=[node])
    await eventually(lambda: not plain.network._peers._tasks[0].done())
    assert (plain.height, plain.network.peer_count) == (0, 0)


def test_what_a_directory_lacks_or_holds_wrongly_is_said(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"lacks ca\.pem, node\.pem, node\.key"):
        read_security(tmp_path)
    write_certificates(tmp_path / "theirs")
    key = (ours / KEY_FILE).read_bytes()
    (ours / KEY_FILE).write_bytes((tmp_path / "theirs" / KEY_FILE).read_bytes())
    with pytest.raises(Fault, match=r"node\.key is not the key of node\.pem"):
        read_security(ours)
    (ours / KEY_FILE).write_bytes(key)
    read_security(ours)
    for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE):
        content = (ours / name).read_bytes()
        (ours / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(Fault, match="are damaged"):
            read_security(ours)
        (ours / name).write_bytes(content)
    issue_certificate(ours, tmp_path / "expired", -1)
    with pytest.raises(Fault, match=r"node\.pem is valid from"):
        read_security(tmp_path / "expired")


def test_an_authority_is_needed_to_issue_and_nothing_is_written_over(ours: Path, tmp_path: Path) -> None:
    issue_certificate(ours, tmp_path / "other")
    assert not (tmp_path / "other" / CA_KEY_FILE).exists()
    assert (tmp_path / "other" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(Unavailable, match=r"lacks ca\.key"):
        issue_certificate(tmp_path / "other", tmp_path / "third")
    before = (tmp_path / "other" / KEY_FILE).read_bytes()
    with pytest.raises(Fault, match="cannot write certificates"):
        issue_certificate(ours, tmp_path / "other")
    assert (tmp_path / "other" / KEY_FILE).read_bytes() == before
    (ours / CA_KEY_FILE).write_bytes(b"no key")
    with pytest.raises(Fault, match=r"authority in .* is damaged"):
        issue_certificate(ours, tmp_path / "fourth")


def test_a_key_is_never_shown(ours: Path) -> None:
    security = read_security(ours)
    assert "PRIVATE" not in repr(security)


def test_plain_leaves_the_machine_only_where_asked_for(ours: Path) -> None:
    with pytest.raises(Invalid) as refusal:
        NodeClient("192.0.2.1:9555")
    assert refusal.value.code == "insecure-address"
    assert "--tls DIR, or --allow-plain" in str(refusal.value)


async def test_with_tls_or_leave_any_address_is_taken(ours: Path) -> None:
    for client in (
        NodeClient("192.0.2.1:9555", security=read_security(ours)),
        NodeClient("192.0.2.1:9555", allow_plain=True),
    ):
        await client.close()
