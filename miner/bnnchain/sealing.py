"""The wallet file: a signing key sealed with a password, as canonical JSON.

Scrypt makes the cipher's key of the password, AES-256-GCM seals the signing key and authenticates everything else in
the file; both are the ``cryptography`` package's.  A digest over the file tells damage from a wrong password, which
the cipher alone cannot; it covers nothing secret.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from bnnchain.consensus.errors import Fault, Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import PublicKey

if TYPE_CHECKING:
    from collections.abc import Mapping

WALLET_FORMAT = "bnnchain-wallet"
WALLET_VERSION = 1
MAX_WALLET_BYTES = 4_096
MAX_PASSWORD_BYTES = 1_024
KEY_BYTES = 32
SALT_BYTES = 16
NONCE_BYTES = 12
SEALED_BYTES = KEY_BYTES + 16
"""The key and the cipher's tag."""
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """What one guess of a password costs: about ``1024 * cost`` bytes of memory, ``passes`` times over."""

    cost: int
    block: int = 8
    passes: int = 1


DEFAULT_COST = ScryptCost(cost=1 << 15, block=8, passes=3)
"""32 MiB, three times: OWASP's password storage sheet counts it equal to 128 MiB once, which small boards lack."""
MIN_COST, MAX_COST = 1 << 10, 1 << 18
"""A file that asks for more than 256 MiB is refused before any of it is taken; tests take the least."""
MAX_PASSES = 16


@dataclass(frozen=True, slots=True)
class SealedKey:
    """The content of a wallet file; nothing of it is secret without the password."""

    address: PublicKey
    scrypt: ScryptCost
    salt: bytes
    nonce: bytes
    sealed: bytes


def seal_key(key: Ed25519PrivateKey, password: str, cost: ScryptCost = DEFAULT_COST) -> SealedKey:
    """Return the key sealed with a password, a fresh salt and a fresh nonce.

    Raises :class:`Invalid` ``bad-password`` where the password is empty or longer than ``MAX_PASSWORD_BYTES``.
    """
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    open_parts = SealedKey(public_key(key), cost, salt, nonce, b"")
    cipher = AESGCM(_cipher_key(open_parts, password))
    sealed = cipher.encrypt(nonce, key.private_bytes_raw(), _authenticated(open_parts))
    return SealedKey(open_parts.address, cost, salt, nonce, sealed)


def open_key(wallet: SealedKey, password: str) -> Ed25519PrivateKey:
    """Return the key; raises :class:`Invalid` ``wrong-password`` or ``bad-password``."""
    cipher = AESGCM(_cipher_key(wallet, password))
    try:
        seed = cipher.decrypt(wallet.nonce, wallet.sealed, _authenticated(wallet))
    except InvalidTag:
        raise Invalid("wrong-password", address=wallet.address.hex()) from None
    return Ed25519PrivateKey.from_private_bytes(seed)


def encode_sealed_key(wallet: SealedKey) -> bytes:
    """Return the bytes of the file."""
    fields = {**_open_fields(wallet), "sealed": wallet.sealed.hex()}
    return _json({**fields, "sha256": hashlib.sha256(_json(fields)).hexdigest()})


def decode_sealed_key(data: bytes) -> SealedKey:
    """Return the content of a wallet file; raises :class:`Fault` where any byte of it is not what was written."""
    if len(data) > MAX_WALLET_BYTES:
        raise Fault(f"the wallet file is damaged: {len(data)} bytes")
    try:
        fields = json.loads(data.decode("ascii"))
        if fields["format"] != WALLET_FORMAT or fields["version"] != WALLET_VERSION:
            raise Fault(f"not a wallet file of version {WALLET_VERSION}")
        wallet = _read_fields(fields)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Fault(f"the wallet file is damaged: {type(error).__name__}") from None
    if encode_sealed_key(wallet) != data:
        raise Fault("the wallet file is damaged: its content and its digest differ")
    return wallet


def _read_fields(fields: Mapping[str, Any]) -> SealedKey:
    numbers = [fields["scrypt"][name] for name in ("n", "r", "p")]
    lengths = {"address": KEY_BYTES, "salt": SALT_BYTES, "nonce": NONCE_BYTES, "sealed": SEALED_BYTES}
    parts = {name: bytes.fromhex(fields[name]) for name in lengths}
    if any(type(number) is not int for number in numbers) or any(len(parts[n]) != lengths[n] for n in lengths):
        raise ValueError
    cost = ScryptCost(*numbers)
    is_power = cost.cost & (cost.cost - 1) == 0
    if not (MIN_COST <= cost.cost <= MAX_COST and is_power and cost.block == 8 and 1 <= cost.passes <= MAX_PASSES):  # noqa: PLR2004
        raise ValueError
    return SealedKey(PublicKey(parts["address"]), cost, parts["salt"], parts["nonce"], parts["sealed"])


def _open_fields(wallet: SealedKey) -> dict[str, object]:
    return {
        "format": WALLET_FORMAT,
        "version": WALLET_VERSION,
        "address": wallet.address.hex(),
        "cipher": "aes-256-gcm",
        "scrypt": {"n": wallet.scrypt.cost, "r": wallet.scrypt.block, "p": wallet.scrypt.passes},
        "salt": wallet.salt.hex(),
        "nonce": wallet.nonce.hex(),
    }


def _authenticated(wallet: SealedKey) -> bytes:
    return _json(_open_fields(wallet))


def _json(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, indent=2).encode("ascii") + b"\n"


def _cipher_key(wallet: SealedKey, password: str) -> bytes:
    # Composed and decomposed letters look alike and come from different keyboards.
    octets = unicodedata.normalize("NFC", password).encode("utf-8", errors="surrogateescape")
    if not 1 <= len(octets) <= MAX_PASSWORD_BYTES:
        raise Invalid("bad-password", bytes=len(octets), wanted=f"1 to {MAX_PASSWORD_BYTES}")
    cost = wallet.scrypt
    try:
        return Scrypt(wallet.salt, KEY_BYTES, cost.cost, cost.block, cost.passes).derive(octets)
    except MemoryError as error:
        raise Fault(f"opening the wallet needs {cost.cost * cost.block * 128 >> 20} MiB of memory") from error
