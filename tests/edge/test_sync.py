"""An emulated ARM machine joins a chain that this machine mines, judges every block by its NEON kernel, agrees.

``EDGE_ROOTS`` is the directory in which edge.mk has made a root for each machine (tests/emulated_root.sh).
"""

from __future__ import annotations

import os
import re
import socket
import urllib.request
from pathlib import Path

import pytest
from e2e.processes import NodeProcess, bnnchain, bnnchain_json

ISA = {"aarch64": "neon-aarch64", "armv7l": "neon-armv7"}
MINED = 12
LATER = 14
"""Height up to which the chain grows while the emulated node is connected."""
PATIENCE_S = 120
IMAGES = re.compile(r'^bnnchain_validated_images_total\{backend="(\w+)"\} ([\d.e+]+)$', re.MULTILINE)


@pytest.fixture(scope="module", params=ISA)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(machine: str) -> str:
    roots = os.environ.get("EDGE_ROOTS")
    assert roots, "run `make test-edge`: it makes the roots that EDGE_ROOTS names"
    return str(Path(roots).resolve() / machine / "python")


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.timeout(600)
def test_an_emulated_board_ends_at_the_miners_tip(machine: str, python: str, tmp_path: Path) -> None:
    here, board = tmp_path / "miner", tmp_path / "board"
    bnnchain("init", "--home", str(here))
    bnnchain("init", "--home", str(board), "--spec", str(here / "chain.json"), python=python)
    with NodeProcess("mine", "--blocks", str(MINED), "--seed", "1", home=here) as miner:
        address = miner.wait_ready()
        miner.wait_height(MINED)
        metrics = free_address()
        watched = ("node", "--peer", address, "--metrics", metrics)
        with NodeProcess(*watched, home=board, python=python) as validator:
            own = validator.wait_ready()
            validator.wait_height(MINED, PATIENCE_S)
            status = bnnchain_json("show", "node", "--node", own)
            assert status["head"] == bnnchain_json("show", "node", "--node", address)["head"]
            assert status["backend"] == "c"
            assert miner.stop() == 0
            with NodeProcess("mine", "--blocks", str(LATER), "--seed", "2", home=here, listen=address) as again:
                again.wait_height(LATER)
                validator.wait_height(LATER, PATIENCE_S)
                assert again.stop() == 0
            with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=30) as answer:
                images = {name: float(count) for name, count in IMAGES.findall(answer.read().decode())}
            assert validator.stop() == 0
    blocks = bnnchain_json("show", "chain", "--home", str(here), "--last", str(LATER))["blocks"]
    assert len(blocks) == LATER
    assert {name for name, count in images.items() if count} == {"c"}
    assert images["c"] >= sum(block["eval_total"] for block in blocks) > 0
    log = validator.stderr_file.read_text()
    assert f"instruction set of the C kernel: {ISA[machine]}" in log
    assert "kernel backend: c" in log
    assert "Traceback" not in log
    replayed = bnnchain_json("verify", "--home", str(board), "--backend", "c", python=python, timeout_s=PATIENCE_S)
    assert replayed["height"] == LATER
    heads = {bnnchain_json("verify", "--home", str(home))["head"] for home in (here, board)} | {replayed["head"]}
    assert len(heads) == 1
