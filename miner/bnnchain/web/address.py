"""Where the page may be served; of this package the one module that needs no extra."""

from __future__ import annotations

from bnnchain.consensus.errors import Invalid
from bnnchain.net.address import Address, parse_address


def parse_web_address(text: str, *, is_public: bool) -> Address:
    """Return where to serve the page.

    Raises ``bad-address``, or ``insecure-address`` where other machines could see it and were not asked for.
    """
    address = parse_address(text)
    if not (is_public or address.is_loopback):
        raise Invalid("insecure-address", address=address, reason="other machines see the page with --web-public alone")
    return address
