"""What exactly is running: version, commit, kernel."""

from __future__ import annotations

import platform
from importlib import resources

from bnnchain import __version__
from bnnchain_kernels.select import select


def commit() -> str:
    """Return the commit that was installed, or ``unknown``."""
    file = resources.files("bnnchain") / "commit.txt"
    return file.read_text().strip() or "unknown" if file.is_file() else "unknown"


def describe_version() -> str:
    """Return the line that ``bnnchain --version`` prints."""
    kernel = select("auto")
    name = getattr(kernel, "backend", "unknown")
    return f"bnnchain {__version__} (commit {commit()}, kernel {name}, Python {platform.python_version()})"
