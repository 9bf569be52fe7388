"""Downloads a data set's original files: resumed, bounded, from the first mirror that has the pinned content.

A file becomes visible under its name only when its uncompressed SHA-256 is right and its bytes are on the disk.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, BinaryIO, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from bnnchain.datasets.idx import read_content
from bnnchain.datasets.mnist import IdxFile, is_original
from bnnchain_kernels.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)
MAX_DOWNLOAD_BYTES = 1 << 24
"""One compressed file; the largest original is 9.9 MB."""
MAX_ATTEMPTS = 4
"""Per file and mirror: a connection lost on the way is taken up again where it stopped."""
TIMEOUT_S = 30
READ_BYTES = 1 << 16

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are here and the bytes in all (None: the mirror does not say)."""


def fetch(files: Sequence[IdxFile], mirrors: Sequence[str], directory: Path, progress: Progress) -> None:
    """Bring ``files`` into ``directory``, each as ``<stem>.gz``; what is there and right is left alone.

    mirrors: http or https addresses that end in ``/``, tried in order for every file.

    Raises ``bad-mirror`` for another kind of address, :class:`Unavailable` where no mirror delivers (what arrived is
    kept and the next call resumes it), :class:`Fault` where the disk fails.
    """
    for mirror in mirrors:
        address = urlsplit(mirror)
        if address.scheme not in ("http", "https") or not address.netloc or not mirror.endswith("/"):
            raise Invalid("bad-mirror", mirror=mirror, reason="not an http or https address that ends in /")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            for file in files:
                _fetch_file(file, mirrors, directory, progress)
    except OSError as error:
        raise Fault(f"cannot write to {directory}: {error.strerror}") from error


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two calls never append to one file."""
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"another fetch into {directory} is running") from None
        yield


def _fetch_file(file: IdxFile, mirrors: Sequence[str], directory: Path, progress: Progress) -> None:
    name = f"{file.stem}.gz"
    path, part_path = directory / name, directory / f"{name}.part"
    if path.exists() and _is_right(path, file):
        progress(name, path.stat().st_size, path.stat().st_size)
        return
    faults = []
    for mirror in mirrors:
        try:
            with part_path.open("ab") as part:
                _download(mirror + name, part, part_path, file, progress)
                os.fsync(part.fileno())
        except Unavailable as fault:
            faults.append(f"{urlsplit(mirror).netloc}: {fault}")
            continue
        part_path.replace(path)
        _sync_directory(directory)
        progress(name, path.stat().st_size, path.stat().st_size)
        return
    raise Unavailable(f"no mirror delivered {name} ({'; '.join(faults)}); run the command again to resume")


def _download(url: str, part: BinaryIO, part_path: Path, file: IdxFile, progress: Progress) -> None:
    """Complete ``part`` with the right content from one mirror, or raise :class:`Unavailable`."""
    for _ in range(MAX_ATTEMPTS):
        start = part.seek(0, os.SEEK_END)
        try:
            resumed = _receive(url, part, lambda size, total: progress(f"{file.stem}.gz", size, total))
        except Unavailable:
            if part.seek(0, os.SEEK_END) <= start:
                raise  # nothing came: another attempt would not help
            continue
        part.flush()
        if _is_right(part_path, file):
            return
        part.truncate(0)
        # What was resumed may have begun at another mirror, which compressed it otherwise: once more from the start.
        if not resumed:
            raise Unavailable("its content is not the original's (SHA-256)")
    raise Unavailable(f"the connection broke {MAX_ATTEMPTS} times")


def _receive(url: str, part: BinaryIO, report: Callable[[int, int | None], None]) -> bool:
    """Append the rest of ``url`` to ``part`` and answer whether there was something before; one request.

    Raises :class:`Unavailable` where the mirror fails, stops early or sends more than the limit.
    """
    start = part.seek(0, os.SEEK_END)
    headers = {"User-Agent": "bnnchain", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)  # noqa: S310  (fetch checked the scheme)
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return True  # nothing is left to send: the caller looks at what is here
        raise Unavailable(f"HTTP {error.code}") from None
    except (OSError, HTTPException) as error:
        raise Unavailable(_describe(error)) from None
    with response:
        if start and response.status != HTTPStatus.PARTIAL_CONTENT:
            part.truncate(0)
            start = 0
        elif start and not (response.headers["Content-Range"] or "").startswith(f"bytes {start}-"):
            part.truncate(0)
            raise Unavailable("it answered with another range than the one asked for")
        _copy(response, part, start, report)
    return start > 0


def _copy(response: HTTPResponse, part: BinaryIO, start: int, report: Callable[[int, int | None], None]) -> None:
    """Append the response's body; raises :class:`Unavailable` where it is cut short or over the limit."""
    total = None if response.length is None else start + response.length
    received = start
    while True:
        if max(received, total or 0) > MAX_DOWNLOAD_BYTES:
            part.truncate(0)
            raise Unavailable(f"larger than {MAX_DOWNLOAD_BYTES} bytes")
        report(received, total)
        try:
            data = response.read(READ_BYTES)
        except (OSError, HTTPException) as error:
            raise Unavailable(_describe(error)) from None
        if not data:
            break
        part.write(data)
        received += len(data)
    if total is not None and received < total:
        raise Unavailable(f"the connection closed at {received} of {total} bytes")


def _is_right(path: Path, file: IdxFile) -> bool:
    try:
        return is_original(read_content(path, max(file.size_bytes, MAX_DOWNLOAD_BYTES)), file)
    except Invalid:
        return False


def _describe(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _sync_directory(directory: Path) -> None:
    """Make a rename last: the directory's entry is data of the directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
