"""The one door for blocks: a peer's and the miner's own come in by :meth:`Chain.import_block` alone."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.chain.validator import Validator
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.fork_choice import is_better
from bnnchain.consensus.header import block_id as header_id
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockId, DatasetId, Height
from bnnchain.datasets.dataset import dataset_from_payloads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnchain.chain.store import Store
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Block
    from bnnchain_kernels.evaluator import EvaluatorFactory

STATES_KEPT = 288
"""Recent states held in memory; an older fork point is replayed from genesis, without inference."""
LOCATOR_STEP = 2


@dataclass(frozen=True, slots=True, eq=False)
class Import:
    """What became of a block that keeps every rule."""

    block: Block
    block_id: BlockId
    is_new: bool
    """False where it was stored before."""
    is_head: bool
    """Whether it is now the active chain's last block."""
    reorg_depth: int
    """Blocks that left the active chain for it."""


class Chain:
    """The active chain, its store and its validator.

    Safe to use from several threads; imports happen one at a time.  ``now`` gives this node's clock in seconds.
    """

    def __init__(
        self, store: Store, evaluator_factory: EvaluatorFactory, now: Callable[[], int] = lambda: int(time.time())
    ) -> None:
        self.store = store
        self.spec = store.spec
        self.validator = Validator(evaluator_factory)
        self.now = now
        self._lock = threading.RLock()
        self._states: OrderedDict[BlockId, ChainState] = OrderedDict()
        self._genesis = genesis_state(self.spec)
        self._load_dataset(DatasetId(self.spec.dataset.dataset_id))
        self._head = self._replay_to(store.head())

    @property
    def head(self) -> ChainState:
        """The state after the active chain's last block."""
        return self._head

    def import_block(self, raw: bytes) -> Import:
        """Judge a block, store it, and make it the head where it is better; blocking, call it off the event loop.

        Raises :class:`Invalid` with the rule's code, :class:`Unavailable` ``unknown parent`` or data set, or
        :class:`Fault`; in each case nothing has changed.
        """
        block = decode_block(raw)
        identity = header_id(block.header)
        with self._lock:
            if self.store.has_block(identity) or identity == self.spec.genesis_id:
                return Import(block, identity, is_new=False, is_head=identity == self._head.head, reorg_depth=0)
            parent = self.state_at(block.header.previous_hash)
            judged = self.validator.judge(parent, raw, self.now())
            is_head = is_better(judged.state, self._head)
            branch = [*self._branch(parent.head, parent.height), identity] if is_head else []
            reorg_depth = max(0, self._head.height - (judged.state.height - len(branch))) if is_head else 0
            self.store.commit(identity, judged.state.height, block.header.previous_hash, raw, branch)
            self._remember(judged.state)
            if is_head:
                self._head = judged.state
        return Import(block, identity, is_new=True, is_head=is_head, reorg_depth=reorg_depth)

    def state_at(self, block_id: BlockId) -> ChainState:
        """Return the state after a stored block; raises :class:`Unavailable` where the block is not known."""
        for kept in (self._head, self._genesis):
            if block_id == kept.head:
                return kept
        with self._lock:
            if block_id in self._states:
                self._states.move_to_end(block_id)
                return self._states[block_id]
            if not self.store.has_block(block_id):
                raise Unavailable(f"unknown parent {block_id.hex()[:16]}")
            return self._replay_to(block_id)

    def add_dataset(self, dataset_id: DatasetId, payload: bytes) -> None:
        """Store a data set's pool payload and use it; raises :class:`Invalid` where it is not what its id says.

        :class:`Unavailable` where the chain has no such data set.
        """
        entry = self._head.datasets.get(dataset_id)
        if entry is None:
            raise Unavailable(f"unknown data set {dataset_id.hex()[:16]}")
        pool = dataset_from_payloads(entry.manifest, payload).pool
        self.store.put_dataset(dataset_id, payload)
        self.validator.add_dataset(dataset_id, pool)

    def missing_datasets(self) -> list[DatasetId]:
        """Return the ids of the chain's data sets whose pools are not here yet."""
        return [dataset_id for dataset_id in self._head.datasets if not self.store.has_dataset(dataset_id)]

    def locator(self) -> list[BlockId]:
        """Return ids of the active chain, head first, steps doubling, genesis last: a peer finds the fork by them."""
        ids, height, step = [], int(self._head.height), 1
        while height > 0:
            identity = self.store.active_id(height)
            if identity is not None:
                ids.append(identity)
            height -= step
            step *= LOCATOR_STEP
        return [*ids, self.spec.genesis_id]

    def common_height(self, locator: Sequence[BlockId]) -> Height:
        """Return the height of the first id of a peer's locator that is on our active chain (0 where none is)."""
        for identity in locator:
            raw = self.store.block(identity)
            if raw is None:
                continue
            height = decode_block(raw).header.height
            if self.store.active_id(height) == identity:
                return height
        return Height(0)

    def _branch(self, block_id: BlockId, height: int) -> list[BlockId]:
        """Return the ids from the first block that is not active up to ``block_id``, which has that height."""
        branch: list[BlockId] = []
        while self.store.active_id(height) != block_id:
            branch.append(block_id)
            block_id, height = self._previous(block_id), height - 1
        return branch[::-1]

    def _replay_to(self, block_id: BlockId) -> ChainState:
        path: list[BlockId] = []
        while block_id != self.spec.genesis_id and block_id not in self._states:
            path.append(block_id)
            block_id = self._previous(block_id)
        state = self._states.get(block_id, self._genesis)
        for identity in reversed(path):
            state = self._replay(state, identity)
            self._remember(state)
        return state

    def _replay(self, state: ChainState, block_id: BlockId) -> ChainState:
        # What is stored was judged before it was stored: where it breaks a rule now, the disk is at fault, not a peer.
        raw = self.store.block(block_id)
        try:
            after = self.validator.replay(state, raw or b"")
        except Invalid as error:
            raise Fault(f"the store is damaged: block {block_id.hex()[:16]} breaks a rule: {error}") from error
        if after.head != block_id:
            raise Fault(f"the store is damaged: block {block_id.hex()[:16]} holds another block")
        return after

    def _previous(self, block_id: BlockId) -> BlockId:
        previous = self.store.previous(block_id)
        if previous is None:
            raise Fault(f"the store is damaged: block {block_id.hex()[:16]} is missing")
        return previous

    def _remember(self, state: ChainState) -> None:
        self._states[state.head] = state
        while len(self._states) > STATES_KEPT:
            self._states.popitem(last=False)

    def _load_dataset(self, dataset_id: DatasetId) -> None:
        payload = self.store.dataset(dataset_id)
        if payload is None:
            return
        try:
            pool = dataset_from_payloads(self.spec.dataset, payload).pool
        except Invalid as error:
            raise Fault(f"the store is damaged: {error}") from error
        self.validator.add_dataset(dataset_id, pool)
