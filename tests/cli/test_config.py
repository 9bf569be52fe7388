"""node.toml: what comes first, what is refused and in which words, and that the example is true."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from bnnchain.cli import cli, configured
from bnnchain.cli.config import read_example
from bnnchain.cli.configured import (
    MAX_CONFIG_BYTES,
    ConfiguredCommand,
    configured_commands,
    find_config,
    key_of,
    options_of,
    read_config,
    variable_of,
)
from bnnchain.consensus.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

GIVEN = re.compile(r"^#([a-z][a-z-]* = )", re.MULTILINE)
"""An example in the example: a key behind a bare #."""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("BNNCHAIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BNNCHAIN_HOME", str(tmp_path / "home"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "node.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A `mine` that runs nothing and answers with the values it would have run with."""
    seen: dict[str, Any] = {}
    real = configured_commands()["mine"]
    copy = ConfiguredCommand("mine", params=real.params, callback=lambda **values: seen.update(values))

    def run(*arguments: str) -> dict[str, Any]:
        seen.clear()
        result = CliRunner().invoke(copy, list(arguments), standalone_mode=False)
        if result.exception:
            raise result.exception
        return dict(seen)

    return run


def check(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["config", "check", *arguments])
    assert result.exception is None or isinstance(result.exception, (SystemExit, Invalid, Unavailable))
    return result.exit_code, result.output + str(result.exception or "")


def problems(file: Path) -> list[str]:
    return read_config(file, is_of_home=False).problems()


# Precedence


