"""What the command line says when something is wrong: one line, a non-zero exit, never a traceback."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from e2e.processes import bnnchain, bnnchain_json

if TYPE_CHECKING:
    from pathlib import Path


def error_line(*arguments: str) -> str:
    done = bnnchain(*arguments, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    return lines[-1]


def test_a_home_that_is_not_there(tmp_path: Path) -> None:
    home = str(tmp_path / "nothing")
    for command in (["verify"], ["show", "chain"], ["wallet", "balance"], ["wallet", "address"]):
        assert error_line(*command, "--home", home).startswith("error: ")


def test_a_home_is_not_made_twice(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    bnnchain("init", "--home", home)
    assert "initialised already" in error_line("init", "--home", home)


def test_a_spec_of_another_chain_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    bnnchain("init", "--home", str(first))
    bnnchain("init", "--home", str(second))
    assert "another --home" in error_line("init", "--home", str(first), "--spec", str(second / "chain.json"))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', "\x00\xff", '{"format": 1, "name": 5}'])
def test_a_damaged_spec_is_refused(tmp_path: Path, text: str) -> None:
    spec = tmp_path / "chain.json"
    spec.write_text(text)
    assert "bad-spec" in error_line("init", "--home", str(tmp_path / "home"), "--spec", str(spec))


def test_the_key_is_private_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    bnnchain("init", "--home", str(home))
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600
    (home / "key").write_text("not hex")
    assert "cannot read the key" in error_line("wallet", "address", "--home", str(home))


def test_nobody_listens(tmp_path: Path) -> None:
    home = tmp_path / "home"
    bnnchain("init", "--home", str(home))
    line = error_line("tx", "send", "ab" * 32, "1", "--home", str(home), "--node", "127.0.0.1:1")
    assert line.startswith("error: ")


@pytest.mark.parametrize("recipient", ["", "zz", "ab" * 31, "ab" * 33])
def test_a_bad_address(tmp_path: Path, recipient: str) -> None:
    home = tmp_path / "home"
    bnnchain("init", "--home", str(home))
    assert "bad-address" in error_line("tx", "send", recipient, "1", "--home", str(home))


def test_version_names_commit_and_kernel() -> None:
    text = bnnchain("--version").stdout
    assert text.startswith("bnnchain ")
    assert "commit " in text
    assert "kernel " in text


def test_a_new_chain_shows_itself(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    bnnchain("init", "--home", home)
    assert bnnchain_json("show", "chain", "--home", home)["height"] == 0
    assert bnnchain_json("verify", "--home", home)["height"] == 0
    assert bnnchain_json("wallet", "balance", "--home", home)["balance"] > 0
    assert bnnchain_json("wallet", "history", "--home", home)["entries"] == []
    assert "no block 1" in error_line("show", "block", "1", "--home", home)
    assert "no family 0" in error_line("show", "family", "0", "--home", home)
