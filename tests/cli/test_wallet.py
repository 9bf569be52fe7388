"""The wallet's commands: who is asked for a password, which chains want one, and what is said where it is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from builders import make_spec
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain import wallet as wallet_module
from bnnchain.cli import cli, unlock
from bnnchain.cli.unlock import CREDENTIAL, Unlocking, read_password
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.signatures import public_key
from bnnchain.home import Home
from bnnchain.sealing import MAX_PASSWORD_BYTES, MIN_COST, ScryptCost, seal_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SECRET = KEY.private_bytes_raw().hex()
ADDRESS = public_key(KEY).hex()
PASSWORD = "tr0ub4dor"  # noqa: S105  (of a test)
CHILD = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credential and no settings of whoever runs the tests; passwords cost little."""
    for name in [name for name in os.environ if name.startswith("BNNCHAIN_") or name == "CREDENTIALS_DIRECTORY"]:
        monkeypatch.delenv(name)
    cheap = ScryptCost(MIN_COST)
    monkeypatch.setattr(wallet_module, "seal_key", lambda key, password, _cost: seal_key(key, password, cheap))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def real(home: Home) -> Home:
    """A home of a chain that is not for tests."""
    home.create(make_spec(is_lottery_open=0))
    return home


@pytest.fixture
def tested(home: Home) -> Home:
    """A home of a chain for tests."""
    home.create(make_spec(is_lottery_open=1))
    return home


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    return write(tmp_path / "password", PASSWORD + "\n")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody types what is given as input."""
    monkeypatch.setattr(unlock, "is_terminal", lambda: True)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def run(*arguments: str | Path, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], input=typed, standalone_mode=False)


def done(*arguments: str | Path, typed: str | None = None) -> str:
    result = run(*arguments, typed=typed)
    assert result.exception is None, result.exception
    return result.output


def opened(home: Home, password: str = PASSWORD) -> Ed25519PrivateKey:
    return home.wallet.unlock(lambda: password)


# Making


def test_create_with_a_password_file(home: Home, password_file: Path) -> None:
    said = done("wallet", "create", "--home", home.path, "--password-file", password_file)
    address = home.wallet.address().hex()
    assert said == f"{address}\nencrypted, {home.wallet.file}\n"
    assert public_key(opened(home)).hex() == address


@pytest.mark.usefixtures("terminal")
def test_create_asks_twice_and_shows_nothing(home: Home) -> None:
    said = done("wallet", "create", "--home", home.path, typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert PASSWORD not in said
    assert opened(home)


@pytest.mark.usefixtures("terminal")
def test_create_asks_again_where_two_passwords_differ(home: Home) -> None:
    said = done("wallet", "create", "--home", home.path, typed=f"one\ntwo\n{PASSWORD}\n{PASSWORD}\n")
    assert "do not match" in said
    assert opened(home)


def test_create_without_anybody_to_ask(home: Home) -> None:
    with pytest.raises(Unavailable) as refusal:
        raise run("wallet", "create", "--home", home.path).exception or AssertionError
    assert "no terminal to ask on; give --password-file FILE" in str(refusal.value)
    assert "--no-password" in str(refusal.value)
    assert not home.wallet.exists


def test_create_without_a_password_only_where_it_is_said(home: Home) -> None:
    assert "not encrypted" in done("wallet", "create", "--home", home.path, "--no-password")
    assert home.wallet.is_plain


def test_create_never_replaces(home: Home, password_file: Path) -> None:
    home.wallet.create(KEY, None)
    for command in (["create"], ["import", password_file]):
        result = run("wallet", *command, "--home", home.path, "--password-file", password_file)
        assert isinstance(result.exception, Unavailable)
        assert f"has a wallet already, of {ADDRESS}" in str(result.exception)
    assert home.wallet.plain_file.read_text().strip() == SECRET


def test_import_of_a_plain_key_and_of_a_wallet(home: Home, tmp_path: Path, password_file: Path) -> None:
    done(
        *("wallet", "import", write(tmp_path / "key", SECRET)),
        *("--home", home.path, "--password-file", password_file),
    )
    assert opened(home).private_bytes_raw().hex() == SECRET
    other = Home(tmp_path / "other")
    done("wallet", "import", home.wallet.file, "--home", other.path)
    assert opened(other).private_bytes_raw().hex() == SECRET


def test_address_asks_for_no_password(home: Home, password_file: Path, tmp_path: Path) -> None:
    home.wallet.create(KEY, PASSWORD)
    result = tmp_path / "result.json"
    assert done("wallet", "address", "--home", home.path, "--json", result).startswith(ADDRESS)
    file = str(home.wallet.file)
    assert json.loads(result.read_text()) == {"address": ADDRESS, "is_encrypted": True, "file": file}


# The way up from a plain key


def test_encrypt(home: Home, password_file: Path) -> None:
    home.wallet.create(KEY, None)
    assert "encrypted, " in done("wallet", "encrypt", "--home", home.path, "--password-file", password_file)
    assert not home.wallet.plain_file.exists()
    assert opened(home).private_bytes_raw().hex() == SECRET


def test_what_encrypt_refuses(home: Home, password_file: Path) -> None:
    assert isinstance(
        run("wallet", "encrypt", "--home", home.path, "--password-file", password_file).exception, Unavailable
    )
    home.wallet.create(KEY, None)
    assert isinstance(run("wallet", "encrypt", "--home", home.path, "--no-password").exception, click.UsageError)
    home.wallet.seal(KEY, PASSWORD)
    again = run("wallet", "encrypt", "--home", home.path, "--password-file", password_file)
    assert "is encrypted already; `bnnchain wallet change-password` changes it" in str(again.exception)


def test_change_password(home: Home, password_file: Path, tmp_path: Path) -> None:
    home.wallet.create(KEY, PASSWORD)
    new = write(tmp_path / "new", "battery staple")
    order = ("wallet", "change-password", "--home", home.path)
    done(*order, "--password-file", password_file, "--new-password-file", new)
    assert opened(home, "battery staple").private_bytes_raw().hex() == SECRET
    wrong = run(*order, "--password-file", password_file, "--new-password-file", new)
    assert isinstance(wrong.exception, Invalid)
    assert str(wrong.exception) == f"wrong-password (address={ADDRESS})"
    assert opened(home, "battery staple").private_bytes_raw().hex() == SECRET


def test_change_password_of_a_plain_key(home: Home) -> None:
    home.wallet.create(KEY, None)
    assert "bnnchain wallet encrypt" in str(run("wallet", "change-password", "--home", home.path).exception)


def test_a_damaged_wallet_is_a_fault_and_is_left(home: Home, password_file: Path, tmp_path: Path) -> None:
    home.wallet.create(KEY, PASSWORD)
    damaged = home.wallet.file.read_bytes().replace(b"aes", b"des")
    home.wallet.file.write_bytes(damaged)
    given = ("--home", home.path, "--password-file", password_file)
    new = write(tmp_path / "new", "x")
    for command in (["address"], ["create"], ["encrypt"], ["change-password", "--new-password-file", new]):
        result = run("wallet", *command, *(given[:2] if command == ["address"] else given))
        assert isinstance(result.exception, (Fault, Unavailable)), command
    assert isinstance(run("wallet", "address", *given[:2]).exception, Fault)
    assert home.wallet.file.read_bytes() == damaged


# Opening


def test_a_chain_for_tests_takes_a_plain_key(tested: Home) -> None:
    tested.wallet.create(KEY, None)
    assert Unlocking().key(tested)
    assert Unlocking().key_without_asking(tested)


def test_other_chains_want_a_password_or_the_operators_word(real: Home) -> None:
    real.wallet.create(KEY, None)
    with pytest.raises(Unavailable) as refusal:
        Unlocking().key(real)
    assert f"`bnnchain wallet encrypt --home {real.path}`, or say --no-password" in str(refusal.value)
    assert Unlocking().key_without_asking(real) is None
    assert Unlocking(is_plain_allowed=True).key(real)
    assert Unlocking(is_plain_allowed=True).key_without_asking(real)


def test_the_credential_opens_and_the_file_comes_first(
    real: Home, password_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real.wallet.create(KEY, PASSWORD)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Unlocking().key_without_asking(real) is None
    credential = write(tmp_path / CREDENTIAL, PASSWORD + "\n")
    assert Unlocking().key(real)
    assert Unlocking().key_without_asking(real)
    credential.write_text("another")
    assert Unlocking(password_file).key(real)
    with pytest.raises(Invalid, match="wrong-password"):
        Unlocking().key(real)


def test_a_validator_is_never_asked(real: Home, monkeypatch: pytest.MonkeyPatch, terminal: None) -> None:
    assert Unlocking().key_without_asking(real) is None
    real.wallet.create(KEY, PASSWORD)

    def fail(*_arguments: object, **_options: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(click, "prompt", fail)
    assert Unlocking().key_without_asking(real) is None


def test_a_validator_with_a_wrong_password_says_so(real: Home, tmp_path: Path) -> None:
    real.wallet.create(KEY, PASSWORD)
    with pytest.raises(Invalid, match="wrong-password"):
        Unlocking(write(tmp_path / "wrong", "guess")).key_without_asking(real)


def test_mining_on_a_real_chain_without_a_wallet(real: Home) -> None:
    result = run("mine", "--home", real.path)
    assert isinstance(result.exception, Unavailable)
    assert "bnnchain wallet create" in str(result.exception)


# init


def test_joining_a_real_chain_makes_no_wallet(real: Home, tmp_path: Path) -> None:
    said = done("init", "--home", tmp_path / "new", "--spec", real.spec_file)
    assert "wallet   none; `bnnchain wallet create` makes one" in said
    assert not Home(tmp_path / "new").wallet.exists


def test_joining_a_real_chain_makes_a_wallet_where_it_is_said_how(
    real: Home, tmp_path: Path, password_file: Path
) -> None:
    sealed, plain = Home(tmp_path / "sealed"), Home(tmp_path / "plain")
    done("init", "--home", sealed.path, "--spec", real.spec_file, "--password-file", password_file)
    done("init", "--home", plain.path, "--spec", real.spec_file, "--no-password")
    assert sealed.wallet.is_sealed
    assert plain.wallet.is_plain


def test_a_new_real_chain_wants_a_password(home: Home, password_file: Path) -> None:
    refused = run("init", "--preset", "main", "--home", home.path)
    assert isinstance(refused.exception, Unavailable)
    assert not home.is_initialised()
    done("init", "--preset", "main", "--home", home.path, "--password-file", password_file)
    assert home.wallet.is_sealed
    assert dict(home.spec().allocations).keys() == {home.wallet.address()}


def test_a_new_chain_for_tests_says_once_that_its_key_is_plain(home: Home) -> None:
    assert "wallet   not encrypted; `bnnchain wallet encrypt`" in done("init", "--home", home.path)
    assert home.wallet.is_plain


def test_a_new_chain_for_tests_takes_a_password_where_one_is_given(home: Home, password_file: Path) -> None:
    done("init", "--home", home.path, "--password-file", password_file)
    assert home.wallet.is_sealed


# Passwords


@pytest.mark.parametrize(
    ("content", "password"), [("a b\n", "a b"), ("x\r\n", "x"), (" x ", " x "), ("x\n\n", "x\n"), ("ä", "ä")]
)
def test_a_password_file_is_its_password(tmp_path: Path, content: str, password: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content.encode())
    file.chmod(0o600)
    assert read_password(file) == password


def test_what_is_no_password_file(tmp_path: Path, real: Home) -> None:
    real.wallet.create(KEY, PASSWORD)
    with pytest.raises(Unavailable, match="cannot read the password in"):
        read_password(tmp_path / "nothing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match="bad-password"):
        read_password(tmp_path / "binary")
    for content in ("", "\n", "x" * (MAX_PASSWORD_BYTES + 5)):
        with pytest.raises(Invalid, match="bad-password"):
            Unlocking(write(tmp_path / "bad", content)).key(real)


def test_a_password_that_everybody_may_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path / "password", PASSWORD)
    read_password(file)
    assert not caplog.records
    file.chmod(0o644)
    read_password(file)
    assert "every user of this machine can read the password" in caplog.text
    assert PASSWORD not in caplog.text


# A real terminal


@pytest.fixture
def on_terminal(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "bnnchain", "wallet", "create", "--home", str(home.path)]
    child = [sys.executable, "-c", CHILD, *command]
    with subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_nothing_typed_is_echoed(home: Home, on_terminal: subprocess.Popen[bytes]) -> None:
    assert on_terminal.stdin is not None
    assert on_terminal.stdout is not None
    seen = b""
    for question in (b"New password of the wallet: ", b"Repeat for confirmation: "):
        while not seen.endswith(question):
            byte = on_terminal.stdout.read(1)
            assert byte, seen
            seen += byte
        on_terminal.stdin.write(PASSWORD.encode() + b"\n")
        on_terminal.stdin.flush()
    seen += on_terminal.stdout.read()
    assert on_terminal.wait(60) == 0, seen
    assert PASSWORD.encode() not in seen
    assert home.wallet.is_sealed
    assert opened(home)
