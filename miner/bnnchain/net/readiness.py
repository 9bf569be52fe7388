"""Whether a node can be relied on just now: the one answer behind the gRPC health service and ``/readyz``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.net.intake import Intake

WRITE_CHECK_INTERVAL_S = 15.0
"""However often somebody asks, the disk is tried this often: cards wear out."""


class Readiness:
    """Tells why a node is not ready; lives in its event loop.

    Alive is another question: a process that answers at all is alive.
    """

    def __init__(self, intake: Intake, is_syncing: Callable[[], bool]) -> None:
        self._intake = intake
        self._is_syncing = is_syncing
        self._is_serving = False
        self._disk_problem = ""
        self._disk_checked_s = -WRITE_CHECK_INTERVAL_S

    def start(self) -> None:
        """The node serves from now on."""
        self._is_serving = True

    def stop(self) -> None:
        """The node stops serving now."""
        self._is_serving = False

    async def problems(self) -> list[str]:
        """Return the reasons not to rely on this node, a line for people each; none where it is ready."""
        if not self._is_serving:
            return ["it does not serve"]
        problems = ["it is fetching blocks"] if self._is_syncing() else []
        try:
            # A factory reaches a chain only after its self-check; what may be missing is a data set to count on.
            if not await self._intake.read(self._intake.reads.backend):
                problems.append("the chain's data set is not here yet, so no kernel counts")
            await self._check_disk()
        except Unavailable as error:
            problems.append(str(error))
        return [*problems, self._disk_problem] if self._disk_problem else problems

    async def _check_disk(self) -> None:
        now = time.monotonic()
        if now - self._disk_checked_s < WRITE_CHECK_INTERVAL_S:
            return
        self._disk_checked_s = now
        try:
            await self._intake.read(self._intake.chain.store.check_writable)
        except Fault as error:
            self._disk_problem = str(error)
        else:
            self._disk_problem = ""