def test_file_then_environment_then_flag(
    write: Callable[[str], Path], probe: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(write("[mine]\nthreads = 5\n"))
    assert probe()["threads"] == 2
    assert probe("--config", file)["threads"] == 5
    monkeypatch.setenv("BNNCHAIN_THREADS", "6")
    assert probe("--config", file)["threads"] == 6
    assert probe()["threads"] == 6
    assert probe("--config", file, "--threads", "7")["threads"] == 7


def test_a_list_is_replaced_as_a_whole(
    write: Callable[[str], Path], probe: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(write('peer = ["a:1", "b:2"]\n'))
    assert list(probe("--config", file)["peers"]) == ["a:1", "b:2"]
    monkeypatch.setenv("BNNCHAIN_PEER", "c:3 d:4")
    assert list(probe("--config", file)["peers"]) == ["c:3", "d:4"]
    assert list(probe("--config", file, "--peer", "e:5")["peers"]) == ["e:5"]


def test_a_table_comes_before_what_all_commands_share(
    write: Callable[[str], Path], probe: Callable[..., dict[str, Any]]
) -> None:
    assert probe("--config", str(write('listen = "a:1"\n')))["listen"] == "a:1"
    assert probe("--config", str(write('listen = "a:1"\n[mine]\nlisten = "b:2"\n')))["listen"] == "b:2"


def test_a_flag_without_a_value_is_true_or_false(
    write: Callable[[str], Path], probe: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe()["thrifty"] is None
    file = str(write("[mine]\nthrifty = true\n"))
    assert probe("--config", file)["thrifty"] is True
    monkeypatch.setenv("BNNCHAIN_THRIFTY", "no")
    assert probe("--config", file)["thrifty"] is False
    assert probe("--config", file, "--thrifty")["thrifty"] is True


def test_the_homes_file_counts_where_none_is_named(
    write: Callable[[str], Path], probe: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = write("[mine]\nthreads = 9\n")
    for name, count in (("one", 3), ("two", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "node.toml").write_text(f"[mine]\nthreads = {count}\n")
    assert probe("--home", str(tmp_path / "one"))["threads"] == 3
    monkeypatch.setenv("BNNCHAIN_HOME", str(tmp_path / "two"))
    assert probe()["threads"] == 4
    monkeypatch.setenv("BNNCHAIN_CONFIG", str(other))
    assert probe()["threads"] == 9
    assert probe("--config", str(tmp_path / "one" / "node.toml"))["threads"] == 3


def test_a_named_file_may_name_the_home(
    write: Callable[[str], Path], probe: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BNNCHAIN_HOME")
    file = write('home = "state"\n[mine]\ncertificates = "/certs"\n')
    values = probe("--config", str(file))
    assert values["home"].path == file.parent / "state"
    assert values["certificates"] == Path("/certs")


def test_a_relative_path_is_seen_from_the_file(
    write: Callable[[str], Path], probe: Callable[..., dict[str, Any]]
) -> None:
    file = write('[mine]\ncertificates = "certs"\n')
    assert probe("--config", str(file))["certificates"] == file.parent / "certs"


def test_help_and_completion_read_no_file(write: Callable[[str], Path]) -> None:
    file = write("no toml")
    for command in ("node", "mine"):
        result = CliRunner().invoke(cli, [command, "--config", str(file), "--help"])
        assert result.exit_code == 0, result.output
        assert "--config" in result.output
        context = configured_commands()[command].make_context(command, ["--config", str(file)], resilient_parsing=True)
        assert context.default_map is None


# Refusals


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("thread = 3", "thread: unknown key; did you mean threads?"),
        ("lisen = 'a:1'", "lisen: unknown key; did you mean listen?"),
        ("xyzzy = 1", "xyzzy: unknown key"),
        ("dataset_limit = 5", "dataset_limit: unknown key; did you mean dataset-limit?"),
        ("threads = 3", "threads: belongs below [mine]"),
        ("[mine]\nthread = 3", "[mine] thread: unknown key; did you mean threads?"),
        ("[miner]\nthreads = 3", "[miner] unknown table; did you mean mine?"),
        ("[node]\nlisten = 'a:1'", "[node] unknown table"),
        ("[mine.more]\nx = 1", "[mine] more: unknown key"),
        ("listen = 9555", "listen: wants text, in quotes"),
        ("listen = ['a:1']", "listen: wants text, in quotes"),
        ("peer = 'a:1'", "peer: wants a list, in square brackets"),
        ("peer = [1]", "peer: wants text, in quotes"),
        ("dataset-limit = '5'", "dataset-limit: wants a whole number"),
        ("dataset-limit = 5.5", "dataset-limit: wants a whole number"),
        ("dataset-limit = true", "dataset-limit: wants a whole number"),
        ("dataset-limit = 0", "dataset-limit: 0 is not in the range x>=1"),
        ("backend = 'gpu'", "backend: 'gpu' is not one of 'auto', 'fpga', 'fpga-sim', 'c', 'numba', 'reference'"),
        ("checkpoint = ['5']", "checkpoint: bad-id (given='', wanted=64 hex digits)"),
        ("[mine]\nhold = '1'", "[mine] hold: wants a number"),
        ("[mine]\nhold = true", "[mine] hold: wants a number"),
        ("[mine]\nhold = 61", "[mine] hold: 61.0 is not in the range 0<=x<=60"),
        ("[mine]\nthrifty = 1", "[mine] thrifty: wants true or false"),
        ("[mine]\nthrifty = 'yes'", "[mine] thrifty: wants true or false"),
        ("[mine]\nfounder = 2000-01-01", "[mine] founder: wants text, in quotes"),
        ("[mine]\npayout = 'ab'", "[mine] payout: bad-address (given='ab', wanted=64 hex digits)"),
    ],
)
def test_what_is_wrong_is_said(write: Callable[[str], Path], text: str, said: str) -> None:
    [problem] = problems(write(text))
    assert problem == said


def test_a_home_is_not_moved_by_its_own_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "node.toml").write_text('home = "/elsewhere"\n')
    found = find_config(None, home)
    assert found is not None
    with pytest.raises(Invalid, match="a file in a home cannot name another one"):
        found.settings_of(configured_commands()["node"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"listen = \n", "line 1"),
        (b"# fine\nlisten = 'a:1'\nlisten = 'b:2'\n", "line 3"),
        (b"\xff\xfe", "utf-8"),
        (b"x = " + b"[" * 100_000, "bad-config"),
        (b"#" * (MAX_CONFIG_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(data)
    with pytest.raises(Invalid) as refusal:
        read_config(file, is_of_home=False)
    assert refusal.value.code == "bad-config"
    assert str(file) in str(refusal.value)
    assert said in str(refusal.value)


@pytest.mark.parametrize("arguments", [["--config", "/nowhere/node.toml"], ["--config", "/"]])
def test_a_named_file_must_be_there(probe: Callable[..., dict[str, Any]], arguments: list[str]) -> None:
    with pytest.raises(Unavailable, match="cannot read /"):
        probe(*arguments)


def test_a_node_refuses_a_wrong_file_and_says_all_of_it(
    write: Callable[[str], Path], probe: Callable[..., dict[str, Any]]
) -> None:
    file = write("thread = 3\n[mine]\nhold = 99\n")
    with pytest.raises(Invalid) as refusal:
        probe("--config", str(file))
    assert refusal.value.code == "bad-config"
    assert "thread: unknown key" in str(refusal.value)
    assert "[mine] hold: 99.0 is not in the range" in str(refusal.value)


def test_a_wrong_variable_is_named(probe: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNNCHAIN_THREADS", "many")
    with pytest.raises(click.BadParameter) as refusal:
        probe()
    assert "$BNNCHAIN_THREADS" in refusal.value.format_message()
    assert probe("--threads", "2")["threads"] == 2


# bnnchain config


def test_check_says_what_is_in_force_and_why(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = write('listen = "a:1"\n[mine]\nthreads = 5\nlisten = "b:2"\n')
    monkeypatch.setenv("BNNCHAIN_PEER", "p:1 q:2")
    result = tmp_path / "result.json"
    code, text = check(str(file), "--json", str(result))
    assert code == 0, text
    assert "nothing is wrong" in text
    rows = {row["setting"]: (row["value"], row["from"]) for row in json.loads(result.read_text())["settings"]}
    assert rows["listen"] == ("a:1", str(file))
    assert rows["mine.listen"] == ("b:2", str(file))
    assert rows["mine.threads"] == ("5", str(file))
    assert rows["peer"] == ("p:1 q:2", "$BNNCHAIN_PEER")
    assert rows["backend"] == ("auto", "default")
    assert rows["mine.seed"] == ("-", "default")
    assert rows["home"] == (str(tmp_path / "home"), "$BNNCHAIN_HOME")
    options = {key_of(option) for command in configured_commands().values() for option in options_of(command)}
    assert {setting.removeprefix("mine.") for setting in rows} == options


def test_check_says_all_problems_at_once(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("lisen = 'a:1'\n[mine]\nthreads = 500\n[other]\nx = 1\n")
    monkeypatch.setenv("BNNCHAIN_HOLD", "soon")
    monkeypatch.setenv("BNNCHAIN_THREDS", "3")
    code, text = check(str(file))
    assert code == 1
    assert "lisen: unknown key; did you mean listen?" in text
    assert "[mine] threads: 500 is not in the range 1<=x<=64" in text
    assert "[other] unknown table" in text
    assert "BNNCHAIN_HOLD: 'soon' is not a valid float" in text
    assert "$BNNCHAIN_THREDS means nothing; did you mean BNNCHAIN_THREADS?" in text


def test_check_without_any_file() -> None:
    code, text = check()
    assert code == 0
    assert "no file" in text


def test_check_of_a_file_that_is_not_there() -> None:
    code, text = check("/nowhere/node.toml")
    assert code == 1
    assert "cannot read /nowhere/node.toml" in text


def test_the_example_as_it_stands_changes_nothing(write: Callable[[str], Path]) -> None:
    printed = CliRunner().invoke(cli, ["config", "example"])
    assert printed.exit_code == 0
    assert printed.output == read_example()
    file = write(printed.output)
    assert problems(file) == []
    assert {table: dict(values) for table, values in read_config(file, is_of_home=False).tables.items()} == {
        "": {},
        "mine": {},
    }


def test_every_key_of_the_example_is_real_and_every_option_is_in_it(write: Callable[[str], Path]) -> None:
    file = write(GIVEN.sub(r"\1", read_example()))
    assert problems(file) == []
    tables = read_config(file, is_of_home=False).tables
    shared = {key_of(option) for option in options_of(configured_commands()["node"])}
    only_mine = {key_of(option) for option in options_of(configured_commands()["mine"])} - shared
    missing = {"": shared - set(tables[""]), "[mine]": only_mine - set(tables["mine"])}
    assert missing == {"": set(), "[mine]": set()}, "write these options into miner/bnnchain/cli/example.toml"
    assert set(tables["mine"]) == only_mine


def test_examples_of_settings_with_a_default_show_it(write: Callable[[str], Path]) -> None:
    tables = read_config(write(GIVEN.sub(r"\1", read_example())), is_of_home=False).tables
    shown = {**tables[""], **tables["mine"]}
    for command in configured_commands().values():
        for option in options_of(command):
            default = option.to_info_dict()["default"]
            if default not in {None, False} and not option.multiple:
                assert shown[key_of(option)] == default, key_of(option)


def test_every_option_has_a_variable_of_its_own() -> None:
    for command in configured_commands().values():
        names = [option.envvar for option in options_of(command)]
        assert len(set(names)) == len(names)
        assert all(option.envvar == variable_of(option) for option in options_of(command))
        assert all(re.fullmatch(r"BNNCHAIN_[A-Z_]+", str(name)) for name in names)
    assert configured.VARIABLE_PREFIX + "CONFIG" not in names


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_BNNCHAIN_COMPLETE=" in result.output
