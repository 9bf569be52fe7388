"""Keys in real processes: nothing secret in any output, payouts that arrive, a validator without a wallet."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from e2e.processes import NodeProcess, bnnchain, bnnchain_json

from bnnchain.consensus.signatures import public_key
from bnnchain.payout import PAYOUT_RESERVE

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
PAID = public_key(Ed25519PrivateKey.from_private_bytes(bytes(range(32)))).hex()
SWEPT = public_key(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))).hex()
PASSWORD = "correct-horse-battery"  # noqa: S105  (of a test)
FEE = 1_000
PATIENCE_S = 60


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def secrets_in(text: str) -> list[str]:
    """Return what must not be in ``text`` and is."""
    seed = KEY.private_bytes_raw()
    forms = [PASSWORD, seed.hex(), base64.b64encode(seed).decode(), repr(seed)[2:-1], seed.decode("latin-1")]
    assert secrets_of(forms, "x".join(forms)) == forms
    return secrets_of(forms, text)


def secrets_of(forms: list[str], text: str) -> list[str]:
    return [form for form in forms if form.lower() in text.lower()]


def wait_balance(address: str, home: Path, key: str, least: int) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        had: int = bnnchain_json("wallet", "balance", "--home", str(home), "--address", key)["balance"]
        if had >= least:
            return had
        assert time.monotonic() < deadline, f"{key} has {had} at {address}"
        time.sleep(0.5)


@pytest.mark.slow
def test_a_sealed_miner_pays_out_and_tells_nothing(tmp_path: Path) -> None:
    home, password_file = tmp_path / "miner", write(tmp_path / "password", PASSWORD + "\n")
    opening = ("--password-file", str(password_file))
    key_file = write(tmp_path / "exported", KEY.private_bytes_raw().hex())
    said = [bnnchain("-vv", "wallet", "import", str(key_file), "--home", str(home), *opening)]
    said.append(bnnchain("-vv", "init", "--home", str(home), *opening))
    wrong = write(tmp_path / "wrong", "not-" + PASSWORD)
    refused = bnnchain("-vv", "mine", "--home", str(home), "--password-file", str(wrong), check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1] == f"error: wrong-password (address={public_key(KEY).hex()})"
    unasked = bnnchain("mine", "--home", str(home), check=False)
    assert "no terminal to ask on" in unasked.stderr
    arguments = (
        "mine",
        "--blocks",
        "40",
        "--hold",
        "0.2",
        "--seed",
        "1",
        "--payout",
        PAID,
        "--log-level",
        "debug",
        *opening,
    )
    with NodeProcess(*arguments, home=home) as miner:
        address = miner.wait_ready()
        command, variables = (Path(f"/proc/{miner.pid}/{name}").read_text() for name in ("cmdline", "environ"))
        wait_balance(address, home, PAID, 10**11)
        assert bnnchain_json("wallet", "balance", "--home", str(home))["balance"] == PAYOUT_RESERVE
        order = ("wallet", "sweep", SWEPT, "--keep", "500", "--node", address, "--home", str(home), *opening)
        swept = bnnchain_json(*order)
        assert swept["amount"] == PAYOUT_RESERVE - FEE - 500
        assert wait_balance(address, home, SWEPT, 1) == swept["amount"]
        empty = bnnchain(*order, check=False)
        assert "nothing to send" in empty.stderr
        said += [refused, unasked, empty]
        assert miner.stop() == 0
    output = "\n".join([*miner.printed, miner.stderr_file.read_text(errors="replace")])
    assert "DEBUG" in output.upper() or "paying" in output, "the log was on"
    assert secrets_in(output) == []
    assert secrets_in("".join(done.stdout + done.stderr for done in said)) == []
    assert secrets_in(command + variables) == []


@pytest.mark.slow
def test_a_validator_needs_no_wallet(tmp_path: Path) -> None:
    founder, home = tmp_path / "founder", tmp_path / "validator"
    bnnchain("init", "--preset", "main", "--home", str(founder), "--no-password")
    bnnchain("init", "--home", str(home), "--spec", str(founder / "chain.json"))
    with NodeProcess("node", home=home) as validator:
        validator.wait_ready()
        assert validator.stop() == 0
    assert not list(home.glob("key")) + list(home.glob("wallet*"))
    refused = bnnchain("mine", "--home", str(founder), "--listen", "127.0.0.1:0", check=False)
    assert "is not encrypted, and main is no chain for tests" in refused.stderr
