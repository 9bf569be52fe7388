"""What gRPC says of a connection that was not made, in words for people.

Only words: gRPC knows one status for all of it, and its texts differ between versions, so what is not recognised is
passed on as it is.
"""

from __future__ import annotations

_SECURE = (
    ("certificate has expired", "its certificate has expired, or this machine's clock is wrong"),
    ("certificate is not yet valid", "its certificate is not valid yet, or this machine's clock is wrong"),
    ("Hostname Verification Check failed", "its certificate is no node's; make them with: bnnchain tls issue"),
    ("unable to get local issuer", "its certificate is of another authority"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is of another authority, or out of its time"),  # older gRPC
    ("WRONG_VERSION_NUMBER", "it talks plain TCP, not TLS"),
    ("Socket closed", "it ended the connection; it may not take this side's certificate"),
    ("onnection reset", "it ended the connection; it may not take this side's certificate"),
)
_PLAIN = (
    ("Socket closed", "it ended the connection; it may want TLS (--tls DIR)"),
    ("onnection reset", "it ended the connection; it may want TLS (--tls DIR)"),
    ("SETTINGS", "it does not answer as a node does; it may want TLS (--tls DIR)"),
)
_BOTH = (
    ("Connection refused", "nobody serves there"),
    ("No route to host", "there is no way to it"),
    ("Network is unreachable", "there is no way to it"),
    ("DNS resolution failed", "nobody knows that name"),
)
NOT_MADE = "failed to connect"


def explain(details: str, *, is_secure: bool) -> str:
    """Return why a connection was not made, from gRPC's details of the failed call."""
    if NOT_MADE not in details and "DNS" not in details:
        return details
    known = (*(_SECURE if is_secure else _PLAIN), *_BOTH)
    return next((words for sign, words in known if sign in details), details)
