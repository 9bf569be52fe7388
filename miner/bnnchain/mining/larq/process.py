"""The training process as its founder sees it: started, heard, stopped; what it breaks is never the node."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from bnnchain.mining.larq.messages import (
    GO_ON,
    MAX_CHECKPOINT_BYTES,
    REST,
    Checkpoint,
    Request,
    decode_checkpoint,
    encode_request,
    read_frame,
    write_frame,
)
from bnnchain_kernels.errors import Fault, Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import BinaryIO

    from typing_extensions import Self

COMMAND = (sys.executable, "-m", "bnnchain.mining.larq.worker")
ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
"""Larq runs on the Keras before version 3; read when TensorFlow is first imported."""
LAST_LINES = 8
MAX_LINE_BYTES = 400
MAX_WAITING_CHECKPOINTS = 2
"""A process whose models are counted more slowly than it trains waits for the count."""


class TrainingProcess:
    """One training in a process of its own; a context manager that leaves no process behind."""

    def __init__(self, request: Request, command: Sequence[str] = COMMAND) -> None:
        self._request = request
        self._command = command
        self._frames: queue.Queue[bytes | Invalid | None] = queue.Queue(MAX_WAITING_CHECKPOINTS)
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    def __enter__(self) -> Self:
        """Start the process; raises :class:`Fault` where the machine cannot."""
        try:
            # A session of its own: Ctrl-C is the node's to answer, which then ends this process.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
            )
        except OSError as error:
            raise Fault(f"cannot start the training process: {error}") from error
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=target, args=(stream,), name=f"larq-{target.__name__.strip('_')}", daemon=True)
            for target, stream in (
                (self._send_request, self._process.stdin),
                (self._read_frames, self._process.stdout),
                (self._read_errors, self._process.stderr),
            )
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Kill the process where it still runs, and wait for its end."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its session, with whatever compiler a framework started
        self._process.wait()
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Let the process rest while the block runs; one that has no request yet has nothing to rest from."""
        if self._threads[0].is_alive():
            yield
            return
        self._tell(REST)
        try:
            yield
        finally:
            self._tell(GO_ON)

    @property
    def pid(self) -> int:
        return self._process.pid

    def checkpoints(self, poll_s: float) -> Iterator[Checkpoint | None]:
        """Yield each checkpoint as it comes, and None whenever ``poll_s`` seconds pass without one.

        Ends when the training is over.  Raises :class:`Fault` with the last lines that the process wrote where it ends
        otherwise or says what it should not.
        """
        while True:
            try:
                frame = self._frames.get(timeout=poll_s)
            except queue.Empty:
                yield None
                continue
            if frame is None:
                break
            try:
                if isinstance(frame, Invalid):
                    raise frame
                checkpoint = decode_checkpoint(frame)
            except Invalid as error:
                raise Fault(f"the training process broke its protocol: {error}{self._said()}") from error
            yield checkpoint
        code = self._process.wait()
        if code != 0:
            self._threads[-1].join()
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise Fault(f"the training process {how}{self._said()}")

    def _tell(self, word: bytes) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(word)
                stdin.flush()

    def _said(self) -> str:
        return f"; its last lines: {' | '.join(self._last_lines)}" if self._last_lines else ""

    def _send_request(self, stream: BinaryIO) -> None:
        # The pipe stays open: its end tells the process that the node has gone, and it goes too.
        with contextlib.suppress(BrokenPipeError):  # then the process has ended, and its end says why
            write_frame(stream, encode_request(self._request))

    def _read_frames(self, stream: BinaryIO) -> None:
        frame: bytes | Invalid | None = b""
        while isinstance(frame, bytes):
            try:
                frame = read_frame(stream, MAX_CHECKPOINT_BYTES)
            except Invalid as error:
                frame = error
            self._put(frame)

    def _put(self, frame: bytes | Invalid | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._frames.put(frame, timeout=0.1)
                return

    def _read_errors(self, stream: BinaryIO) -> None:
        while line := stream.readline(MAX_LINE_BYTES):
            text = line.decode(errors="replace").rstrip()
            if text:
                self._last_lines.append(text)
