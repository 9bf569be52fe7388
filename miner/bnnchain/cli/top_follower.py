"""What `bnnchain top` knows of a node: status, last blocks, families and, by its metrics, how fast it works."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import BnnchainError, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.types import BlockKind
from bnnchain.net.messages import NewHead
from bnnchain.net.tasks import run_until_first_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnnchain.consensus.types import BlockId, Header
    from bnnchain.net.client import NodeClient
    from bnnchain.net.messages import Status

POLL_INTERVAL_S = 1.0
RETRY_INTERVAL_S = 1.0
HISTORY_BLOCKS = 512
"""Headers asked for at first: families without a model in them are not shown."""
SHOWN_BLOCKS = 64
SPARK_POINTS = 60
MAX_SCRAPE_BYTES = 1 << 20
SCRAPE_TIMEOUT_S = 3.0
MAX_REASON_CHARS = 80
RATES = {
    "images/s": "bnnchain_validated_images_total",
    "candidates/s": "bnnchain_candidates_total",
    "tickets/s": "bnnchain_tickets_total",
}

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A node's metrics are never behind the proxy that the environment names."""


@dataclass(frozen=True, slots=True)
class BlockRow:
    """One block of the active chain."""

    block_id: BlockId
    header: Header
    verdict_us: int = 0
    """0: judged before we looked."""
    size_bytes: int = 0
    """0: not known."""


@dataclass(slots=True)
class Observed:
    """Everything seen so far; read by the screen."""

    address: str
    status: Status | None = None
    problem: str = ""
    """Why the node cannot be asked just now."""
    metrics_problem: str = ""
    blocks: deque[BlockRow] = field(default_factory=lambda: deque(maxlen=SHOWN_BLOCKS))
    """Oldest first."""
    families: dict[int, Header] = field(default_factory=dict)
    """By id, the header of the best model seen."""
    verdicts_ms: deque[float] = field(default_factory=lambda: deque(maxlen=SPARK_POINTS))
    rates: dict[str, deque[float]] = field(default_factory=dict)
    """By name, per second, a point a scrape."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Of the last scrape, by metric, labels added up."""

    def take_block(self, row: BlockRow) -> None:
        """Add a block, in place of what it has replaced."""
        while self.blocks and self.blocks[-1].header.height >= row.header.height:
            known = self.blocks.pop()
            if known.block_id == row.block_id:
                row = replace(row, verdict_us=row.verdict_us or known.verdict_us)
        self.blocks.append(row)
        if row.verdict_us:
            self.verdicts_ms.append(row.verdict_us / 1000)
        header = row.header
        if header.kind != BlockKind.IDLE:
            best = self.families.get(header.family_id)
            if best is None or header.correct_new >= best.correct_new:
                self.families[header.family_id] = header


class Follower:
    """Keeps an :class:`Observed` up to date; ``on_change`` is called whenever there is something new."""

    def __init__(
        self,
        connect: Callable[[], NodeClient],
        observed: Observed,
        metrics_url: str | None,
        on_change: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._observed = observed
        self._metrics_url = metrics_url
        self._on_change = on_change
        self._last_scrape: tuple[float, Mapping[str, float]] | None = None

    async def look(self) -> None:
        """Ask once; raises where the node cannot be asked."""
        async with self._connect() as node:
            await self._begin(node)
        await self._scrape()

    async def run(self) -> None:
        """Follow the node, reconnecting for ever."""
        while True:
            try:
                async with self._connect() as node:
                    await self._begin(node)
                    self._change("")
                    await run_until_first_ends(self._follow(node), self._poll(node))
            except BnnchainError as error:
                self._change(str(error))
            await asyncio.sleep(RETRY_INTERVAL_S)

    async def _begin(self, node: NodeClient) -> None:
        observed = self._observed
        observed.status = await node.status()
        observed.blocks.clear()  # the chain may be another one since
        observed.families.clear()
        start = max(1, observed.status.height + 1 - HISTORY_BLOCKS)
        for header in await node.headers(start_height=start, count=HISTORY_BLOCKS):
            observed.take_block(BlockRow(block_id(header), header))

    async def _follow(self, node: NodeClient) -> None:
        async with aclosing(node.watch()) as events:
            async for event in events:
                if isinstance(event, NewHead) and event.header.height:
                    row = BlockRow(event.block_id, event.header, event.verdict_us, event.size_bytes)
                    self._observed.take_block(row)
                    self._change("")
        raise Unavailable(f"{node.address} ended the connection")

    async def _poll(self, node: NodeClient) -> None:
        while True:
            self._observed.status = await node.status()
            await self._scrape()
            self._change("")
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _scrape(self) -> None:
        if self._metrics_url is None:
            return
        observed = self._observed
        try:
            figures = await asyncio.to_thread(read_metrics, self._metrics_url)
        except (Unavailable, Invalid) as error:
            observed.metrics_problem = str(error)
            return
        observed.metrics_problem, observed.figures = "", figures
        now, last = time.monotonic(), self._last_scrape
        self._last_scrape = now, figures
        if last is None or now <= last[0]:
            return
        for name, metric in RATES.items():
            if metric in figures:
                grown = figures[metric] - last[1].get(metric, 0.0)
                rate = max(0.0, grown) / (now - last[0])  # a restarted node begins anew at 0
                observed.rates.setdefault(name, deque(maxlen=SPARK_POINTS)).append(rate)

    def _change(self, problem: str) -> None:
        self._observed.problem = problem
        self._on_change()


def read_metrics(url: str) -> dict[str, float]:
    """Return a scrape's figures by metric, labels added up; blocking.

    Raises :class:`Unavailable` where nobody answers and :class:`Invalid` ``bad-message`` where it is no scrape.
    """
    # Here and not above: it takes a tenth of a second to load.
    from prometheus_client.parser import text_string_to_metric_families

    try:
        with _DIRECT.open(url, timeout=SCRAPE_TIMEOUT_S) as reply:
            data = reply.read(MAX_SCRAPE_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:  # urllib's are OSErrors
        raise Unavailable(
            f"no metrics from {url}: {ascii(str(getattr(error, 'reason', error)))[:MAX_REASON_CHARS]}"
        ) from error
    if len(data) > MAX_SCRAPE_BYTES:
        raise Invalid("bad-message", reason="a scrape of that size", limit=MAX_SCRAPE_BYTES)
    figures: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(data.decode()):
            for sample in family.samples:
                figures[sample.name] = figures.get(sample.name, 0.0) + sample.value
    except (ValueError, KeyError, IndexError) as error:
        raise Invalid("bad-message", reason=f"no metrics at {url}") from error
    return figures
