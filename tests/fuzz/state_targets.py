"""Files of the operator's own: configuration, wallet, address book, seed list; a damaged one never ends a node."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from builders import ALICE
from fuzz.target import Target, file_of, refusals

from bnnchain.cli.config import read_example
from bnnchain.cli.configured import read_config
from bnnchain.net import book_file
from bnnchain.net.address import parse_peer_address
from bnnchain.net.book import AddressBook
from bnnchain.net.seeds import parse_seeds
from bnnchain.sealing import MIN_COST, ScryptCost, decode_sealed_key, encode_sealed_key, seal_key
from bnnchain_kernels.errors import Fault

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

MAX_PROBLEM_CHARACTERS = 4_096


def run_config(data: bytes) -> None:
    """Every problem is one line for people."""
    with refusals("bad-config"):
        for problem in read_config(file_of(data, "node.toml"), is_of_home=True).problems():
            assert problem.isprintable(), ascii(problem)
            assert len(problem) <= MAX_PROBLEM_CHARACTERS, problem[:200]


def config_seeds() -> Sequence[bytes]:
    return [
        b'listen = "127.0.0.1:9555"\npeers = ["127.0.0.1:1"]\n[mine]\nthreads = 2\n',
        b'[node]\nbackend = "c"\ndataset-limit = 5\n',
        read_example().encode()[:3_500],
    ]


def run_wallet(data: bytes) -> None:
    """A wallet file is what was written, to the byte, or this machine's own damage."""
    try:
        wallet = decode_sealed_key(data)
    except Fault as error:
        assert str(error).isprintable()  # noqa: PT017  (no test of pytest)
        return
    assert encode_sealed_key(wallet) == data


def wallet_seeds() -> Sequence[bytes]:
    return [encode_sealed_key(seal_key(ALICE, "password", ScryptCost(MIN_COST)))]


def mutate_wallet(data: bytes, rng: random.Random) -> bytes:
    """Change a field and make the digest right for it."""
    try:
        fields = json.loads(data)
        fields.pop("sha256", None)
        name = rng.choice(list(fields))
    except (ValueError, AttributeError, IndexError):
        return wallet_seeds()[0]
    values = [0, -1, 1 << 70, 1.5, None, [], {}, "", "zz", "ab" * 48, True, {"n": 1 << 20, "r": 8, "p": 1}]
    value = fields[name]
    if isinstance(value, dict):
        value[rng.choice(["n", "r", "p"])] = rng.choice([0, 1, 8, 1 << 18, 1 << 19, "8", None, True])
    elif isinstance(value, str) and rng.random() < 0.5:
        at = rng.randrange(len(value) + 1)
        fields[name] = value[:at] + rng.choice(["", "0", "A", " ", "\0"]) + value[at + 1 :]
    else:
        fields[name] = rng.choice(values)
    body = json.dumps(fields, sort_keys=True, indent=1).encode()
    fields["sha256"] = hashlib.sha256(body).hexdigest()
    return json.dumps(fields, sort_keys=True, indent=rng.choice([None, 1, 2])).encode() + rng.choice([b"", b"\n"])


def run_book(data: bytes) -> None:
    """A node starts with what the file holds, or with nothing."""
    try:
        book, bans = book_file._parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, book_file.Invalid):
        return  # these are what read_book takes for damage
    assert all(left_s > 0 for left_s in bans.values())
    again, _ = book_file._parse(book_file.format_book(book, bans))
    assert len(again) <= len(book)
    assert again.anchors == book.anchors


def book_seeds() -> Sequence[bytes]:
    book = AddressBook(b"k" * book_file.KEY_BYTES)
    source = parse_peer_address("198.51.100.1:1")
    for number in range(3):
        address = parse_peer_address(f"203.0.{number}.7:9555")
        book.add(address, source)
        if number:
            book.attempt(address)
            book.succeed(address)
    book.anchors = [parse_peer_address("203.0.1.7:9555")]
    return [book_file.format_book(book, {"203.0.113.9": 1e12})]


def run_seeds(data: bytes) -> None:
    with refusals("bad-seeds"):
        found = parse_seeds(data.decode(errors="replace"), "seeds")
        assert parse_seeds("\n".join(map(str, found)), "seeds") == found


TARGETS = [
    Target(
        "config", run_config, config_seeds, tokens=(b"[node]", b"[mine]", b"peers = [", b'"""', b"1979-05-27", b"nan")
    ),
    Target("wallet", run_wallet, wallet_seeds, mutate_wallet, max_size_bytes=1_024),
    Target(
        "book", run_book, book_seeds, max_size_bytes=2_048, tokens=(b'"anchors"', b'"bans"', b"1e999", b"NaN", b"[[")
    ),
    Target("seeds", run_seeds, lambda: [b"# seeds\n203.0.113.7:9555\nnode.example.org:1 # x\n[2001:db8::1]:9\n"]),
]
