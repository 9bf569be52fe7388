"""Two real processes on loopback: late start, transfers, restarts after SIGKILL."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING

import pytest
from e2e.processes import NodeProcess, bnnchain, bnnchain_json

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20_26
KILLS = 20


@pytest.fixture
def miner_home(tmp_path: Path) -> Path:
    home = tmp_path / "miner"
    bnnchain("init", "--home", str(home))
    return home


def join(miner_home: Path, tmp_path: Path) -> Path:
    home = tmp_path / "validator"
    bnnchain("init", "--home", str(home), "--spec", str(miner_home / "chain.json"))
    return home


@pytest.mark.slow
def test_a_late_validator_catches_up_and_a_transfer_arrives(miner_home: Path, tmp_path: Path) -> None:
    validator_home = join(miner_home, tmp_path)
    recipient = bnnchain_json("wallet", "address", "--home", str(validator_home))["address"]
    with NodeProcess("mine", "--blocks", "5", "--seed", "1", home=miner_home) as miner:
        address = miner.wait_ready()
        miner.wait_height(5)
        with NodeProcess("node", "--peer", address, home=validator_home) as validator:
            own = validator.wait_ready()
            validator.wait_height(5)
            sent = bnnchain_json("tx", "send", recipient, "1234", "--home", str(miner_home), "--node", own)
            status = bnnchain_json("tx", "status", sent["id"], "--node", address)
            assert status["state"] == "waiting"
            assert validator.stop() == 0
        assert miner.stop() == 0
    with NodeProcess("mine", "--blocks", "6", "--seed", "2", home=miner_home) as miner:
        address = miner.wait_ready()
        with NodeProcess("node", "--peer", address, home=validator_home) as validator:
            validator.wait_ready()
            validator.wait_height(6)
            assert validator.stop() == 0
        assert miner.stop() == 0
    heads = {bnnchain_json("verify", "--home", str(home))["head"] for home in (miner_home, validator_home)}
    assert len(heads) == 1
    for name in ("miner", "validator"):
        assert "Traceback" not in (tmp_path / f"{name}.stderr").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_at_random_moments_loses_nothing(miner_home: Path, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    accepted = 0
    for kill in range(KILLS):
        with NodeProcess("mine", "--seed", str(kill), home=miner_home) as miner:
            if rng.random() < 0.8:
                miner.wait_ready()
                miner.read_for(rng.uniform(0, 3))
            else:
                time.sleep(rng.uniform(0, 1.5))
            miner.kill()
            accepted = max(accepted, miner.height)
        result = bnnchain_json("verify", "--home", str(miner_home), "--backend", "numba")
        assert result["height"] >= accepted, f"seed {SEED}, kill {kill}"
    assert accepted >= 5, f"seed {SEED}: too few blocks to show anything"
    assert "Traceback" not in (tmp_path / "miner.stderr").read_text()


def test_demo_ends_well_and_reports_every_block(tmp_path: Path) -> None:
    report = tmp_path / "out.json"
    done = bnnchain("demo", "--json", str(report), timeout_s=280)
    result = json.loads(report.read_text())
    blocks = result["blocks"]
    evolved = [block for block in blocks if block["kind"] == "EVOLVE"]
    assert "judged again by the second process" in done.stdout
    assert len(evolved) >= 5
    assert all(block["validated_by_peer"] for block in blocks if block["height"] <= evolved[4]["height"])
    for block in evolved:
        assert block["correct_new"] > block["correct_parent"]
        assert block["weights_changed_bp"] >= 50
        assert 0 < block["correct_heldout"] <= block["heldout_total"]
        assert block["bytes"] <= 750
