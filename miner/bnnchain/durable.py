"""Files that are whole or absent after a power cut."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_durably(path: Path, data: bytes, mode: int) -> None:
    """Write a file with permission bits ``mode``, in place of what stood there; raises :class:`OSError`.

    Written beside, synced, then renamed: a reader, and a power cut, sees the old file or the new one.
    """
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)  # what a killed writer left may have other permissions
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was renamed or removed in a directory last."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
