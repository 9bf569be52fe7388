"""The address book: bounded, fair between netgroups, kept over restarts."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnchain.net import book as book_module
from bnnchain.net.address import Address
from bnnchain.net.book import (
    BUCKET_SIZE,
    MAX_NEW,
    MAX_NEW_FAILURES,
    MAX_TRIED,
    MAX_TRIED_FAILURES,
    NEW_BUCKETS_PER_SOURCE,
    RETRY_S,
    TRIED_BUCKETS_PER_NETGROUP,
    AddressBook,
)
from bnnchain.net.book_file import MAX_FILE_BYTES, format_book, read_book, write_book

if TYPE_CHECKING:
    from pathlib import Path

FRIEND = Address("44.1.0.1", 9555)


class Time:
    now = 1e9

    def __call__(self) -> float:
        return self.now


def make(seed: int = 1) -> tuple[AddressBook, Time]:
    clock = Time()
    return AddressBook(bytes(16), random.Random(seed), clock), clock


def everything(_: Address) -> bool:
    return True


# Tables.


def test_one_source_fills_an_eighth_of_the_new_table_at_most() -> None:
    book, _ = make()
    liar = Address("66.6.0.1", 1)
    for number in range(40_000):
        book.add(Address(f"{number % 200 + 1}.{number // 200 % 250}.7.7", 1_024 + number // 50_000), liar)
    assert 300 < len(book) <= NEW_BUCKETS_PER_SOURCE * BUCKET_SIZE
    assert book.add(Address("44.2.0.1", 1), FRIEND)  # room for what others say


def test_one_netgroup_fills_an_eighth_of_the_tried_table_at_most() -> None:
    """An eclipse attempt by a /16 whose every address answers, told by many sources."""
    book, clock = make()
    honest = [Address(f"{number}.1.1.1", 9555) for number in range(11, 71)]
    for address in honest:
        book.add(address, FRIEND)
        book.succeed(address)
    kept = [address for address in honest if book._entries[address].is_tried]
    assert len(kept) > 55
    for number in range(20_000):
        address = Address(f"66.6.{number // 250 % 250}.{number % 250 + 1}", 9555)
        book.add(address, Address(f"{number % 90 + 100}.{number % 77}.0.1", 1))
        book.succeed(address)
    tried = Counter(entry.address.netgroup for entry in book.entries if entry.is_tried)
    assert tried["66.6.0.0/16"] <= TRIED_BUCKETS_PER_NETGROUP * BUCKET_SIZE == MAX_TRIED // 8
    assert all(book._entries[address].is_tried for address in kept)  # and displaced nobody who works
    clock.now += RETRY_S * 2
    drawn = Counter(address.netgroup for _ in range(300) if (address := book.choose(everything)))
    assert drawn["66.6.0.0/16"] < 200


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 255), st.integers(0, 3), st.sampled_from("adfs")), max_size=400
    ),
)
def test_the_book_is_sound_whatever_happens(seed: int, events: list[tuple[int, int, int, str]]) -> None:
    book, clock = make(seed)
    for group, host, source, what in events:
        address = Address(f"50.{group}.0.{host}", 9555)
        clock.now += 1
        if what == "a":
            assert book.add(address, Address(f"60.{source}.0.1", 1)) == (address in book)
        elif what == "s":
            book.succeed(address)
        elif what == "f":
            book.fail(address)
        else:
            book.attempt(address)
        places = [*book._new.values(), *book._tried.values()]
        assert sorted(map(str, places)) == sorted(str(entry.address) for entry in book.entries)
        assert all(book._entries[each].is_tried for each in book._tried.values())
        assert not any(book._entries[each].is_tried for each in book._new.values())
    assert len(book) <= MAX_NEW + MAX_TRIED
    chosen = book.choose(lambda address: address.netgroup != "50.0.0.0/16")
    assert chosen is None or (chosen in book and chosen.netgroup != "50.0.0.0/16")
    assert all(book._entries[address].succeeded_s for address in book.sample(FRIEND, 5))


def test_a_working_address_gives_its_place_to_nobody_and_a_stale_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUCKET_SIZE", "NEW_BUCKETS_PER_SOURCE", "TRIED_BUCKETS_PER_NETGROUP", "TRIED_BUCKETS"):
        monkeypatch.setattr(book_module, name, 1)
    book, _ = make()
    first, second = Address("1.1.1.1", 1), Address("1.1.1.2", 1)
    assert book.add(first, FRIEND)
    book.succeed(first)
    assert book.add(second, FRIEND)  # the new table has a place of its own
    book.succeed(second)
    assert book._entries[first].is_tried
    assert not book._entries[second].is_tried
    for _ in range(book_module.STALE_FAILURES):
        book.fail(first)
    book.succeed(second)
    assert first not in book
    assert book._entries[second].is_tried
    third, fourth = Address("1.1.1.3", 1), Address("1.1.1.4", 1)
    assert book.add(third, FRIEND)
    assert not book.add(fourth, FRIEND)
    book.fail(third)
    assert book.add(fourth, FRIEND)
    assert third not in book


def test_addresses_that_fail_are_left_alone_longer_and_longer_and_then_forgotten() -> None:
    book, clock = make()
    address = Address("1.1.1.1", 1)
    book.add(address, FRIEND)
    assert book.choose(everything) == address
    for failures in range(1, MAX_NEW_FAILURES):
        book.attempt(address)
        book.fail(address)
        clock.now += RETRY_S * 2**failures - 1
        assert book.choose(everything) is None
        clock.now += 1
        assert book.choose(everything) == address
    book.fail(address)
    assert address not in book
    book.add(address, FRIEND)
    book.succeed(address)
    for _ in range(MAX_TRIED_FAILURES - 1):
        book.fail(address)
    assert address in book
    book.fail(address)
    assert address not in book


def test_a_clock_set_back_keeps_no_address_waiting() -> None:
    book, clock = make()
    address = Address("1.1.1.1", 1)
    book.add(address, FRIEND)
    book.attempt(address)
    assert book.choose(everything) is None
    clock.now -= 10**6
    assert book.choose(everything) == address


@pytest.mark.parametrize(
    ("address", "source", "is_taken"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.1", False),
        ("127.0.0.1", "8.8.8.8", False),
        ("192.168.0.7", "8.8.8.8", False),
        ("192.168.0.7", "10.0.0.1", True),
        ("192.168.0.7", "127.0.0.1", True),
        ("fe80::1", "2a00::1", False),
        ("9.9.9.9", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", False),  # noqa: S104
        ("224.0.0.1", "127.0.0.1", False),
    ],
)
def test_nobody_tells_us_of_what_only_we_can_see(address: str, source: str, *, is_taken: bool) -> None:
    book, _ = make()
    assert book.add(Address(address, 1), Address(source, 1)) == is_taken


def test_only_what_worked_is_told_on_and_only_as_far_as_it_reaches() -> None:
    book, _ = make()
    near, far, unproven = Address("192.168.0.7", 1), Address("9.9.9.9", 1), Address("9.8.9.9", 1)
    for address in (near, far, unproven):
        book.add(address, Address("127.0.0.1", 1))
    book.succeed(near)
    book.succeed(far)
    assert set(book.sample(Address("10.0.0.1", 1), 9)) == {near, far}
    assert book.sample(Address("8.8.8.8", 1), 9) == [far]
    assert len(book.sample(Address("10.0.0.1", 1), 1)) == 1


# The file.


def filled(seed: int = 3) -> AddressBook:
    book = AddressBook(draw=random.Random(seed))
    for number in range(500):
        address = Address(f"{number % 100 + 1}.{number % 7}.{number % 250}.1", 9555)
        book.add(address, Address(f"70.{number % 9}.0.1", 1))
        if number % 3 == 0:
            book.succeed(address)
        if number % 5 == 0:
            book.fail(address)
    book.anchors = [Address("1.0.0.1", 9555), Address("2001:db8::1", 2)]
    return book


def test_a_book_comes_back_as_it_was(tmp_path: Path) -> None:
    book, path = filled(), tmp_path / "peers.json"
    write_book(path, format_book(book, {"1.2.3.4": 100.0}))
    again, bans = read_book(path)
    assert again.key == book.key
    assert again.anchors == book.anchors
    assert again._new == book._new
    assert again._tried == book._tried
    assert {str(e.address): (e.source, e.failures) for e in again.entries} == {
        str(e.address): (e.source, e.failures) for e in book.entries
    }
    assert 99 < bans["1.2.3.4"] <= 100
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.new"))


def test_no_file_is_an_empty_book(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book, bans = read_book(tmp_path / "peers.json")
    assert (len(book), bans, caplog.text) == (0, {}, "")


def damaged() -> dict[str, bytes]:
    good = json.loads(format_book(filled(), {}))
    row = good["addresses"][0]
    changes: dict[str, dict[str, object]] = {
        "other format": {"format": 2},
        "short key": {"key": "00"},
        "a name": {"addresses": [["node.example:1", *row[1:]]]},
        "a short row": {"addresses": [row[:3]]},
        "a long row": {"addresses": [[*row, 1]]},
        "an endless time": {"addresses": [[*row[:3], 1e999, *row[4:]]]},
        "too many": {"addresses": [row] * (MAX_NEW + MAX_TRIED + 1)},
        "no list": {"addresses": 5},
        "a ban of text": {"bans": {"1.2.3.4": "for ever"}},
        "a long ban": {"bans": {"x" * 301: 9e9}},
        "a bad anchor": {"anchors": [5]},
    }
    made = {name: json.dumps({**good, **change}).encode() for name, change in changes.items()}
    whole = json.dumps(good).encode()
    return made | {
        "empty": b"",
        "torn": whole[: len(whole) // 2],
        "zeros": bytes(4_096),
        "binary": b"\xff\xfe" * 99,
        "deep": b"[" * 100_000,
        "huge": b" " * (MAX_FILE_BYTES + 1),
        "a list": b"[]",
    }


@pytest.mark.parametrize("name", sorted(damaged()))
def test_a_damaged_book_is_set_aside_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    path, data = tmp_path / "peers.json", damaged()[name]
    path.write_bytes(data)
    book, bans = read_book(path)
    assert (len(book), bans) == (0, {})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "is damaged" in caplog.text
    assert (tmp_path / "peers.json.damaged").read_bytes() == data
    assert not path.exists()
    caplog.clear()
    read_book(path)
    assert not caplog.text


def test_a_file_that_cannot_be_written_costs_nothing_but_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_book(tmp_path / "missing" / "peers.json", b"{}")
    assert "cannot write the address book" in caplog.text
