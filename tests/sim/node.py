"""A simulated node: real store, chain, mempool, network and sealing; only its wire, clock and luck are simulated."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from builders import tiny_dataset
from sim.learner import Learner, winning_share
from sim.network import HOST

from bnnchain.accuser import Accuser
from bnnchain.chain import chain as chain_module
from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.store import Store
from bnnchain.chain.validator import Judged, Validator
from bnnchain.consensus.codec import decode_block, encode_block, encode_transaction
from bnnchain.consensus.errors import BnnchainError, Invalid, Unavailable
from bnnchain.consensus.header import sign_header
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import DatasetId
from bnnchain.mining.availability import availability_proofs
from bnnchain.mining.template import IDLE, draft_block, model_bytes, select_transactions
from bnnchain.mining.tickets import draw_winning_ticket
from bnnchain.net.messages import NODE_ID_BYTES, NewHead, Role
from bnnchain.net.network import Network
from bnnchain.producer import HOLD_S
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Block
    from bnnchain_kernels.evaluator import EvaluatorFactory

log = logging.getLogger("bnnchain.sim")

PORT = 7_000


Memo = dict[tuple[object, ...], "Judged | Invalid"]


class MemoValidator(Validator):
    """A validator that asks a memo, shared by the nodes of a world, before it judges.

    The key holds all that an outcome depends on, the node's clock included as far as it decides, so the memo hides no
    difference between nodes; ``Unavailable`` is never kept.
    """

    def __init__(self, memo: Memo, evaluator_factory: EvaluatorFactory) -> None:
        super().__init__(evaluator_factory)
        self._memo = memo

    def judge(self, state: ChainState, raw: bytes, now: int) -> Judged:
        header = decode_block(raw).header
        is_too_new = header.timestamp > now + state.spec.params_at(state.height + 1).future_limit_s
        key = (state.head, raw, is_too_new, tuple(sorted(self._pools)))
        if key not in self._memo:
            try:
                self._memo[key] = super().judge(state, raw, now)
            except Invalid as error:
                self._memo[key] = error
        outcome = self._memo[key]
        if isinstance(outcome, Invalid):
            raise Invalid(outcome.code, **outcome.values)
        return outcome


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What differs between the nodes of a world."""

    power: float = 1.0
    """Tickets per second on the reference base; 0: a node that only validates."""
    skew_s: int = 0
    """How far its clock is wrong."""
    has_dataset: bool = True


