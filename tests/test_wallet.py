"""The key files of a home: who may read them, what replaces them, and that nothing is lost on the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.signatures import public_key
from bnnchain.durable import write_durably
from bnnchain.sealing import MIN_COST, ScryptCost
from bnnchain.wallet import Wallet

if TYPE_CHECKING:
    from collections.abc import Iterator

CHEAP = ScryptCost(MIN_COST)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
SECRET = KEY.private_bytes_raw().hex()


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet(tmp_path / "home")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def never() -> str:
    raise AssertionError("nobody is to be asked")


def opens(wallet: Wallet, password: str) -> bool:
    return wallet.unlock(lambda: password).private_bytes_raw() == KEY.private_bytes_raw()


def content(wallet: Wallet) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in wallet.directory.iterdir()}


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("password", [None, "secret"])
def test_only_the_owner_reads_a_key_whatever_the_umask(wallet: Wallet, password: str | None) -> None:
    wallet.create(KEY, password, CHEAP)
    [file] = wallet.directory.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.usefixtures("open_umask")
def test_what_a_killed_writer_left_lends_no_permissions(tmp_path: Path) -> None:
    left = tmp_path / "wallet.json.new"
    left.write_text("half")
    left.chmod(0o666)
    write_durably(tmp_path / "wallet.json", b"whole", 0o600)
    assert not left.exists()
    assert stat.S_IMODE((tmp_path / "wallet.json").stat().st_mode) == 0o600
    assert (tmp_path / "wallet.json").read_bytes() == b"whole"


def test_what_lies_beside_is_never_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "key.new").symlink_to(victim)
    write_durably(tmp_path / "key", b"secret", 0o600)
    assert victim.read_text() == "mine"


def test_a_plain_key_is_what_earlier_versions_wrote(wallet: Wallet) -> None:
    wallet.directory.mkdir()
    wallet.plain_file.write_text(SECRET + "\n")
    assert wallet.is_plain
    assert wallet.address() == public_key(KEY)
    assert wallet.unlock(never).private_bytes_raw().hex() == SECRET


def test_a_sealed_key_tells_its_address_to_everybody_and_opens_to_one(wallet: Wallet) -> None:
    wallet.create(KEY, "secret", CHEAP)
    assert not wallet.is_plain
    assert wallet.address() == public_key(KEY)
    assert opens(wallet, "secret")
    with pytest.raises(Invalid, match="wrong-password"):
        wallet.unlock(lambda: "guess")


def test_no_wallet(wallet: Wallet) -> None:
    assert not wallet.exists
    for act in (wallet.address, lambda: wallet.unlock(never)):
        with pytest.raises(Unavailable, match="bnnchain wallet create"):
            act()


@pytest.mark.parametrize("first", [None, "secret"])
@pytest.mark.parametrize("second", [None, "other"])
def test_a_wallet_is_never_made_over_another(wallet: Wallet, first: str | None, second: str | None) -> None:
    wallet.create(KEY, first, CHEAP)
    before = content(wallet)
    with pytest.raises(Fault, match="nothing was changed"):
        wallet.create(OTHER, second, CHEAP)
    with pytest.raises(Fault, match="nothing was changed"):
        wallet.seal(OTHER, "other", CHEAP)
    assert content(wallet) == before


def test_encrypting_removes_the_plain_key(wallet: Wallet) -> None:
    wallet.create(KEY, None)
    wallet.seal(wallet.plain_key(), "secret", CHEAP)
    assert [*content(wallet)] == ["wallet.json"]
    assert SECRET.encode() not in content(wallet)["wallet.json"]
    assert opens(wallet, "secret")


def test_encrypting_goes_on_where_a_power_cut_left_both_files(wallet: Wallet) -> None:
    wallet.create(KEY, "secret", CHEAP)
    wallet.plain_file.write_text(SECRET)
    assert not wallet.is_plain
    wallet.seal(wallet.plain_key(), "again", CHEAP)
    assert [*content(wallet)] == ["wallet.json"]
    assert opens(wallet, "again")


def test_a_plain_key_of_another_account_is_left(wallet: Wallet) -> None:
    wallet.create(KEY, "secret", CHEAP)
    wallet.plain_file.write_text(OTHER.private_bytes_raw().hex())
    with pytest.raises(Fault, match="another account's key and was left"):
        wallet.seal(KEY, "again", CHEAP)
    assert wallet.plain_file.read_text() == OTHER.private_bytes_raw().hex()
    assert opens(wallet, "again")


def test_changing_the_password_keeps_the_key(wallet: Wallet) -> None:
    wallet.create(KEY, "old", CHEAP)
    wallet.seal(wallet.unlock(lambda: "old"), "new", CHEAP)
    assert opens(wallet, "new")
    with pytest.raises(Invalid, match="wrong-password"):
        wallet.unlock(lambda: "old")


@pytest.mark.parametrize("name", ["wallet.json", "key"])
@pytest.mark.parametrize("damage", [b"", b"\xff\0", b"zz" * 32, SECRET[:-1].encode(), b"{}", b"[" * 9_000])
def test_a_damaged_file_is_a_fault_and_stays_as_it_is(wallet: Wallet, name: str, damage: bytes) -> None:
    wallet.directory.mkdir()
    file = wallet.directory / name
    file.write_bytes(damage)
    acts = [
        wallet.address,
        lambda: wallet.unlock(lambda: "secret"),
        lambda: wallet.create(KEY, "secret", CHEAP),
        lambda: wallet.seal(KEY, "secret", CHEAP),
    ]
    for act in acts:
        with pytest.raises(Fault) as fault:
            act()
        assert str(file) in str(fault.value)
        assert SECRET[:-1] not in str(fault.value)
    assert content(wallet) == {name: damage}


@pytest.mark.parametrize(("where", "call"), [(os, "fsync"), (Path, "replace")])
def test_a_failing_disk_leaves_the_old_wallet(
    wallet: Wallet, where: object, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet.create(KEY, "old", CHEAP)
    before = content(wallet)["wallet.json"]

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(where, call, fail)
        with pytest.raises(Fault, match="No space left"):
            wallet.seal(KEY, "new", CHEAP)
    assert content(wallet)["wallet.json"] == before
    assert opens(wallet, "old")


def test_taking_over_another_homes_wallet(wallet: Wallet, tmp_path: Path) -> None:
    source = Wallet(tmp_path / "source")
    source.create(KEY, "secret", CHEAP)
    wallet.take(source.file, never)
    assert content(wallet) == content(source)
    assert opens(wallet, "secret")
    assert stat.S_IMODE(wallet.file.stat().st_mode) == 0o600
    with pytest.raises(Fault, match="nothing was changed"):
        wallet.take(source.file, never)


@pytest.mark.parametrize("password", [None, "secret"])
def test_taking_over_a_plain_key(wallet: Wallet, tmp_path: Path, password: str | None) -> None:
    (tmp_path / "key").write_text(SECRET)
    wallet.take(tmp_path / "key", lambda: password)
    assert wallet.is_sealed is (password is not None)
    assert opens(wallet, password or "")


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"no key", b"\xff" * 32, b"0" * 63])
def test_what_is_no_wallet_is_not_taken(wallet: Wallet, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(Fault):
        wallet.take(tmp_path / "file", lambda: None)
    assert not wallet.exists
