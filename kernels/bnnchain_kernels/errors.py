"""The three kinds of error of the project; every room raises these and nothing else on purpose.

They live in the lowest room because every other room may import them.  They are never mixed: a caller decides whom to
blame by the type alone (model: Bitcoin Core's ``consensus/validation.h``).
"""

from __future__ import annotations

MAX_SHOWN_CHARACTERS = 512
"""Of one value in a message: values come from outside and end on terminals and in logs."""


class BnnchainError(Exception):
    """The common base, for the outermost handlers only (command line, RPC server)."""


class Invalid(BnnchainError):  # noqa: N818  (a verdict, not a malfunction)
    """The bytes break a rule and whoever sent them is at fault.

    ``code`` is a stable string such as ``bad-model-diff``; it is part of the protocol (PROTOCOL.md lists them all).
    ``values`` are the figures that show the breach, for people; they are not part of the protocol.
    """

    def __init__(self, code: str, **values: object) -> None:
        self.code = code
        self.values = values
        super().__init__(code)

    def __str__(self) -> str:
        if not self.values:
            return self.code
        return f"{self.code} ({', '.join(f'{name}={_shown(value)}' for name, value in self.values.items())})"


class Unavailable(BnnchainError):  # noqa: N818
    """Something needed is not here yet (a parent block, a data set, an extra); nobody is at fault, try again later."""


class Fault(BnnchainError):  # noqa: N818
    """This machine failed (disk, accelerator, our own bug); no peer is to blame for it."""


def _shown(value: object) -> str:
    """Return a value for people: of bounded size, nothing in it that a terminal would obey."""
    text = str(value)[:MAX_SHOWN_CHARACTERS]
    return text if text.isprintable() else ascii(text)[1:-1][:MAX_SHOWN_CHARACTERS]
