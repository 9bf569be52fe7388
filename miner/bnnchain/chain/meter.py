"""What judging blocks has cost this process: images evaluated and seconds taken, by backend."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Inference:
    """Work of one backend since the process began."""

    images: int
    seconds: float


class InferenceMeter:
    """Adds up what each backend has done; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, Inference] = {}

    @contextmanager
    def measure(self, backend: str, images: int) -> Iterator[None]:
        """Add ``images`` and the seconds that the body takes; nothing where it raises."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        with self._lock:
            before = self._totals.get(backend, Inference(0, 0.0))
            self._totals[backend] = Inference(before.images + images, before.seconds + seconds)

    def totals(self) -> dict[str, Inference]:
        """Return what each backend has done so far."""
        with self._lock:
            return dict(self._totals)
