"""Against a real HTTP server on the loopback that misbehaves as told."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import random
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from bnnchain.datasets import fetch as module
from bnnchain.datasets.fetch import MAX_ATTEMPTS, MNIST_MIRRORS, fetch
from bnnchain.datasets.mnist import FILES, IdxFile
from bnnchain_kernels.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = random.Random(5).randbytes(300_000)
FILE = IdxFile("train-images-idx3-ubyte", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
NAME = f"{FILE.stem}.gz"
GZIP = gzip.compress(CONTENT, mtime=0)


@dataclass
class Mirror:
    """What one server answers; ``ranges`` collects the Range header of every request."""

    address: str = ""
    content: bytes = GZIP
    status: int = 200
    honours_range: bool = True
    range_shift: int = 0
    """Added to the start that the server claims in Content-Range."""
    sends_length: bool = True
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which a response is cut, one entry a request, then no more cuts."""
    resets: bool = False
    """A cut resets the connection instead of closing it."""
    ranges: list[str | None] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers["Range"]
        self.ranges.append(wanted)
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = 0
        if wanted and self.honours_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(self.content):
                handler.send_error(416)
                return
            handler.send_response(206)
            shown = start + self.range_shift
            handler.send_header("Content-Range", f"bytes {shown}-{len(self.content) - 1}/{len(self.content)}")
        else:
            handler.send_response(200)
        body = self.content[start:]
        if self.sends_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if not self.cut_after:
            handler.wfile.write(body)
            return
        handler.wfile.write(body[: self.cut_after.pop(0)])
        if self.resets:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()


