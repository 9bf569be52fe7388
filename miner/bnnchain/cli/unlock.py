"""Where a wallet's password comes from, and which chains may do without: options of every command that signs.

A password is never an argument or a variable, both of which other users of a machine can read, and never in a log.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.home import is_for_tests
from bnnchain.sealing import MAX_PASSWORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.home import Home

log = logging.getLogger(__name__)

CREDENTIAL = "wallet-password"
"""Name of the systemd credential (``LoadCredential=wallet-password:FILE`` in the unit)."""
OTHERS_MAY_READ = 0o004


@dataclass(frozen=True, slots=True)
class Unlocking:
    """How this run of a command opens a wallet."""

    password_file: Path | None = None
    is_plain_allowed: bool = False
    """A key in the clear is used, and made, on chains that are not for tests."""

    @property
    def says_how(self) -> bool:
        """Answer whether the operator said how a wallet is to be kept."""
        return self.password_file is not None or self.is_plain_allowed

    def key(self, home: Home) -> Ed25519PrivateKey:
        """Return a home's key, asking for its password where it is sealed and no file or credential has it.

        Raises :class:`Unavailable` where there is no key, no password, or a plain key that this chain wants sealed.
        """
        wallet = home.wallet
        if wallet.is_plain and not self._may_be_plain(home):
            raise Unavailable(
                f"the key in {home.path} is not encrypted, and {home.spec().name} is no chain for tests:"
                f" run `bnnchain wallet encrypt --home {home.path}`, or say --no-password"
            )

        return self.open(home)

    def open(self, home: Home) -> Ed25519PrivateKey:
        """Return a home's key, however it is kept; raises as :meth:`key`."""

        def password() -> str:
            known = self._known_password()
            return _ask(f"Password of {home.wallet.file}") if known is None else known

        return home.wallet.unlock(password)

    def key_without_asking(self, home: Home) -> Ed25519PrivateKey | None:
        """Return a home's key for a node that can do without one: None where it would take a question."""
        wallet = home.wallet
        if wallet.is_plain and self._may_be_plain(home):
            return wallet.unlock(str)
        password = self._known_password() if wallet.is_sealed else None
        if password is None:
            log.info("no key is open: who signs two blocks on one parent is seen, not reported")
            return None
        return wallet.unlock(lambda: password)

    def make_key(self, home: Home, *, for_tests: bool) -> None:
        """Make a home's wallet where it has none: under a password, or plain where the chain is for tests.

        Raises :class:`Unavailable` where a password is wanted and nobody can be asked.
        """
        if home.wallet.exists:
            return
        password = self._known_password()
        if password is None and not (for_tests or self.is_plain_allowed):
            password = ask_new_password()
        home.wallet.create(Ed25519PrivateKey.generate(), password)

    def new_password(self) -> str | None:
        """Return the password for a wallet: from the file, or asked for twice; None where none shall be.

        The systemd credential does not count here: it opens wallets, and an operator makes them.
        """
        if self.is_plain_allowed:
            return None
        return ask_new_password() if self.password_file is None else read_password(self.password_file)

    def _known_password(self) -> str | None:
        if self.password_file is not None:
            return read_password(self.password_file)
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        credential = Path(directory) / CREDENTIAL if directory else None
        return read_password(credential) if credential is not None and credential.exists() else None

    def _may_be_plain(self, home: Home) -> bool:
        return self.is_plain_allowed or is_for_tests(home.spec())


def unlock_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--password-file`` and ``--no-password``, and both to it as ``unlocking``."""

    @click.option(
        "--password-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with the wallet's password.  [default: the systemd credential wallet-password, or ask]",
    )
    @click.option(
        "--no-password", is_flag=True, help="Use a key that is not encrypted, though the chain is not for tests."
    )
    @functools.wraps(command)
    def unlocked(*arguments: Any, password_file: Path | None, no_password: bool, **values: Any) -> Any:  # noqa: ANN401
        return command(*arguments, unlocking=Unlocking(password_file, no_password), **values)

    return unlocked


def read_password(path: Path) -> str:
    """Return the password in a file, its last line end left out.

    Raises :class:`Unavailable` where it cannot be read and :class:`Invalid` ``bad-password`` where it is no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PASSWORD_BYTES + 3)
            if os.fstat(file.fileno()).st_mode & OTHERS_MAY_READ:
                log.warning("every user of this machine can read the password in %s; chmod 600 helps", path)
        return data.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise Unavailable(f"cannot read the password in {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise Invalid("bad-password", file=path, wanted="UTF-8 text") from None


def ask_new_password() -> str:
    """Return a password typed twice; raises :class:`Unavailable` where there is no terminal."""
    return _ask("New password of the wallet", is_new=True)


def _ask(question: str, *, is_new: bool = False) -> str:
    if not is_terminal():
        raise Unavailable(
            f"{question}: no terminal to ask on; give --password-file FILE or the systemd credential {CREDENTIAL}"
            + (", or say --no-password" if is_new else "")
        )
    answer: str = click.prompt(question, hide_input=True, confirmation_prompt=is_new, err=True)
    return answer


def is_terminal() -> bool:
    """Answer whether there is somebody to ask."""
    return sys.stdin is not None and sys.stdin.isatty()
