"""Real node processes for end-to-end tests: started, read, stopped and killed by their own ids."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

if TYPE_CHECKING:
    from pathlib import Path

START_TIMEOUT_S = 90
READY = re.compile(r"listening on (\S+)")
HEIGHT = re.compile(r"height (\d+) ")


def bnnchain(
    *arguments: str, timeout_s: float = 120, check: bool = True, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, as a user would."""
    done = subprocess.run(
        [python, "-m", "bnnchain", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def bnnchain_json(*arguments: str, timeout_s: float = 120, python: str = sys.executable) -> Any:
    """Run the command with ``--json -`` and return what it wrote."""
    return json.loads(bnnchain(*arguments, "--json", "-", timeout_s=timeout_s, python=python).stdout)


class NodeProcess:
    """A `bnnchain node` or `mine` process; its printed lines are read as they come."""

    def __init__(
        self,
        *arguments: str,
        home: Path,
        python: str = sys.executable,
        listen: str = "127.0.0.1:0",
    ) -> None:
        self._errors = (home.parent / f"{home.name}.stderr").open("ab")
        self._process = subprocess.Popen(
            [python, "-m", "bnnchain", *arguments, "--home", str(home), "--listen", listen],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.height = 0
        self.printed: list[str] = []
        self.stderr_file = home.parent / f"{home.name}.stderr"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> str:
        """Return the address once the node serves."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            line = self._next(deadline)
            self._note(line)
            if match := READY.match(line):
                return match.group(1)
        raise AssertionError("the node did not become ready")

    def wait_height(self, height: int, timeout_s: float = 120) -> None:
        """Wait until the node has printed a head at or above ``height``."""
        deadline = time.monotonic() + timeout_s
        while self.height < height:
            self._note(self._next(deadline))

    def read_for(self, seconds: float) -> None:
        """Take in what the node prints within ``seconds``."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._note(self._lines.get(timeout=left))
            except queue.Empty:
                return

    def kill(self) -> None:
        """SIGKILL the process, wait for it, and take in all it had printed."""
        if self._process.poll() is None:
            self._process.kill()
        self._finish()

    def stop(self, timeout_s: float = 20) -> int:
        """SIGTERM the process and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout_s)
        self._finish()
        return code

    def _finish(self) -> None:
        self._process.wait(20)
        self._reader.join(20)
        while not self._lines.empty():
            self._note(self._lines.get())
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _next(self, deadline: float) -> str:
        while True:
            try:
                return self._lines.get(timeout=0.2)
            except queue.Empty:
                if self._process.poll() is not None and self._lines.empty():
                    said = self.stderr_file.read_text()[-2000:]
                    raise AssertionError(f"the node ended with code {self._process.returncode}: {said}") from None
                assert time.monotonic() < deadline, "the node did not say what was waited for"

    def _note(self, line: str) -> None:
        self.printed.append(line)
        if match := HEIGHT.match(line):
            self.height = max(self.height, int(match.group(1)))
