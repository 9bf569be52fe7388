"""What a demo sees of its two nodes: every block of the miner, and which of them the validator took over."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.bnn.distance import hamming
from bnnchain.chain.validator import Validator
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.header import block_id
from bnnchain.consensus.params import BP
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockId, BlockKind
from bnnchain.net.messages import NewHead
from bnnchain_kernels.evaluator import count_correct

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.consensus.state import ChainState
    from bnnchain.net.client import NodeClient
    from bnnchain_kernels.evaluator import EvaluatorFactory, Samples


@dataclass(slots=True)
class Row:
    """One block as the demo shows it."""

    block_id: BlockId
    height: int
    kind: BlockKind
    family: int
    generation: int
    correct_parent: int
    correct_new: int
    eval_total: int
    weights_changed: int
    weights_total: int
    correct_heldout: int
    heldout_total: int
    seconds: float
    size_bytes: int
    validated_by_peer: bool = False

    def report(self) -> dict[str, object]:
        """Return the block's figures under the names that `--json` promises."""
        total = self.weights_total
        return {
            "height": self.height,
            "id": self.block_id.hex(),
            "kind": self.kind.name,
            "family": self.family,
            "generation": self.generation,
            "correct_parent": self.correct_parent,
            "correct_new": self.correct_new,
            "eval_total": self.eval_total,
            "weights_changed": self.weights_changed,
            "weights_changed_bp": self.weights_changed * BP / total if total else 0.0,
            "seconds": round(self.seconds, 3),
            "bytes": self.size_bytes,
            "validated_by_peer": self.validated_by_peer,
            "correct_heldout": self.correct_heldout,
            "heldout_total": self.heldout_total,
        }


class Follower:
    """Collects rows until the wanted generation is mined and judged by the second process."""

    def __init__(self, spec: ChainSpec, heldout: Samples, factory: EvaluatorFactory, generations: int) -> None:
        self.spec = spec
        self.rows: list[Row] = []
        self.finished = asyncio.Event()
        self._generations = generations
        self._heldout = heldout
        self._evaluator = factory(heldout)
        self._replayer = Validator(factory)
        self._states: dict[BlockId, ChainState] = {spec.genesis_id: genesis_state(spec)}
        self._peer_head: BlockId = spec.genesis_id
        self._started = self._last = 0.0

    def start(self, now: float) -> None:
        """Begin to count seconds at ``now`` (monotonic)."""
        self._started = self._last = now

    @property
    def elapsed_s(self) -> float:
        return self._last - self._started

    async def follow_miner(self, node: NodeClient, refresh: Callable[[], None]) -> None:
        """Add a row for each block of the miner's chain."""
        async with aclosing(node.watch()) as events:
            async for event in events:
                if isinstance(event, NewHead):
                    await self._fetch(node, event.block_id)
                    self._mark()
                    refresh()

    async def follow_validator(self, node: NodeClient, refresh: Callable[[], None]) -> None:
        """Mark the rows that the validator has judged and made its own."""
        async with aclosing(node.watch()) as events:
            async for event in events:
                if isinstance(event, NewHead):
                    self._peer_head = event.block_id
                    self._mark()
                    refresh()

    def report(self, preset: str) -> dict[str, object]:
        """Return everything as `--json` writes it."""
        return {
            "preset": preset,
            "dataset": self.spec.dataset.name,
            "genesis": self.spec.genesis_id.hex(),
            "seconds": round(self.elapsed_s, 3),
            "blocks": [row.report() for row in self.rows],
        }

    async def _fetch(self, node: NodeClient, identity: BlockId) -> None:
        missing: list[bytes] = []
        while identity not in self._states:
            raw = await node.block(identity)
            missing.append(raw)
            identity = decode_block(raw).header.previous_hash
        for raw in reversed(missing):
            self._add(raw)

    def _add(self, raw: bytes) -> None:
        header = decode_block(raw).header
        before = self._states[header.previous_hash]
        state = self._replayer.replay(before, raw)
        self._states[state.head] = state
        if self.rows and self.rows[-1].generation >= self._generations:
            return  # the miner goes on until it is stopped; the demo has what it wants
        now = time.monotonic()
        changed, total, heldout = 0, 0, 0
        if header.kind != BlockKind.IDLE:
            model = state.families[header.family_id].latest.model
            total = model.architecture.weight_count
            heldout = count_correct(self._evaluator, model, len(self._heldout))
            if header.kind == BlockKind.EVOLVE:
                changed = hamming(before.families[header.family_id].best.model, model)
        self.rows.append(
            Row(
                block_id=block_id(header),
                height=header.height,
                kind=header.kind,
                family=header.family_id,
                generation=header.generation,
                correct_parent=header.correct_parent,
                correct_new=header.correct_new,
                eval_total=header.eval_total,
                weights_changed=changed,
                weights_total=total,
                correct_heldout=heldout,
                heldout_total=len(self._heldout) if total else 0,
                seconds=now - self._last,
                size_bytes=len(raw),
            )
        )
        self._last = now

    def _mark(self) -> None:
        # The validator judges in order: its head vouches for every block below it.
        judged = self._states.get(self._peer_head)
        if judged is None:
            return
        for row in self.rows:
            row.validated_by_peer = row.height <= judged.height
        is_last = any(row.generation >= self._generations and row.validated_by_peer for row in self.rows)
        if is_last:
            self.finished.set()
