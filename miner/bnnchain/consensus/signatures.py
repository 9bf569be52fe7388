"""Ed25519 with one meaning on every machine: strict checks first, then ``cryptography``.

Libraries disagree on edge cases ("Taming the many EdDSAs", Chalkias et al. 2020), and a chain splits where nodes
disagree.  So S >= L and non-canonical or small-order A and R are refused before the library is asked.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bnnchain.consensus.types import PublicKey, Signature

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_Y_MASK = 2**255 - 1
# The y coordinates of the eight points of small order, all canonical (RFC 8032 curve).
_ORDER_8_Y = (
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
)
_SMALL_ORDER_Y = frozenset((0, 1, _P - 1, *_ORDER_8_Y))


def is_valid(key: PublicKey, message: bytes, signature: Signature) -> bool:
    """Answer whether ``signature`` (64 bytes) is ``key``'s (32 bytes) on ``message``, by the strict rules."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    if int.from_bytes(signature[KEY_BYTES:], "little") >= _L:
        return False
    if not (_is_canonical_large_order(key) and _is_canonical_large_order(signature[:KEY_BYTES])):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def sign(key: Ed25519PrivateKey, message: bytes) -> Signature:
    """Return the 64-byte signature of ``message``."""
    return Signature(key.sign(message))


def public_key(key: Ed25519PrivateKey) -> PublicKey:
    """Return the 32-byte public key, which is also the account's address."""
    return PublicKey(key.public_key().public_bytes_raw())


def _is_canonical_large_order(point: bytes) -> bool:
    y = int.from_bytes(point, "little") & _Y_MASK
    return y < _P and y not in _SMALL_ORDER_Y