class SimNode:
    """One host of the wire with a node on it; ``start`` it in a running :class:`SimLoop`."""

    def __init__(
        self,
        number: int,
        spec: ChainSpec,
        key: Ed25519PrivateKey,
        options: NodeOptions,
        memo: Memo | None,
        draw: random.Random,
        learner: Learner,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.number, self.key, self.options = number, key, options
        self.host = f"10.0.{number >> 8}.{number & 255}"
        self.address = f"{self.host}:{PORT}"
        self.power = options.power
        self.mined_count = 0
        self.refused: list[BnnchainError] = []
        """Why own blocks were not taken; stays empty in an honest node."""
        self.reorg_depths: list[int] = []
        self.on_head: Callable[[SimNode], None] = lambda _: None
        self._genesis_time = spec.genesis_time
        self._loop = loop
        self._draw, self._learner = draw, learner
        self._tasks: list[asyncio.Task[None]] = []
        self._waking = asyncio.Event()
        self.store = Store(Path(":memory:"), spec)
        judge = Validator if memo is None else partial(MemoValidator, memo)
        with mock.patch.object(chain_module, "Validator", judge):
            self.chain = Chain(self.store, ReferenceEvaluator, self.now)
        if options.has_dataset:
            pool = tiny_dataset().pool
            payload = pool.images.tobytes() + pool.labels.tobytes()
            self.chain.add_dataset(DatasetId(spec.dataset.dataset_id), payload)
        self.mempool = Mempool(self.chain)
        self.network: Network | None = None
        self._accuser = Accuser(self.chain, self.mempool, key)

    @property
    def head(self) -> ChainState:
        return self.chain.head

    def now(self) -> int:
        """Return what this node's clock shows."""
        return self._genesis_time + int(self._loop.time()) + self.options.skew_s

    async def start(self, dial: Sequence[str]) -> None:
        """Serve, dial and mine."""
        HOST.set(self.host)
        node_id = self.number.to_bytes(NODE_ID_BYTES, "big")
        self.network = self.make_network(dial, node_id)
        await self.network.start()
        work = [self._follow(self.network), *([self.mine()] if self.power else [])]
        self._tasks = [self._loop.create_task(each) for each in work]
        for task in self._tasks:
            task.add_done_callback(self._raise)

    def make_network(self, dial: Sequence[str], node_id: bytes) -> Network:
        """Return the node's network, not yet started."""
        return Network(
            self.chain,
            self.mempool,
            listen=self.address,
            dial=dial,
            role=Role.MINER if self.power else Role.VALIDATOR,
            node_id=node_id,
            allow_plain=True,
        )

    async def stop(self) -> None:
        """End everything; the store stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.network is not None:
            await self.network.stop()
            self.network = None

    async def mine(self) -> None:
        """Wait for a win on the present head, seal the block with a real ticket, and take it in by the one door."""
        while True:
            state = self.head
            is_learning = self._learner.is_willing(self._draw)
            if await self._is_woken(self.wait_s(state)):
                # Luck has no memory: to draw the waiting time anew, for whatever reason, changes no odds.
                if self.head is not state:
                    await asyncio.sleep(HOLD_S)
                continue
            raw = self.seal(state, is_learning=is_learning)
            if raw is None:
                continue
            try:
                await self.submit(raw)
            except BnnchainError as error:
                self.refused.append(error)
                await asyncio.sleep(HOLD_S)

    def _raise(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("node %d has failed", self.number, exc_info=error)

    def wake(self) -> None:
        """Let the miner look again: another head, or another power."""
        self._waking.set()

    async def _is_woken(self, wait_s: float) -> bool:
        self._waking.clear()
        try:
            await asyncio.wait_for(self._waking.wait(), wait_s)
        except asyncio.TimeoutError:
            return False
        return True

    async def _follow(self, network: Network) -> None:
        async with network.subscribe() as events:
            async for event in events:
                if isinstance(event, NewHead):
                    self.reorg_depths.append(event.reorg_depth)
                    self.wake()
                    self.on_head(self)
                    for transaction in self._accuser.accuse():
                        with suppress(Invalid, Unavailable):  # the head has moved on: the next one asks again
                            await network.submit_transaction(encode_transaction(transaction))

    async def submit(self, raw: bytes) -> None:
        """Take an own block in and relay it."""
        assert self.network is not None
        self.mined_count += 1
        await self.network.submit_block(raw)

    def wait_s(self, state: ChainState) -> float:
        """Draw how long it takes this node to win a ticket on ``state``."""
        return self._draw.expovariate(1.0) / (self.power * winning_share(state))

    def seal(self, state: ChainState, *, is_learning: bool) -> bytes | None:
        """Return a block on ``state`` with a real winning ticket, or None where there is nothing to put into it."""
        block = self.draft(state, is_learning=is_learning)
        return None if block is None else self.win(state, block)

    def draft(self, state: ChainState, *, is_learning: bool) -> Block | None:
        """Return a block on ``state`` without its ticket: with a model if one is found, else IDLE where it may be."""
        params = state.spec.params_at(state.height + 1)
        candidate = None
        if is_learning:
            candidate = self._learner.find(state, self.now(), self.chain.validator, self._draw)
        if candidate is None:
            if not params.is_idle_allowed:
                return None
            candidate = IDLE
        me = public_key(self.key)
        transactions = select_transactions(self.mempool, params, len(model_bytes(candidate)))
        proofs = availability_proofs(state, me, self.store.dataset)
        stale = next(iter(self.chain.stale_headers(1)), None) if state is self.head else None
        return draft_block(state, candidate, me, transactions, self.now(), proofs, stale)

    def win(self, state: ChainState, block: Block) -> bytes:
        """Return a block with the first nonce whose real ticket wins, signed."""
        header = draw_winning_ticket(state, block.header, self.chain.validator, lambda: False)
        assert header is not None
        return encode_block(replace(block, header=sign_header(header, self.key)))
