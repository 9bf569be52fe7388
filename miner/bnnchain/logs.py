"""What a process logs: lines for people on a terminal, JSON lines for programs; peers' words can do no harm in either.

Everything below INFO apart, a call site that a peer sets off again and again may fill no disk: it gets a burst, then a
line now and then that says how many were left out.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "human", "json")
MAX_MESSAGE_CHARS = 1_000
MAX_TRACE_LINES = 60
BURST = 20
"""Records of one call site that may come at once."""
INTERVAL_S = 5.0
"""Between two records of a call site that has used up its burst."""
_STYLES = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
_OWN_PREFIX = "bnnchain."


def level_of(verbose_count: int) -> str:
    """Return the level that so many ``-v`` ask for."""
    return ("warning", "info", "debug")[min(verbose_count, 2)]


def configure(level: str, log_format: str = "auto", stream: TextIO | None = None) -> None:
    """Log to ``stream`` (stderr) from now on, in place of whatever was set up before.

    level: one of ``LEVELS``.  log_format: one of ``FORMATS``; ``auto`` is ``human`` on a terminal, else ``json``.
    """
    stream = sys.stderr if stream is None else stream
    is_human = log_format == "human" or (log_format == "auto" and stream.isatty())
    handler: logging.Handler = HumanHandler(stream) if is_human else logging.StreamHandler(stream)
    handler.setFormatter(None if is_human else JsonFormatter())
    handler.addFilter(is_of_this_node)
    handler.addFilter(RepeatLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def is_of_this_node(record: logging.LogRecord) -> bool:
    """Answer False for gRPC's traceback over metadata of a peer that are no text: nothing here has failed."""
    error = record.exc_info[1] if record.exc_info else None
    return not (record.name.startswith("grpc.") and isinstance(error, UnicodeDecodeError))


@dataclass(frozen=True, slots=True)
class Line:
    """A record made harmless: one line of bounded length, and the lines of a traceback."""

    time: datetime
    level: str
    logger: str
    message: str
    left_out: int
    """Records of this call site since the last one shown."""
    trace: tuple[str, ...]


def read_record(record: logging.LogRecord) -> Line:
    """Return what a record says, with nothing in it that a terminal or a line reader could take for something else."""
    trace: tuple[str, ...] = ()
    if record.exc_info:
        whole = logging.Formatter().formatException(record.exc_info).splitlines()
        trace = tuple(escape(line, MAX_MESSAGE_CHARS) for line in whole[-MAX_TRACE_LINES:])
    return Line(
        datetime.fromtimestamp(record.created, timezone.utc),
        record.levelname,
        record.name,
        escape(record.getMessage(), MAX_MESSAGE_CHARS),
        getattr(record, "left_out", 0),
        trace,
    )


def escape(text: str, limit: int) -> str:
    """Return at most ``limit`` characters of ``text`` and a mark where it was cut, control characters as escapes.

    Line ends, terminal sequences, invisible and direction-changing characters are none of a log line's business.
    """
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[:limit])
    return shown if len(text) <= limit else f"{shown}... ({len(text) - limit} more characters)"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; ``left_out`` and ``traceback`` where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        line = read_record(record)
        fields: dict[str, object] = {
            "time": line.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": line.level.lower(),
            "logger": line.logger,
            "message": line.message,
        }
        if line.left_out:
            fields["left_out"] = line.left_out
        if line.trace:
            fields["traceback"] = list(line.trace)
        return json.dumps(fields)


class HumanHandler(logging.Handler):
    """Writes lines for people; coloured where the stream is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._console: Console | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            self._write(read_record(record))
        except Exception:  # noqa: BLE001  (a log line never ends the program: logging's own rule)
            self.handleError(record)

    def _write(self, line: Line) -> None:
        from rich.console import Console
        from rich.text import Text

        if self._console is None:
            self._console = Console(file=self._stream, highlight=False, soft_wrap=True)
        left_out = f" ({line.left_out} more like it were left out)" if line.left_out else ""
        text = Text.assemble(
            (f"{line.time.astimezone():%H:%M:%S}", "dim"),
            " ",
            (f"{line.level.lower():7}", _STYLES.get(line.level, "")),
            " ",
            (f"{line.logger.removeprefix(_OWN_PREFIX)}: ", "dim"),
            line.message,
            (left_out, "dim"),
            *(f"\n    {each}" for each in line.trace),
        )
        self._console.print(text, soft_wrap=True)


class RepeatLimit(logging.Filter):
    """Lets ``burst`` records of a call site through, then one every ``interval_s``; thread-safe.

    There are as many call sites as there are log statements, so nothing a peer does makes the table grow.
    """

    def __init__(
        self, burst: int = BURST, interval_s: float = INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._burst = burst
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._sites: dict[tuple[str, int], _Site] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Answer whether a record is shown; one that is says how many before it were not."""
        if record.levelno < logging.INFO:
            return True
        now = self._clock()
        with self._lock:
            site = self._sites.setdefault((record.pathname, record.lineno), _Site(float(self._burst), now))
            site.tokens = min(self._burst, site.tokens + (now - site.since_s) / self._interval_s)
            site.since_s = now
            if site.tokens < 1:
                site.left_out += 1
                return False
            site.tokens -= 1
            record.left_out, site.left_out = site.left_out, 0
        return True


@dataclass(slots=True)
class _Site:
    tokens: float
    since_s: float
    left_out: int = 0