@pytest.fixture
def mirrors() -> Iterator[tuple[Mirror, Mirror]]:
    pair = (Mirror(), Mirror())
    servers = []
    for mirror in pair:

        class Handler(BaseHTTPRequestHandler):
            answers = mirror

            def do_GET(self) -> None:
                self.answers.answer(self)

            def log_message(self, *_arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        mirror.address = f"http://127.0.0.1:{server.server_address[1]}/set/"
    yield pair
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


Report = list[tuple[str, int, "int | None"]]


def run(directory: Path, *mirrors: Mirror) -> Report:
    reports: Report = []
    fetch([FILE], [mirror.address for mirror in mirrors], directory, lambda *report: reports.append(report))
    return reports


def is_complete(directory: Path) -> bool:
    assert not list(directory.glob("*.part"))
    return (directory / NAME).read_bytes() == GZIP


def test_a_file_arrives_with_its_progress(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    reports = run(tmp_path / "new" / "directory", mirrors[0])
    assert is_complete(tmp_path / "new" / "directory")
    assert reports[0] == (NAME, 0, len(GZIP))
    assert reports[-1] == (NAME, len(GZIP), len(GZIP))
    assert [size for _, size, _ in reports] == sorted(size for _, size, _ in reports)
    assert mirrors[0].ranges == [None]


def test_what_is_here_and_right_is_not_fetched_again(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    run(tmp_path, mirrors[0])
    assert run(tmp_path, mirrors[0]) == [(NAME, len(GZIP), len(GZIP))]
    assert len(mirrors[0].ranges) == 1


def test_what_is_here_and_wrong_is_replaced(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    for wrong in (b"", GZIP[:-5], gzip.compress(CONTENT + b"x"), CONTENT[:-1]):
        (tmp_path / NAME).write_bytes(wrong)
        run(tmp_path, mirrors[0])
        assert is_complete(tmp_path)


def test_another_compression_of_the_same_content_is_welcome(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].content = gzip.compress(CONTENT, 1, mtime=99)
    assert mirrors[0].content != GZIP
    run(tmp_path, mirrors[0])
    assert gzip.decompress((tmp_path / NAME).read_bytes()) == CONTENT


@pytest.mark.parametrize("here", [1, 1000, len(GZIP) - 1])
def test_a_broken_off_download_is_resumed(tmp_path: Path, mirrors: tuple[Mirror, Mirror], here: int) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(GZIP[:here])
    reports = run(tmp_path, mirrors[0])
    assert is_complete(tmp_path)
    assert mirrors[0].ranges == [f"bytes={here}-"]
    assert reports[0] == (NAME, here, len(GZIP))


def test_a_complete_part_is_only_renamed(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(GZIP)
    assert run(tmp_path, mirrors[0]) == [(NAME, len(GZIP), len(GZIP))]
    assert is_complete(tmp_path)


def test_a_server_that_ignores_range_sends_all_again(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(b"other bytes")
    mirrors[0].honours_range = False
    run(tmp_path, mirrors[0])
    assert is_complete(tmp_path)
    assert len(mirrors[0].ranges) == 1


@pytest.mark.parametrize("part", [b"x" * 500, b"x" * (len(GZIP) + 10)])
def test_a_wrong_part_is_thrown_away_and_fetched_from_the_start(
    tmp_path: Path, mirrors: tuple[Mirror, Mirror], part: bytes
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(part)
    run(tmp_path, mirrors[0])
    assert is_complete(tmp_path)
    assert mirrors[0].ranges == [f"bytes={len(part)}-", None]


def test_another_range_than_asked_for_is_refused(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(GZIP[:500])
    mirrors[0].range_shift = 1
    with pytest.raises(Unavailable, match=r"another range"):
        run(tmp_path, mirrors[0])
    assert not (tmp_path / NAME).exists()


def test_a_cut_connection_is_taken_up_where_it_stopped(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].cut_after = [100_000, 50_000]
    run(tmp_path, mirrors[0])
    assert is_complete(tmp_path)
    assert mirrors[0].ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_reset_connection_is_taken_up_too(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].cut_after = [100_000]
    mirrors[0].resets = True
    run(tmp_path, mirrors[0], mirrors[0])
    assert is_complete(tmp_path)
    assert len(mirrors[0].ranges) == 2


def test_endless_cuts_stop_and_the_next_call_goes_on(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].cut_after = [10_000] * MAX_ATTEMPTS
    with pytest.raises(Unavailable, match=rf"no mirror delivered {NAME} .*broke {MAX_ATTEMPTS} times.*again to resume"):
        run(tmp_path, mirrors[0])
    assert (tmp_path / f"{NAME}.part").read_bytes() == GZIP[: MAX_ATTEMPTS * 10_000]
    assert not (tmp_path / NAME).exists()
    run(tmp_path, mirrors[0])
    assert is_complete(tmp_path)
    assert mirrors[0].ranges[-1] == f"bytes={MAX_ATTEMPTS * 10_000}-"


def test_the_second_mirror_goes_on_where_the_first_stopped(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].cut_after = [70_000, 0]
    run(tmp_path, *mirrors)
    assert is_complete(tmp_path)
    assert mirrors[1].ranges == ["bytes=70000-"]


def test_mirrors_that_compress_otherwise_still_work(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].content = gzip.compress(CONTENT, 0)
    mirrors[0].cut_after = [70_000, 0]
    run(tmp_path, *mirrors)
    assert is_complete(tmp_path)
    assert mirrors[1].ranges == ["bytes=70000-", None]


@pytest.mark.parametrize("status", [403, 404, 416, 500, 503])
def test_a_mirror_that_refuses_is_passed_over(tmp_path: Path, mirrors: tuple[Mirror, Mirror], status: int) -> None:
    mirrors[0].status = status
    run(tmp_path, *mirrors)
    assert is_complete(tmp_path)
    assert (len(mirrors[0].ranges), len(mirrors[1].ranges)) == (1, 1)


def test_a_mirror_that_is_down_is_passed_over(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        mirrors[0].address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        run(tmp_path, *mirrors)
        assert is_complete(tmp_path)
        (tmp_path / NAME).unlink()
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+: Connection refused"):
            run(tmp_path, mirrors[0])


@pytest.mark.parametrize(
    "content", [gzip.compress(CONTENT[:-1] + b"\0"), GZIP[:-1], CONTENT[:-1], b"<html>log in first</html>", b""]
)
def test_wrong_content_is_never_kept(tmp_path: Path, mirrors: tuple[Mirror, Mirror], content: bytes) -> None:
    mirrors[0].content = content
    with pytest.raises(Unavailable, match=r"its content is not the original's \(SHA-256\)"):
        run(tmp_path, mirrors[0])
    assert not (tmp_path / NAME).exists()
    assert (tmp_path / f"{NAME}.part").read_bytes() == b""
    run(tmp_path, *mirrors)
    assert is_complete(tmp_path)


@pytest.mark.parametrize("sends_length", [False, True])
def test_oversized_content_is_refused_early(
    tmp_path: Path, mirrors: tuple[Mirror, Mirror], monkeypatch: pytest.MonkeyPatch, sends_length: bool
) -> None:
    monkeypatch.setattr(module, "MAX_DOWNLOAD_BYTES", 1 << 19)
    mirrors[0].content = bytes(1 << 21)
    mirrors[0].sends_length = sends_length
    reports: Report = []
    with pytest.raises(Unavailable, match=r"larger than 524288 bytes"):
        fetch([FILE], [mirrors[0].address], tmp_path, lambda *report: reports.append(report))
    assert max((size for _, size, _ in reports), default=0) <= 1 << 19
    assert (tmp_path / f"{NAME}.part").stat().st_size == 0
    run(tmp_path, *mirrors)
    assert is_complete(tmp_path)


def test_no_length_is_no_obstacle(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].sends_length = False
    assert run(tmp_path, mirrors[0])[-2:] == [(NAME, len(GZIP), None), (NAME, len(GZIP), len(GZIP))]
    assert is_complete(tmp_path)


def test_no_mirror_is_left(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].status = 404
    mirrors[1].content = b"rubbish"
    with pytest.raises(Unavailable) as caught:
        run(tmp_path, *mirrors)
    message = str(caught.value)
    assert "HTTP 404" in message
    assert "SHA-256" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "mirror", ["ftp://example.org/", "file:///etc/", "/etc/", "https://example.org/mnist", "http:///x/"]
)
def test_other_addresses_are_refused(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(Invalid, match=r"bad-mirror"):
        fetch([FILE], [mirror], tmp_path, lambda *_: None)


def test_two_fetches_never_write_one_file(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=r"another fetch"):
            run(tmp_path, mirrors[0])
    run(tmp_path, mirrors[0])
    assert is_complete(tmp_path)


def test_a_directory_that_cannot_be_written_is_our_fault(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Fault, match=r"cannot write to"):
        run(tmp_path / "file" / "directory", mirrors[0])


def test_the_shipped_mirrors_are_usable_addresses() -> None:
    assert len(MNIST_MIRRORS) >= 3
    assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in MNIST_MIRRORS)
    assert len({file.stem for file in FILES}) == 4
    assert max(file.size_bytes for file in FILES) == 16 + 60_000 * 784
