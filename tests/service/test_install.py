"""What `bnnchain service` writes below a root, that systemd takes it, and what it leaves when it goes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from e2e.processes import bnnchain

from bnnchain.cli.configured import find_config
from bnnchain.cli.service import service
from bnnchain.home import read_spec_file
from bnnchain.service.install import Place
from bnnchain.service.unit import Unit, quote, validate_reachable
from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

MAX_EXPOSURE = 20
"""In tenths, as `systemd-analyze security --threshold` takes it."""
systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
ALL = Unit("/opt/bnnchain/bin/python", "/etc/bnnchain/node.toml", "/etc/bnnchain/chain.json", "/etc/bnnchain/password")


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(service, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def unit_of(root: Path) -> dict[str, list[str]]:
    """Return the unit's values by key; a key may stand more than once."""
    values: dict[str, list[str]] = {}
    for line in (root / "etc/systemd/system/bnnchain.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            values.setdefault(key, []).append(value)
    return values


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    bnnchain("init", "--home", str(tmp_path / "miner"))
    return tmp_path / "miner" / "chain.json"


def files_below(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_install_writes_unit_configuration_chain_and_password(tmp_path: Path, chain: Path) -> None:
    root, password = tmp_path / "root", tmp_path / "password"
    password.write_text("correct horse\n")
    said = run("install", "--root", root, "--spec", chain, "--wallet-password", password, "--mine")
    assert "systemctl restart bnnchain.service" in said
    unit = unit_of(root)
    start = shlex.split(unit["ExecStart"][0])
    assert start[:4] == [sys.executable, "-m", "bnnchain", "mine"]
    assert start[4:] == ["--home", "%S/bnnchain", "--config", "/etc/bnnchain/node.toml"]
    assert unit["ExecStartPre"][1].endswith("init --home %S/bnnchain --spec /etc/bnnchain/chain.json")
    assert unit["LoadCredential"] == ["wallet-password:/etc/bnnchain/wallet-password"]
    assert read_spec_file(root / "etc/bnnchain/chain.json").genesis_id == read_spec_file(chain).genesis_id
    assert (root / "etc/bnnchain/wallet-password").read_text() == "correct horse\n"
    assert (root / "etc/bnnchain/wallet-password").stat().st_mode & 0o777 == 0o600
    config = find_config(root / "etc/bnnchain/node.toml", None)
    assert config is not None
    assert config.problems() == []


def test_without_spec_and_password_the_unit_asks_for_neither(tmp_path: Path) -> None:
    said = run("install", "--root", tmp_path)
    unit = unit_of(tmp_path)
    assert "regtest chain of the node's own" in said
    assert " node --home " in unit["ExecStart"][0]
    assert len(unit["ExecStartPre"]) == 1
    assert "LoadCredential" not in unit


def test_install_again_changes_nothing_and_keeps_what_the_operator_wrote(tmp_path: Path, chain: Path) -> None:
    root, password = tmp_path / "root", tmp_path / "password"
    password.write_text("correct horse\n")
    run("install", "--root", root, "--spec", chain, "--wallet-password", password, "--mine")
    (root / "etc/bnnchain/node.toml").write_text('listen = "127.0.0.1:9000"\n')
    before = files_below(root)
    said = run("install", "--root", root)
    assert files_below(root) == before
    assert "writes" not in said
    run("install", "--root", root, "--validate")
    assert " node --home " in unit_of(root)["ExecStart"][0]


def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    said = run("install", "--root", tmp_path, "--dry-run")
    assert f"writes {tmp_path}/etc/systemd/system/bnnchain.service" in said
    assert list(tmp_path.iterdir()) == []
    run("install", "--root", tmp_path)
    before = files_below(tmp_path)
    assert "removes" in run("uninstall", "--root", tmp_path, "--purge", "--dry-run")
    assert files_below(tmp_path) == before


def test_uninstall_keeps_the_operators_data_unless_told(tmp_path: Path) -> None:
    run("install", "--root", tmp_path)
    state = tmp_path / "var/lib/private/bnnchain"
    state.mkdir(parents=True)
    (state / "wallet").write_text("key")
    (tmp_path / "var/lib/bnnchain").symlink_to("private/bnnchain")
    (tmp_path / "etc/other").write_text("another program's")
    run("uninstall", "--root", tmp_path)
    assert not (tmp_path / "etc/systemd/system/bnnchain.service").exists()
    assert (state / "wallet").exists()
    assert (tmp_path / "etc/bnnchain/node.toml").exists()
    assert "no unit" in run("uninstall", "--root", tmp_path)
    run("uninstall", "--root", tmp_path, "--purge")
    assert list(files_below(tmp_path)) == ["etc/other"]
    assert not (tmp_path / "var/lib/bnnchain").is_symlink()


def test_status_says_what_is_installed(tmp_path: Path, chain: Path) -> None:
    assert "not installed" in run("status", "--root", tmp_path)
    run("install", "--root", tmp_path, "--spec", chain)
    said = run("status", "--root", tmp_path)
    assert "bnnchain.service" in said
    assert "regtest" in said


def test_a_spec_that_is_none_installs_nothing(tmp_path: Path) -> None:
    broken, root = tmp_path / "chain.json", tmp_path / "root"
    broken.write_text("{}")
    done = bnnchain("service", "install", "--root", str(root), "--spec", str(broken), check=False)
    assert done.returncode == 1
    assert "bad-spec" in done.stderr
    assert not root.exists()


def test_a_file_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("no directory")
    with pytest.raises(Fault, match=r"cannot write .*node\.toml"):
        CliRunner().invoke(service, ["install", "--root", str(tmp_path)], catch_exceptions=False)


def test_only_root_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unavailable, match="only root may"):
        Place(tmp_path, str).write(tmp_path / "unit", b"", 0o644)


@pytest.mark.parametrize(
    "path",
    ["/home/pi/.local/pipx/venvs/bnnchain/bin/python", "/root/venv/bin/python", "/run/user/1000/venv/bin/python"],
)
def test_an_interpreter_that_the_unit_cannot_see_is_refused(path: str) -> None:
    with pytest.raises(Unavailable, match="a service may not look into"):
        validate_reachable(["/usr/bin/python3", path])


def test_interpreters_for_the_whole_machine_are_taken() -> None:
    validate_reachable(["/opt/bnnchain/bin/python", "/usr", "/opt/pipx/venvs/bnnchain/bin/python", "/home2/x"])


@pytest.mark.parametrize(
    ("path", "word"),
    [("/a/b", "/a/b"), ("/a b", '"/a b"'), ("/50%", "/50%%"), ("/$x", "/$$x"), ('/"q"', '"/\\"q\\""')],
)
def test_paths_are_quoted_as_systemd_reads_them(path: str, word: str) -> None:
    assert quote(path) == word


@systemd_analyze
@pytest.mark.parametrize("unit", [ALL, Unit("/usr/bin/python3", "/etc/bnnchain/node.toml", is_miner=True)], ids=repr)
def test_systemd_takes_the_unit_and_calls_it_safe(unit: Unit, tmp_path: Path) -> None:
    # The interpreter must exist where the unit is verified.
    python = tmp_path / "my python"
    python.symlink_to(sys.executable)
    file = tmp_path / "bnnchain.service"
    file.write_text(unit.text().replace(unit.python, quote(str(python))))
    assert analyze("verify", "--man=no", str(file)) == ""
    analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", str(file))
    file.write_text(file.read_text().replace("WatchdogSec", "WatchDogSec"))
    assert "Unknown key" in analyze("verify", "--man=no", str(file))
    file.write_text("\n".join(line for line in unit.text().splitlines() if not line.startswith("Protect")))
    with pytest.raises(AssertionError):
        analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", str(file))


def analyze(*arguments: str) -> str:
    """Return what systemd-analyze complains of; it ends well on unknown keys, so its stderr is what counts."""
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    return done.stderr
