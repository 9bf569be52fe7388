"""The data sets that are known by name, and the one way to load any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.datasets import digits, mnist
from bnnchain.datasets.directory import is_dataset_directory, read_directory
from bnnchain_kernels.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.datasets.dataset import Dataset

KNOWN_NAMES = (digits.NAME, mnist.NAME)


def load(name: str, data_dir: Path | None, cache_dir: Path) -> Dataset:
    """Return the data set ``name``.

    name: ``digits`` (embedded), ``mnist``, or any name for the IDX files in ``data_dir``.
    data_dir: a directory with IDX files of the user's own, or one that ``bnnchain dataset create`` made; None: what
        ``fetch`` or ``create`` put into ``cache_dir``.

    Raises :class:`Unavailable` with the command to run where files are missing, ``bad-idx``, ``bad-manifest`` or
    ``bad-dataset`` where they are refused.
    """
    if name == digits.NAME:
        if data_dir is not None:
            raise Invalid("bad-dataset", name=name, reason="embedded; it is read from no directory")
        return digits.load_digits()
    directory = data_dir or fetched_directory(name, cache_dir)
    if is_dataset_directory(directory):
        created = read_directory(directory)
        if created.manifest.name != name:
            raise Invalid("bad-dataset", name=name, reason=f"{directory} holds {created.manifest.name}")
        return created
    if name == mnist.NAME:
        return mnist.load_mnist(data_dir or fetched_directory(name, cache_dir))
    if data_dir is None:
        known = " or ".join(KNOWN_NAMES)
        raise Unavailable(f"data set {name!r} is not {known}; give its IDX files with --data DIR")
    return mnist.load_idx_directory(name, data_dir)


def fetched_directory(name: str, cache_dir: Path) -> Path:
    """Return where the files of a fetched data set lie."""
    return cache_dir / name
