"""The address book and the bans on disk, JSON in the node's home: a damaged file is set aside and said, never fatal."""

from __future__ import annotations

import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from bnnchain.consensus.errors import Invalid
from bnnchain.durable import write_durably
from bnnchain.net.address import parse_peer_address
from bnnchain.net.book import KEY_BYTES, MAX_ANCHORS, MAX_NEW, MAX_TRIED, AddressBook, Entry
from bnnchain.net.conduct import MAX_REMEMBERED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

FORMAT = 1
MAX_FILE_BYTES = 4 << 20
MAX_KEY_TEXT = 300
FILE_MODE = 0o600
"""The key inside is what keeps an attacker from aiming at buckets."""


def read_book(path: Path) -> tuple[AddressBook, dict[str, float]]:
    """Return the book of a file, and the seconds for which each ban in it has still to last.

    Both are empty where there is no file, or where it is damaged: then it is renamed to ``.damaged`` and that is said.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return AddressBook(), {}
    except OSError as error:
        log.warning("cannot read the address book %s: %s; starting with an empty one", path, error.strerror)
        return AddressBook(), {}
    try:
        return _parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, Invalid) as error:
        aside = path.with_name(path.name + ".damaged")
        log.warning("the address book %s is damaged (%s): kept as %s, starting with an empty one", path, error, aside)
        try:
            path.replace(aside)
        except OSError as failure:
            log.warning("cannot set it aside: %s", failure.strerror)
        return AddressBook(), {}


def write_book(path: Path, text: bytes) -> None:
    """Write what :func:`format_book` returned; a failure is said and nothing more: the node lives without the file."""
    try:
        write_durably(path, text, FILE_MODE)
    except OSError as error:
        log.warning("cannot write the address book %s: %s", path, error.strerror)


def format_book(book: AddressBook, bans: Mapping[str, float]) -> bytes:
    """Return a book, and the seconds for which bans have still to last, as the bytes of a file."""
    now_s = time.time()
    fields = {
        "format": FORMAT,
        "key": book.key.hex(),
        "anchors": [str(address) for address in book.anchors],
        "bans": {key: now_s + left_s for key, left_s in bans.items()},
        "addresses": [
            [
                str(entry.address),
                entry.source,
                entry.is_tried,
                round(entry.attempted_s),
                round(entry.succeeded_s),
                entry.failures,
            ]
            for entry in book.entries
        ],
    }
    return json.dumps(fields, indent=0).encode()


def _parse(data: bytes) -> tuple[AddressBook, dict[str, float]]:
    if len(data) > MAX_FILE_BYTES:
        raise ValueError("it is too large")
    fields = json.loads(data)
    if fields["format"] != FORMAT:
        raise ValueError(f"format {fields['format']!r}, not {FORMAT}")
    key, rows, bans = bytes.fromhex(fields["key"]), fields["addresses"], fields["bans"]
    if len(key) != KEY_BYTES or len(rows) > MAX_NEW + MAX_TRIED or len(bans) > MAX_REMEMBERED:
        raise ValueError("a field is longer than any that is written")
    book = AddressBook(key)
    for row in rows:
        book.restore(_entry(*row))
    book.anchors = [parse_peer_address(text) for text in fields["anchors"][:MAX_ANCHORS]]
    now_s = time.time()
    return book, {_short(key): left_s for key, until in bans.items() if (left_s := _number(until) - now_s) > 0}


def _entry(address: str, source: str, is_tried: Any, attempted_s: Any, succeeded_s: Any, failures: Any) -> Entry:  # noqa: ANN401
    return Entry(
        parse_peer_address(address),
        _short(source),
        is_tried=bool(is_tried),
        attempted_s=_number(attempted_s),
        succeeded_s=_number(succeeded_s),
        failures=int(_number(failures)),
    )


def _short(text: Any) -> str:  # noqa: ANN401
    if not isinstance(text, str) or len(text) > MAX_KEY_TEXT:
        raise ValueError("not a short text")
    return text


def _number(value: Any) -> float:  # noqa: ANN401
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"not a number: {ascii(value)[:40]}")
    return float(value)
