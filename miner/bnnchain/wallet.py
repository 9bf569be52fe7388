"""The key of a home: sealed in ``wallet.json``, or plain in ``key`` as chains for tests may have it.

One home, one key: it signs blocks and transactions.  A key that only gets paid needs no home on the miner's machine
(``bnnchain mine --payout``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain.consensus.errors import Fault, Unavailable
from bnnchain.consensus.signatures import public_key
from bnnchain.durable import sync_directory, write_durably
from bnnchain.sealing import (
    DEFAULT_COST,
    MAX_WALLET_BYTES,
    SealedKey,
    decode_sealed_key,
    encode_sealed_key,
    open_key,
    seal_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnnchain.consensus.types import PublicKey
    from bnnchain.sealing import ScryptCost

KEY_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Wallet:
    """The key files of one directory."""

    directory: Path

    @property
    def file(self) -> Path:
        """The sealed key."""
        return self.directory / "wallet.json"

    @property
    def plain_file(self) -> Path:
        """The key in the clear: 64 hex digits."""
        return self.directory / "key"

    @property
    def is_sealed(self) -> bool:
        return self.file.exists()

    @property
    def is_plain(self) -> bool:
        """Answer whether the key lies in the clear, and not sealed."""
        return self.plain_file.exists() and not self.is_sealed

    @property
    def exists(self) -> bool:
        return self.is_sealed or self.plain_file.exists()

    def address(self) -> PublicKey:
        """Return the account's public key, for which no password is needed; raises as :meth:`unlock`."""
        return self._read_sealed().address if self.is_sealed else public_key(self.plain_key())

    def unlock(self, password: Callable[[], str]) -> Ed25519PrivateKey:
        """Return the key, asking for the password only where it is sealed.

        Raises :class:`Unavailable` where there is none, :class:`Invalid` ``wrong-password``, and :class:`Fault` where
        a file is damaged.
        """
        return open_key(self._read_sealed(), password()) if self.is_sealed else self.plain_key()

    def create(self, key: Ed25519PrivateKey, password: str | None, cost: ScryptCost = DEFAULT_COST) -> None:
        """Write a key where there is none, sealed unless ``password`` is None."""
        if self.exists:
            raise Fault(f"{self.directory} has a wallet already, of {self.address().hex()}; nothing was changed")
        if password is None:
            self._write(self.plain_file, key.private_bytes_raw().hex().encode() + b"\n")
        else:
            self.seal(key, password, cost)

    def seal(self, key: Ed25519PrivateKey, password: str, cost: ScryptCost = DEFAULT_COST) -> None:
        """Put the key under a password in place of what was there; its plain file goes once the sealed one reads back.

        Raises :class:`Fault` and changes nothing where another account's key is here.
        """
        if self.exists and self.address() != public_key(key):
            raise Fault(f"{self.directory} has the wallet of {self.address().hex()}; nothing was changed")
        self._write(self.file, encode_sealed_key(seal_key(key, password, cost)))
        open_key(self._read_sealed(), password)
        if self.plain_file.exists():
            self._remove_plain()

    def take(self, file: Path, new_password: Callable[[], str | None]) -> None:
        """Write the key of another wallet file where there is none; a plain key gets the password asked for, or None.

        Raises :class:`Fault` where the file is neither.
        """
        data = self._read(file)
        if not data.startswith(b"{"):
            self.create(parse_plain_key(data), new_password())
            return
        decode_sealed_key(data)
        if self.exists:
            raise Fault(f"{self.directory} has a wallet already, of {self.address().hex()}; nothing was changed")
        self._write(self.file, data)

    def _remove_plain(self) -> None:
        if public_key(self.plain_key()) != self.address():
            raise Fault(f"{self.plain_file} is another account's key and was left; move one of the two elsewhere")
        try:
            self.plain_file.unlink()
            sync_directory(self.directory)
        except OSError as error:
            raise Fault(f"cannot remove {self.plain_file}: {error.strerror}") from error

    def _read_sealed(self) -> SealedKey:
        try:
            return decode_sealed_key(self._read(self.file))
        except Fault as error:
            raise Fault(f"{self.file}: {error}") from error

    def plain_key(self) -> Ed25519PrivateKey:
        """Return the key that lies in the clear; raises as :meth:`unlock`."""
        try:
            return parse_plain_key(self._read(self.plain_file))
        except Fault as error:
            raise Fault(f"cannot read the key {self.plain_file}: {error}") from None

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(MAX_WALLET_BYTES + 1)
        except FileNotFoundError:
            raise Unavailable(f"{self.directory} has no wallet; `bnnchain wallet create` makes one") from None
        except OSError as error:
            raise Fault(f"cannot read {path}: {error.strerror}") from error

    def _write(self, path: Path, data: bytes) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_durably(path, data, KEY_MODE)
        except OSError as error:
            raise Fault(f"cannot write {path}: {error.strerror}") from error


def parse_plain_key(data: bytes) -> Ed25519PrivateKey:
    """Return the key written as 64 hex digits; raises :class:`Fault`, which tells nothing of the bytes."""
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(data.decode("ascii").strip()))
    except ValueError:
        raise Fault("not 64 hex digits") from None
