"""A created data set on disk.

The directory holds ``manifest.bin`` (canonical bytes, :func:`~bnnchain.datasets.manifest.encode_manifest`),
``pool.bin`` and, where there are held-out samples, ``hidden.bin`` (payloads, PROTOCOL.md, section "Data sets") with
``salt.bin`` (32 bytes; whoever has it and ``hidden.bin`` can show that the manifest committed to them).  The manifest
and ``pool.bin`` are what is uploaded; ``hidden.bin`` and ``salt.bin`` stay with the owner until they are revealed, and
only the owner may read them.  ``classes.txt`` names the classes, one a line in the order of the labels, for people.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from bnnchain.datasets.chunks import MAX_PAYLOAD_BYTES
from bnnchain.datasets.dataset import Dataset, dataset_from_payloads
from bnnchain.datasets.manifest import MAX_MANIFEST_BYTES, decode_manifest, encode_manifest
from bnnchain.datasets.payload import encode_payload
from bnnchain.wire import HASH_BYTES
from bnnchain_kernels.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from bnnchain.datasets.create import CreatedDataset

MANIFEST_FILE, POOL_FILE, HIDDEN_FILE, SALT_FILE = "manifest.bin", "pool.bin", "hidden.bin", "salt.bin"
CLASSES_FILE = "classes.txt"
PUBLIC_MODE, PRIVATE_MODE, DIRECTORY_MODE = 0o644, 0o600, 0o755


def is_dataset_directory(path: Path) -> bool:
    """Tell whether a directory holds a created data set."""
    return os.path.isfile(path / MANIFEST_FILE)  # noqa: PTH113  (False, not an error, for a path that cannot be)


def validate_free(path: Path) -> None:
    """Raise ``bad-dataset`` where there is something at ``path``."""
    if os.path.lexists(path):
        raise Invalid("bad-dataset", reason="there is something already; nothing is overwritten", path=path)


def write_directory(path: Path, created: CreatedDataset) -> None:
    """Write a data set's files; they become visible under ``path`` all at once.

    Raises ``bad-dataset`` where ``path`` is there already, :class:`Fault` where the disk fails.
    """
    dataset = created.dataset
    names = "".join(f"{ascii(name)[1:-1]}\n" for name in created.class_names)
    files = [
        (MANIFEST_FILE, encode_manifest(dataset.manifest), PUBLIC_MODE),
        (POOL_FILE, encode_payload(dataset.pool), PUBLIC_MODE),
        (CLASSES_FILE, names.encode(), PUBLIC_MODE),
    ]
    if len(dataset.heldout):
        files += [
            (HIDDEN_FILE, encode_payload(dataset.heldout), PRIVATE_MODE),
            (SALT_FILE, created.salt, PRIVATE_MODE),
        ]
    validate_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            for name, data, mode in files:
                _write(part / name, data, mode)
            part.chmod(DIRECTORY_MODE)
            part.rename(path)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise Fault(f"cannot write {path}: {error.strerror}") from error


def read_directory(path: Path) -> Dataset:
    """Return the data set of a directory, its payloads checked against the manifest; held-out samples where they are.

    Raises ``bad-manifest``, ``bad-encoding`` or ``bad-samples`` for files that are not what they should be,
    :class:`Unavailable` where the manifest or the pool is missing.
    """
    manifest = decode_manifest(_read(path / MANIFEST_FILE, MAX_MANIFEST_BYTES))
    pool = _read(path / POOL_FILE, MAX_PAYLOAD_BYTES)
    if not manifest.hidden_size or not (path / HIDDEN_FILE).exists():
        return dataset_from_payloads(manifest, pool)
    hidden = _read(path / HIDDEN_FILE, MAX_PAYLOAD_BYTES)
    return dataset_from_payloads(manifest, pool, hidden, salt=_read(path / SALT_FILE, HASH_BYTES))


def _write(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise Invalid("bad-samples", reason="file too large", file=path.name, limit_bytes=limit_bytes)
    return data
