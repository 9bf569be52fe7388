"""The systemd unit of a node as text."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from bnnchain_kernels.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIT_NAME = "bnnchain.service"
MINER_COMMAND = "-m bnnchain mine "
VALIDATOR_COMMAND = "-m bnnchain node "
HIDDEN = tuple(map(PurePosixPath, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108  (not used: refused)
"""Where the hardened unit may not look (``ProtectHome``, ``PrivateTmp``)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs from one machine's unit to another's; paths as the running system sees them."""

    python: str
    """The interpreter that has bnnchain installed: of a virtual environment, pipx or uv."""
    config: str
    spec: str | None = None
    """Chain to join; None: the node makes a regtest chain of its own."""
    password: str | None = None
    """File with the wallet's password, for the node alone to read."""
    is_miner: bool = False

    def text(self) -> str:
        """Return the unit."""
        join = credential = ""
        if self.spec is not None:
            join = f"ExecStartPre={quote(self.python)} -m bnnchain init --home %S/bnnchain --spec {quote(self.spec)}\n"
        if self.password is not None:
            credential = f"LoadCredential=wallet-password:{self.password}\n"
        template = files("bnnchain.service").joinpath(UNIT_NAME).read_text(encoding="utf-8")
        return template.format(
            python=quote(self.python),
            command=MINER_COMMAND if self.is_miner else VALIDATOR_COMMAND,
            config=quote(self.config),
            join=join,
            credential=credential,
        )


def validate_reachable(paths: Sequence[str]) -> None:
    """Raise :class:`Unavailable` where the unit could not look into the directory of an interpreter or its library."""
    for path in map(PurePosixPath, paths):
        for hidden in HIDDEN:
            if path.is_relative_to(hidden):
                raise Unavailable(
                    f"bnnchain is installed in {path}, and a service may not look into {hidden};"
                    " install it for the machine: sudo python3 -m venv /opt/bnnchain,"
                    " sudo /opt/bnnchain/bin/pip install bnnchain, sudo /opt/bnnchain/bin/bnnchain service install"
                )


def quote(path: str) -> str:
    """Return a path as a word of a unit's command; source: systemd.service(5), "Command lines"."""
    plain = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if any(character.isspace() or character in "\"'\\;" for character in plain) else plain
