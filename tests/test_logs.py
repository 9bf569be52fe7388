"""What a log line may hold, whatever a peer says, and how often it may make a node say it."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnchain import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = "x\nERROR forged: line\r\x1b[2J\x1b]0;title\x07\u202eright to left\u2028\x9b31m\0"


def fail() -> None:
    raise ValueError(HOSTILE)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger, and the root logger put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield logging.getLogger("bnnchain.test")
    root.handlers[:], root.level = handlers, level


def test_a_json_line_holds_what_was_said(logger: logging.Logger) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logger.warning("peer %s: %s", "127.0.0.1:9", "gone")
    logger.debug("not this")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("warning", "bnnchain.test", "peer 127.0.0.1:9: gone")
    assert line["time"].endswith("Z")
    assert set(line) == {"time", "level", "logger", "message"}


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_hostile_text_stays_on_one_line_and_commands_no_terminal(logger: logging.Logger, log_format: str) -> None:
    stream = io.StringIO()
    logs.configure("info", log_format, stream)
    logger.warning("peer says %s", HOSTILE)
    shown = stream.getvalue()
    assert shown.endswith("\n")
    assert len(shown.splitlines()) == 1
    assert shown.rstrip("\n").isprintable()
    said = json.loads(shown)["message"] if log_format == "json" else shown
    assert r"x\nERROR forged: line\r\x1b[2J" in said
    assert r"\u202e" in said


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_long_message_is_cut_and_says_so(logger: logging.Logger, log_format: str) -> None:
    stream = io.StringIO()
    logs.configure("info", log_format, stream)
    logger.warning("%s", "a" * 1_000_000)
    assert len(stream.getvalue()) < logs.MAX_MESSAGE_CHARS + 200
    assert f"({1_000_000 - logs.MAX_MESSAGE_CHARS} more characters)" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_an_exception_cannot_forge_a_line(logger: logging.Logger, log_format: str) -> None:
    stream = io.StringIO()
    logs.configure("info", log_format, stream)
    try:
        fail()
    except ValueError:
        logger.exception("internal error")
    shown = stream.getvalue()
    assert "\x1b" not in shown
    if log_format == "json":
        [line] = shown.splitlines()
        assert json.loads(line)["traceback"][0].startswith("Traceback")
        return
    first, *rest = shown.splitlines()
    assert first.endswith("internal error")
    assert len(rest) > 2
    assert all(line.startswith("    ") for line in rest)


@given(st.text(), st.integers(0, 50))
def test_escaped_text_is_printable_and_bounded(text: str, limit: int) -> None:
    shown = logs.escape(text, limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 40
    if text.isprintable() and len(text) <= limit:
        assert shown == text


def test_a_call_site_gets_a_burst_and_then_a_line_now_and_then() -> None:
    now = [0.0]
    limit = logs.RepeatLimit(burst=3, interval_s=5, clock=lambda: now[0])

    def record(line: int, level: int = logging.WARNING) -> logging.LogRecord:
        return logging.LogRecord("bnnchain.net", level, "net.py", line, "%s", ("different every time",), None)

    assert [limit.filter(record(1)) for _ in range(5)] == [True, True, True, False, False]
    assert limit.filter(record(2)), "another call site has a burst of its own"
    assert all(limit.filter(record(1, logging.DEBUG)) for _ in range(9)), "who asks for everything gets everything"
    now[0] = 5.0
    shown = record(1)
    assert limit.filter(shown)
    assert shown.left_out == 2  # type: ignore[attr-defined]
    assert not limit.filter(record(1))
    now[0] = 1e6
    assert [limit.filter(record(1)) for _ in range(4)] == [True, True, True, False], "a burst is not saved up"


def test_a_flood_fills_no_disk_and_is_counted(logger: logging.Logger) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    handler = logging.getLogger().handlers[0]
    [limit] = [each for each in handler.filters if isinstance(each, logging.Filter)]
    assert isinstance(limit, logs.RepeatLimit)
    now = [0.0]
    limit._clock = lambda: now[0]
    for number in range(10_000):
        now[0] = number / 1_000  # ten seconds of it
        logger.warning("junk from a peer, number %d", number)
    assert logs.BURST <= len(stream.getvalue().splitlines()) <= logs.BURST + 3
    counted = sum(json.loads(line).get("left_out", 0) + 1 for line in stream.getvalue().splitlines())
    assert counted > 10_000 - logs.INTERVAL_S * 1_000 - 1


@pytest.mark.parametrize(("is_terminal", "wanted"), [(True, "human"), (False, "json")])
def test_auto_is_for_people_on_a_terminal(is_terminal: bool, wanted: str) -> None:
    program = (
        "import logging; from bnnchain import logs; logs.configure('info', 'auto');"
        "logging.getLogger('bnnchain.net').warning('hello')"
    )
    if is_terminal:
        ours, theirs = pty.openpty()
        done = subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True, timeout=60)
        os.close(theirs)
        said = os.read(ours, 10_000).decode()
        os.close(ours)
    else:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60, text=True)
        said = done.stderr
    assert ('"message": "hello"' in said) is (wanted == "json")
    assert "hello" in said


@pytest.mark.parametrize(("verbose_count", "level"), [(0, "warning"), (1, "info"), (2, "debug"), (9, "debug")])
def test_levels_of_the_flag(verbose_count: int, level: str) -> None:
    assert logs.level_of(verbose_count) == level


@pytest.mark.usefixtures("logger")
def test_metadata_of_a_peer_that_are_no_text_are_no_failure_of_this_node() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    for name in ("grpc._cython.cygrpc", "bnnchain.net.server"):
        try:
            b"\x81".decode()
        except UnicodeDecodeError:
            logging.getLogger(name).exception("Invalid encoding")
    logging.getLogger("grpc._cython.cygrpc").error("a handler failed")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in told] == ["Invalid encoding", "a handler failed"]
    assert told[0]["logger"] == "bnnchain.net.server"
