"""A data set of a user's own, by the command line: proposed, its pool handed over, known to a second process."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from e2e.processes import NodeProcess, bnnchain, bnnchain_json

if TYPE_CHECKING:
    from pathlib import Path

POOL, HELDOUT, SIDE = 400, 40, 6
PATIENCE_S = 90


def write_idx(directory: Path) -> Path:
    """Write IDX files of small noisy quadrants."""
    rng = np.random.default_rng(5)
    directory.mkdir()
    for prefix, count in (("train", POOL), ("t10k", HELDOUT)):
        labels = (np.arange(count) % 4).astype(np.uint8)
        pixels = rng.integers(0, 160, (count, SIDE, SIDE)).astype(np.uint8)
        images = struct.pack(">4I", 0x0803, count, SIDE, SIDE) + pixels.tobytes()
        (directory / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        (directory / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, count) + labels.tobytes())
    return directory


@pytest.mark.slow
def test_upload_bounty_and_status_by_the_command_line(tmp_path: Path) -> None:
    data, uploader, other = write_idx(tmp_path / "data"), tmp_path / "uploader", tmp_path / "other"
    bnnchain("init", "--home", str(uploader))
    bnnchain("init", "--home", str(other), "--spec", str(uploader / "chain.json"))
    mining = ("mine", "--seed", "1", "--hold", "0.2", "--blocks", "40")
    with NodeProcess(*mining, home=uploader) as miner:
        address = miner.wait_ready()
        with NodeProcess("node", "--peer", address, home=other) as validator:
            own = validator.wait_ready()
            order = ("dataset", "upload", "quads", "--home", str(uploader), "--data", str(data), "--node", address)
            proposed = bnnchain_json(*order, "--bounty", "77")
            wait_included(proposed["id"], address)
            topped = bnnchain_json(
                "tx", "bounty", proposed["dataset"], "23", "--home", str(uploader), "--node", address
            )
            wait_included(topped["id"], address)
            deadline = time.monotonic() + PATIENCE_S
            while not (row := here(other, proposed["dataset"])):
                assert time.monotonic() < deadline, "the pool never came to the other node"
                time.sleep(0.5)
            assert (row["name"], row["bounty"], row["of"]) == ("quads", 100, POOL)
            status = bnnchain_json("show", "node", "--node", own)
            assert status["missing"] == []
            assert status["alarm"] is None
            assert status["agreement"] == "none (1 of 1 dialled peers on one tip)"
            twice = bnnchain(*order, check=False)
            assert "dataset-known" in twice.stderr
            assert validator.stop() == 0
        assert miner.stop() == 0
    assert bnnchain_json("verify", "--home", str(other))["height"] >= 2
    for name in ("uploader", "other"):
        assert "Traceback" not in (tmp_path / f"{name}.stderr").read_text()


def here(home: Path, dataset_id: str) -> dict[str, object] | None:
    """Return what the home's chain says of a data set whose pool is there."""
    rows = bnnchain_json("show", "datasets", "--home", str(home))["datasets"]
    return next((row for row in rows if row["id"] == dataset_id and row["is_here"] and row["bounty"] == 100), None)


def wait_included(identity: str, address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while bnnchain_json("tx", "status", identity, "--node", address)["state"] != "included":
        assert time.monotonic() < deadline, "no block took the transaction"
        time.sleep(0.5)


def test_a_pool_is_provided_without_a_node_running(tmp_path: Path) -> None:
    data, home = write_idx(tmp_path / "data"), tmp_path / "home"
    bnnchain("init", "--home", str(home))
    first = bnnchain_json("dataset", "provide", "quads", "--home", str(home), "--data", str(data))
    again = bnnchain_json("dataset", "provide", "quads", "--home", str(home), "--data", str(data))
    assert first == again
    assert first["bytes"] == POOL * (-(-SIDE * SIDE // 8) + 1)
    missing = bnnchain("dataset", "provide", "nothing", "--home", str(home), check=False)
    assert missing.stderr.startswith("error: data set 'nothing'")


def test_a_checkpoint_that_the_home_contradicts_stops_the_node(tmp_path: Path) -> None:
    home = tmp_path / "home"
    bnnchain("init", "--home", str(home))
    wrong = bnnchain("node", "--home", str(home), "--checkpoint", f"0:{'ab' * 32}", check=False)
    assert wrong.returncode == 1
    errors = [line for line in wrong.stderr.splitlines() if not line.startswith("{")]  # beside the log
    assert len(errors) == 1
    assert "contradicts the checkpoint at height 0" in errors[0]
    for text in ("7", "x:" + "ab" * 32, "-1:" + "ab" * 32, "7:abc", "1" * 19 + ":" + "ab" * 32):
        bad = bnnchain("node", "--home", str(home), "--checkpoint", text, check=False)
        assert bad.returncode == 1
        assert bad.stderr.startswith("error: bad-id"), text
