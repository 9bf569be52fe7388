"""Puts a node's unit, configuration, chain spec and password where systemd finds them, and takes them away again."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnnchain.service.unit import MINER_COMMAND, UNIT_NAME, Unit
from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG_DIRECTORY = "etc/bnnchain"
PURGED = (
    "etc/bnnchain",
    "var/lib/private/bnnchain",
    "var/lib/bnnchain",
    "var/cache/private/bnnchain",
    "var/cache/bnnchain",
)
"""State of a unit with a dynamic user lies below ``private``; the plain names are links to it."""
SYSTEMCTL_TIMEOUT_S = 960
"""Longer than the unit's own time to start."""


@dataclass(frozen=True, slots=True)
class Place:
    """The machine to install on: its root directory, and how to say what happens."""

    root: Path
    tell: Callable[[str], None]
    is_dry_run: bool = False
    """Say everything, change nothing."""

    @property
    def is_this_machine(self) -> bool:
        """Answer whether its systemd is the one that runs here."""
        return self.root == Path("/")

    @property
    def unit_file(self) -> Path:
        return self.root / "etc/systemd/system" / UNIT_NAME

    @property
    def config_file(self) -> Path:
        return self.root / CONFIG_DIRECTORY / "node.toml"

    @property
    def spec_file(self) -> Path:
        return self.root / CONFIG_DIRECTORY / "chain.json"

    @property
    def password_file(self) -> Path:
        return self.root / CONFIG_DIRECTORY / "wallet-password"

    def inside(self, path: Path) -> str:
        """Return how the installed machine calls a file below the root."""
        return f"/{path.relative_to(self.root)}"

    def write(self, path: Path, data: bytes, mode: int) -> None:
        """Write a file unless it is there, byte for byte; whole or not at all."""
        is_there = path.is_file() and path.read_bytes() == data
        self.tell(f"{'keeps ' if is_there else 'writes'} {path}")
        if is_there or self.is_dry_run:
            return
        temporary = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
            temporary.replace(path)
        except OSError as error:
            raise _refused("write", path, error) from error

    def remove(self, path: Path) -> None:
        """Remove a file, link or directory where there is one."""
        if not (path.exists() or path.is_symlink()):
            return
        self.tell(f"removes {path}")
        if self.is_dry_run:
            return
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            raise _refused("remove", path, error) from error

    def systemctl(self, *arguments: str, must: bool = True) -> None:
        """Run systemctl on this machine; say only what would run where the root is another machine's."""
        self.tell(f"runs    systemctl {' '.join(arguments)}")
        if self.is_dry_run or not self.is_this_machine:
            return
        command = shutil.which("systemctl")
        if command is None:
            raise Unavailable("there is no systemctl here; `bnnchain node` in the foreground needs none")
        done = subprocess.run(
            [command, *arguments], capture_output=True, text=True, timeout=SYSTEMCTL_TIMEOUT_S, check=False
        )
        if must and done.returncode:
            raise Fault(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or f'exit {done.returncode}'}")


def install(
    place: Place, *, python: str, example: str, spec: bytes | None, password: bytes | None, is_miner: bool | None
) -> None:
    """Write the unit and what it needs, and start it; again, it replaces the unit and restarts it.

    example: text of a first node.toml; the one that is there stays.  spec, password, is_miner: None keeps what is
    there; without it, the node makes a chain of its own, asks for no password and does not mine.
    """
    if place.config_file.exists():
        place.tell(f"keeps  {place.config_file}")
    else:
        place.write(place.config_file, example.encode(), 0o644)
    if spec is not None:
        place.write(place.spec_file, spec, 0o644)
    if password is not None:
        place.write(place.password_file, password, 0o600)
    has_spec = spec is not None or place.spec_file.exists()
    has_password = password is not None or place.password_file.exists()
    unit = Unit(
        python=python,
        config=place.inside(place.config_file),
        spec=place.inside(place.spec_file) if has_spec else None,
        password=place.inside(place.password_file) if has_password else None,
        is_miner=_is_miner_installed(place) if is_miner is None else is_miner,
    )
    place.write(place.unit_file, unit.text().encode(), 0o644)
    place.systemctl("daemon-reload")
    place.systemctl("enable", UNIT_NAME)
    place.systemctl("restart", UNIT_NAME)


def uninstall(place: Place, *, purge: bool) -> None:
    """Stop and remove the unit; with ``purge`` also configuration, chain and wallet."""
    if place.unit_file.exists():
        place.systemctl("disable", "--now", UNIT_NAME, must=False)
        place.remove(place.unit_file)
        place.systemctl("daemon-reload")
    else:
        place.tell(f"no unit {place.unit_file}")
    for name in PURGED if purge else ():
        place.remove(place.root / name)


def _is_miner_installed(place: Place) -> bool:
    return place.unit_file.exists() and MINER_COMMAND in place.unit_file.read_text(encoding="utf-8")


def _refused(verb: str, path: Path, error: OSError) -> Fault | Unavailable:
    if isinstance(error, PermissionError):
        return Unavailable(f"cannot {verb} {path}: only root may (sudo)")
    return Fault(f"cannot {verb} {path}: {error.strerror}")
