"""Bytes of a store that change on disk: noticed, said in one line, mended by `bnnchain repair`, never handed out."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from builders import Builder, close_opened, describe, make_spec, open_chain
from click.testing import CliRunner

from bnnchain.chain.store import Store
from bnnchain.cli.repair import repair
from bnnchain.consensus.errors import Fault
from bnnchain.home import Home

if TYPE_CHECKING:
    from pathlib import Path

SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
FLIPS = 24
BLOCKS = 12


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """Return a home whose store is closed and in one file, and its blocks."""
    path = tmp_path_factory.mktemp("sound")
    Home(path).create(make_spec())
    chain = open_chain(path / "chain.db")
    raws = Builder(chain).extend(BLOCKS)
    chain.store.put_sealed(chain.head.head, b"sealed")
    chain.store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    close_opened()
    return path, raws


def run_repair(home: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(repair, ["--home", str(home), "--backend", "reference", *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def read_all(path: Path) -> list[bytes]:
    with closing(Store(path, make_spec())) as store:
        return [raw for _, raw in store.active_blocks(1, 99)]


def test_a_flipped_byte_of_a_block_is_never_handed_out(sound: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    """SQLite itself does not see it: the bytes lie in a blob."""
    home, raws = sound
    shutil.copytree(home, tmp_path / "home")
    path = tmp_path / "home" / "chain.db"
    content = bytearray(path.read_bytes())
    place = content.index(raws[4][200:260]) + 30
    content[place] ^= 0x10
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with pytest.raises(Fault, match=r"block .* has changed on disk; run `bnnchain repair`"):
        read_all(path)
    code, output = run_repair(tmp_path / "home")
    assert code == 0
    assert "has changed on disk" in output
    assert "saved 4 blocks, up to height 4" in output
    assert read_all(path) == raws[:4]
    with closing(Store(path, make_spec())) as store:
        assert [store.sealed(parent) for parent in (previous_of_seal(home),)] == [b"sealed"]
    aside = [file for file in (tmp_path / "home").iterdir() if ".damaged-" in file.name]
    assert aside
    assert content in [file.read_bytes() for file in aside], "kept as it was"


def previous_of_seal(home: Path) -> bytes:
    with closing(sqlite3.connect(home / "chain.db")) as database:
        return bytes(database.execute("SELECT previous FROM sealed").fetchone()[0])


def test_a_sound_store_is_left_alone_and_compacted_when_asked(sound: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    home, raws = sound
    shutil.copytree(home, tmp_path / "home")
    code, output = run_repair(tmp_path / "home", "--compact")
    assert code == 0
    assert "is sound" in output
    before, after = re.findall(r"[\d,]{5,}", output.splitlines()[-1])
    assert int(after.replace(",", "")) <= int(before.replace(",", ""))
    assert read_all(tmp_path / "home" / "chain.db") == raws


def test_random_damage_is_noticed_or_harmless(sound: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    """Runs of bytes overwritten anywhere: what is read is what was written, or nothing; after repair it grows."""
    home, raws = sound
    rng = random.Random(SEED)
    noticed = 0
    for number in range(FLIPS):
        copy = tmp_path / str(number)
        shutil.copytree(home, copy)
        path = copy / "chain.db"
        content = bytearray(path.read_bytes())
        length = rng.choice((1, 16, 4_096))
        place = rng.randrange(len(content) - length)
        content[place : place + length] = rng.randbytes(length)
        path.write_bytes(content)
        context = f"CHAOS_SEED={SEED} flip {number}: {length} bytes at {place}"
        try:
            assert read_all(path) == raws, context
        except Fault:
            noticed += 1
        code, output = run_repair(copy)
        assert code == 0, context
        assert "is sound" in output or "saved" in output, context
        chain = open_chain(path)
        have = chain.head.height
        assert [raw for _, raw in chain.store.active_blocks(1, 99)] == raws[:have], context
        for raw in raws[have:]:  # what a peer sends
            chain.import_block(raw)
        assert chain.head.height == BLOCKS, context
        if number % 8 == 0:
            fresh = open_chain(copy / "fresh.db")
            fresh.import_blocks(raws)
            assert describe(chain.head) == describe(fresh.head), context
        close_opened()
    print(f"seed {SEED}: {noticed} of {FLIPS} noticed when all blocks were read")
    assert noticed >= FLIPS // 4, context


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    Home(tmp_path).create(make_spec())
    (tmp_path / "chain.db").write_bytes(b"not a database" * 1_000)
    code, output = run_repair(tmp_path)
    assert code == 0
    assert "damaged: the store is damaged: file is not a database; run `bnnchain repair`" in output
    assert "saved 0 blocks, up to height 0" in output
    assert open_chain(tmp_path / "chain.db").head.height == 0


def test_another_chains_and_a_later_store_are_not_damage(tmp_path: Path) -> None:
    Home(tmp_path).create(make_spec())
    Store(tmp_path / "chain.db", make_spec(name="other")).close()
    with pytest.raises(Fault, match="another chain"):
        run_repair(tmp_path)
    with closing(sqlite3.connect(tmp_path / "chain.db")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(Fault, match="later bnnchain"):
        run_repair(tmp_path)
    assert [file.name for file in tmp_path.iterdir() if "damaged" in file.name] == []
