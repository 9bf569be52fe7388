"""The handbook's first five commands, as they stand there, in a fresh environment: a validator with its page open."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from e2e.processes import NodeProcess, bnnchain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]
MINED = 4
PATIENCE_S = 90


@pytest.fixture
def network() -> Iterator[list[str]]:
    """A loopback of its own: the commands name the default ports."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 900"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"up\n"
    yield ["nsenter", "--target", str(holder.pid), "--net"]
    holder.kill()
    holder.communicate()


def first_commands() -> list[str]:
    """Return the commands of the handbook's section, without their comments."""
    section = (REPOSITORY / "OPERATING.md").read_text().split("## First five commands")[1].split("```")[1]
    lines = [line[2:].split("  #")[0].strip() for line in section.splitlines() if line.startswith("$ ")]
    assert len(lines) == 5
    return lines


@pytest.mark.timeout(600)
def test_five_commands_lead_to_a_validator_with_its_page(tmp_path: Path, network: list[str]) -> None:
    make, install, join, start, ask = first_commands()
    checkout, home = tmp_path / "checkout", tmp_path / "stranger"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(checkout)], check=True)
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("BNNCHAIN_HOME", None)

    def run(command: str, *prefix: str) -> str:
        done = subprocess.run(
            [*prefix, "sh", "-c", command],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-500:]}{done.stderr[-1500:]}"
        return done.stdout

    bnnchain("init", "--home", str(tmp_path / "miner"))
    (checkout / "chain.json").write_bytes((tmp_path / "miner/chain.json").read_bytes())
    for command in (make, install, join):
        run(command)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {" ".join(network)} {sys.executable} "$@"\n')
    python.chmod(0o755)
    with NodeProcess("mine", "--blocks", str(MINED), home=tmp_path / "miner", python=str(python)) as miner:
        address = miner.wait_ready()
        miner.wait_height(MINED)
        command = start.replace("HOST:PORT", address)
        node = subprocess.Popen(
            [*network, "sh", "-c", f"exec {command}"], cwd=checkout, env=environment, stdout=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while f"height       {MINED}" not in ask_patiently(run, ask, network, deadline):
                assert time.monotonic() < deadline, "the validator never was at the miner's height"
            page = run(f"{sys.executable} -c '{OPEN_PAGE}'", *network)
            assert "<title>" in page
            assert "regtest" in page
        finally:
            node.terminate()
            assert node.wait(30) == 0
        assert miner.stop() == 0


OPEN_PAGE = 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8555/", timeout=10).read().decode())'


def ask_patiently(run: Callable[..., str], ask: str, network: list[str], deadline: float) -> str:
    """Run the command that asks the node until it answers."""
    while True:
        try:
            return run(ask, *network)
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
