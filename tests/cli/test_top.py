"""`bnnchain top` beside a real node, in a terminal of the test's own; and its words and bars."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from e2e.processes import NodeProcess, bnnchain

from bnnchain.cli.top_screen import number, size, span, spark

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADDRESS = re.compile(r"metrics on http://(\S+)/metrics")
SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9]|[=>])")
PATIENCE_S = 60


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Addresses of a miner with blocks, and of its metrics."""
    home = tmp_path_factory.mktemp("shown") / "node"
    with NodeProcess("mine", "--blocks", "3", "--seed", "1", "--metrics", "127.0.0.1:0", home=home) as process:
        address = process.wait_ready()
        [metrics] = [match.group(1) for match in map(ADDRESS.match, process.printed) if match]
        process.wait_height(3)
        yield address, metrics


class Terminal:
    """A program on a terminal of 100 x 34; all it draws is kept."""

    def __init__(self, *arguments: str) -> None:
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 34, 100, 0, 0))
        self._before = termios.tcgetattr(self._theirs)
        command = [sys.executable, "-m", "bnnchain", *arguments]
        environment = {**os.environ, "TERM": "xterm-256color"}
        streams = {"stdin": self._theirs, "stdout": self._theirs, "stderr": self._theirs}
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)  # type: ignore[call-overload]
        self._drawn = b""

    @property
    def text(self) -> str:
        return SEQUENCE.sub("", self._drawn.decode(errors="replace"))

    def read(self, seconds: float = 0.2) -> None:
        if select.select([self._ours], [], [], seconds)[0]:
            with suppress(OSError):  # the last reader of a terminal that nobody writes to gets EIO
                self._drawn += os.read(self._ours, 1 << 16)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.text:
            assert time.monotonic() < deadline, f"{words!r} not in {self.text[-2000:]!r}"
            self.read()

    def forget(self) -> None:
        self._drawn = b""

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def end(self) -> int:
        """Return the exit code; the terminal must be as it was."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not leave"
            self.read()
        self.read(0)
        assert termios.tcgetattr(self._theirs) == self._before
        os.close(self._ours)
        os.close(self._theirs)
        return int(self.process.returncode)


def test_a_pipe_gets_the_present_state_once(node: tuple[str, str]) -> None:
    address, metrics = node
    for flags in ((), ("--once",), ("--once", "--metrics", metrics)):
        said = bnnchain("top", "--node", address, *flags).stdout
        assert "\x1b" not in said
        assert "regtest · miner · kernel" in said
        assert re.search(r"height 3 ", said)
        assert re.search(r"^ +1  [0-9a-f]{12}  FOUND", said, re.MULTILINE)
        assert ("memory " in said) is ("--metrics" in flags)
        assert ("mean " in said) is ("--metrics" in flags)


def test_a_terminal_is_drawn_on_until_q(node: tuple[str, str]) -> None:
    address, metrics = node
    terminal = Terminal("top", "--node", address, "--metrics", metrics)
    terminal.wait_for("tickets/s")  # its second scrape
    assert "FOUND" in terminal.text
    terminal.press(b"x")
    terminal.press(b"q")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text


def test_ctrl_c_leaves_as_q_does(node: tuple[str, str]) -> None:
    terminal = Terminal("top", "--node", node[0])
    terminal.wait_for("validation")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text


def test_a_node_that_is_away_is_one_line() -> None:
    away = bnnchain("top", "--node", "127.0.0.1:1", check=False)
    assert away.returncode == 1
    assert away.stderr.startswith("error: 127.0.0.1:1: ")
    assert len(away.stderr.splitlines()) == 1


def test_a_node_that_leaves_is_waited_for(tmp_path: Path) -> None:
    home = tmp_path / "node"
    bnnchain("init", "--home", str(home))
    with NodeProcess("node", home=home) as process:
        address = process.wait_ready()
        terminal = Terminal("top", "--node", address)
        terminal.wait_for("height 0")
        process.kill()
        terminal.wait_for("trying again")
    terminal.forget()
    with NodeProcess("node", home=home, listen=address) as process:
        process.wait_ready()
        deadline = time.monotonic() + PATIENCE_S
        while "validation" not in terminal.text or "trying again" in terminal.text:
            assert time.monotonic() < deadline, "it never came back"
            terminal.forget()
            for _ in range(5):
                terminal.read()
        terminal.press(b"q")
        assert terminal.end() == 0


def test_metrics_that_are_none_are_said_and_end_nothing(node: tuple[str, str]) -> None:
    address, _ = node
    for wrong in ("127.0.0.1:1", address):
        said = bnnchain("top", "--node", address, "--metrics", wrong, "--once").stdout
        assert "no metrics from http" in said
        assert re.search(r"height 3 ", said)


def test_bars_show_the_largest_full_and_the_smallest_at_all() -> None:
    assert spark([]) == ""
    assert spark([0, 0]) == "  "
    assert spark([0, 1e-9, 4, 8]) == " ▁▄█"
    assert len(spark(range(100), 40)) == 40


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (span(-5), "0 s"),
        (span(59), "59 s"),
        (span(120), "2 min"),
        (span(5_400), "1.5 h"),
        (span(2 * 86_400), "2.0 d"),
        (size(1_023), "1023 B"),
        (size(1_536), "1.5 KiB"),
        (size(3 << 40), "3.0 TiB"),
        (number(0), "0"),
        (number(999), "999"),
        (number(43_978), "44k"),
        (number(1.7e6), "1.7M"),
        (number(2e15), "2e+03T"),
    ],
)
def test_figures_in_words(said: str, wanted: str) -> None:
    assert said == wanted
