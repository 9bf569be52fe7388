"""The HTTP server against clients that mean it no good."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from bnnchain.consensus.errors import Fault, Unavailable
from bnnchain.metrics import server as server_module
from bnnchain.metrics.server import MAX_CONNECTIONS, MAX_HEAD_BYTES, Answer, MetricsServer
from bnnchain.net.address import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LARGE = b"x" * (8 << 20)


async def well() -> Answer:
    return Answer(200, b"well\n")


async def large() -> Answer:
    return Answer(200, LARGE)


async def busy() -> Answer:
    raise Unavailable("this node is busy")


async def broken() -> Answer:
    raise ZeroDivisionError("secret detail")


@pytest.fixture
async def server() -> AsyncIterator[MetricsServer]:
    made = MetricsServer({"/well": well, "/large": large, "/busy": busy, "/broken": broken})
    yield made
    await made.stop()
    gc.collect()


@pytest.fixture
async def port(server: MetricsServer) -> int:
    return (await server.start(Address("127.0.0.1", 0))).port


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    reply = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    head, _, body = reply.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /well HTTP/1.1", 200, b"well\n"),
        (b"GET /well?a=b HTTP/1.0", 200, b"well\n"),
        (b"HEAD /well HTTP/1.1", 200, b""),
        (b"GET /other HTTP/1.1", 404, b"/well\n/large\n/busy\n/broken\n"),
        (b"GET /../well HTTP/1.1", 404, b"/well\n/large\n/busy\n/broken\n"),
        (b"POST /well HTTP/1.1", 405, b"GET or HEAD\n"),
        (b"GET /busy HTTP/1.1", 503, b"this node is busy\n"),
        (b"GET /broken HTTP/1.1", 500, b"this node failed\n"),
        (b"GET /well", 400, b"not an HTTP request\n"),
        (b"GET /well HTTP/2", 400, b"not an HTTP request\n"),
        (b"\xff\xfe /\x80 HTTP/1.1", 405, b"GET or HEAD\n"),
        (b"GET /\x80\xff HTTP/1.1", 404, b"/well\n/large\n/busy\n/broken\n"),
    ],
)
async def test_answers(port: int, request_line: bytes, status: int, body: bytes) -> None:
    code, headers, said = await ask(port, request_line + b"\r\nHost: x\r\n\r\n")
    assert (code, said) == (status, body)
    assert headers["Connection"] == "close"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ("Allow" in headers) is (status == 405)
    if not request_line.startswith(b"HEAD"):
        assert int(headers["Content-Length"]) == len(body)


async def test_a_head_without_end_is_refused_at_its_limit(port: int) -> None:
    code, _, _ = await ask(port, b"GET /well HTTP/1.1\r\nX: " + b"a" * (2 * MAX_HEAD_BYTES))
    assert code == 400


async def test_who_says_nothing_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    dripping = asyncio.create_task(drip(writer))
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    dripping.cancel()
    writer.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a")
        await asyncio.sleep(0.02)


async def test_who_does_not_read_is_cut_off_and_holds_nothing(
    server: MetricsServer, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "RESPONSE_TIMEOUT_S", 0.3)
    _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /large HTTP/1.1\r\n\r\n")
    await until(lambda: server._answering)
    await until(lambda: not server._answering)
    writer.transport.abort()


async def test_a_crowd_is_turned_away_and_room_comes_back(server: MetricsServer, port: int) -> None:
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
    await until(lambda: len(server._answering) == MAX_CONNECTIONS)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()
    assert len(server._answering) == MAX_CONNECTIONS
    for _, each in crowd:
        each.transport.abort()
    await until(lambda: not server._answering)
    assert (await ask(port, b"GET /well HTTP/1.1\r\n\r\n"))[0] == 200


async def until(condition: object) -> None:
    deadline = asyncio.get_running_loop().time() + 20
    while not condition():  # type: ignore[operator]
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_stopping_cuts_who_is_there(server: MetricsServer, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await until(lambda: server._answering)
    await server.stop()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_in_use_is_one_clear_fault(port: int) -> None:
    with pytest.raises(Fault, match=r"cannot serve metrics on 127\.0\.0\.1"):
        await MetricsServer({}).start(Address("127.0.0.1", port))


async def test_our_own_mistakes_are_logged_and_not_told(port: int, caplog: pytest.LogCaptureFixture) -> None:
    _, _, said = await ask(port, b"GET /broken HTTP/1.1\r\n\r\n")
    assert b"secret detail" not in said
    assert "ZeroDivisionError: secret detail" in caplog.text


async def test_serving_beyond_this_machine_is_said(caplog: pytest.LogCaptureFixture) -> None:
    server = MetricsServer({})
    await server.start(Address("0.0.0.0", 0))  # noqa: S104
    await server.stop()
    assert "to whoever reaches it, unencrypted" in caplog.text
