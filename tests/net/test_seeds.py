"""Seed lists: what they may hold, and in which line what is wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.net.address import Address
from bnnchain.net.seeds import MAX_ADDRESSES_PER_NAME, MAX_SEED_FILE_BYTES, MAX_SEEDS, parse_seeds, read_seeds, resolve

if TYPE_CHECKING:
    from pathlib import Path

LIST = """# Seeds of the chain "main".
192.0.2.7:9555

  [2001:db8::7]:9555   # a comment behind it
node.example.org:9555
192.0.2.7:9555
"""


def test_a_list_is_read_line_by_line(tmp_path: Path) -> None:
    wanted = [Address("192.0.2.7", 9555), Address("2001:db8::7", 9555), Address("node.example.org", 9555)]
    assert parse_seeds(LIST, "list") == wanted
    file = tmp_path / "seeds.txt"
    file.write_text(LIST.replace("\n", "\r\n"))
    assert read_seeds(file) == wanted
    assert parse_seeds("", "list") == parse_seeds("# nobody\n", "list") == []


@pytest.mark.parametrize(
    "line", ["192.0.2.7", "192.0.2.7:0", "192.0.2.7:70000", "0.0.0.0:1", "a b:1", "192.0.2.7:9555,", "::1", "\x1b[2J:1"]
)
def test_a_bad_line_is_named(line: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_seeds(f"192.0.2.7:9555\n#\n{line}\n", "list")
    assert refusal.value.code == "bad-seeds"
    assert refusal.value.values["line"] == 3
    assert str(refusal.value).isprintable()


def test_lists_are_bounded(tmp_path: Path) -> None:
    many = "".join(f"192.0.2.7:{port}\n" for port in range(1, MAX_SEEDS + 2))
    assert len(parse_seeds("".join(many.splitlines(keepends=True)[1:]), "list")) == MAX_SEEDS
    for text in (many, "#" * (MAX_SEED_FILE_BYTES + 1)):
        (tmp_path / "seeds.txt").write_text(text)
        with pytest.raises(Invalid) as refusal:
            read_seeds(tmp_path / "seeds.txt")
        assert refusal.value.code == "bad-seeds"
    with pytest.raises(Unavailable, match="cannot read the seed list"):
        read_seeds(tmp_path / "missing.txt")


async def test_names_are_looked_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def look_up(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        if host == "gone.example":
            raise OSError("nobody knows that name")
        ips = [f"192.0.2.{number}" for number in range(30)] if host == "many.example" else ["0.0.0.0", "fe80::1%eth0"]  # noqa: S104
        return [(None, None, None, "", (ip, port)) for ip in ips]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    names = ("gone.example", "many.example", "odd.example", "198.51.100.1")
    found = await resolve([Address(name, 9555) for name in names])
    assert len(found) == MAX_ADDRESSES_PER_NAME + 1
    assert found[-1] == Address("198.51.100.1", 9555)
    assert "seed gone.example:9555 was not found" in caplog.text
