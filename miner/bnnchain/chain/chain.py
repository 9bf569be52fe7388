"""The one door for blocks: a peer's and the miner's own come in by :meth:`Chain.import_block` alone."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.chain.checkpoints import Checkpoints
from bnnchain.chain.equivocations import EquivocationWatch
from bnnchain.chain.pools import DEFAULT_LIMIT_BYTES, Pools, manifest_of
from bnnchain.chain.store import DeepReorg
from bnnchain.chain.validator import Validator
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.fork_choice import is_better
from bnnchain.consensus.header import block_id as header_id
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockId, DatasetId, Height

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnnchain.chain.store import Store
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Block, Equivocation, Header, Transaction
    from bnnchain_kernels.evaluator import EvaluatorFactory

log = logging.getLogger(__name__)

STATES_KEPT = 288
"""Recent states held in memory; an older fork point is replayed from a waypoint below it, without inference."""
WAYPOINT_BLOCKS = 64
"""A state is kept at every such height, so that a header that names an old parent costs at most as many replays."""
WAYPOINTS_KEPT = 1_024
"""States share what they do not change; beyond this many the oldest go, and genesis stands in for them."""
LOCATOR_STEP = 2
DEEP_REORG_BLOCKS = 100
"""A reorganisation that takes more blocks than this is an alarm: nobody's blocks lose so many in the common way."""


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
    abandoned: tuple[Transaction, ...] = ()
    """The transactions of those blocks, which wait again."""


class Chain:
    """The active chain, its store and its validator.

    Safe to use from several threads; imports happen one at a time.

    now: this node's clock in seconds.
    checkpoints: ids by height that the active chain must have once it is that high; the operator's, no rule.
    dataset_limit_bytes: what the stored pools together may take.
    """

    def __init__(
        self,
        store: Store,
        evaluator_factory: EvaluatorFactory,
        now: Callable[[], int] = lambda: int(time.time()),
        *,
        checkpoints: Mapping[int, BlockId] | None = None,
        dataset_limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> None:
        """Raises :class:`Fault` where the store is damaged or contradicts a checkpoint."""
        self.store = store
        self.spec = store.spec
        self.validator = Validator(evaluator_factory)
        self.now = now
        self._lock = threading.RLock()
        self._states: OrderedDict[BlockId, ChainState] = OrderedDict()
        self._waypoints: OrderedDict[BlockId, ChainState] = OrderedDict()
        self._genesis = genesis_state(self.spec)
        self._checkpoints = Checkpoints(checkpoints or {}, store)
        self._pools = Pools(store, self.validator, dataset_limit_bytes)
        self._pools.missing(self._genesis)
        self._head = self._replay_to(store.head())
        self._pools.missing(self._head)
        self._equivocations = EquivocationWatch(store, self._head)
        self._preferred_weight = 0
        """Of the last tie that :meth:`prefer` has decided."""

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
            if self._checkpoints.refuse(identity, parent.height + 1):
                raise Invalid("other-checkpoint", height=parent.height + 1, id=identity.hex()[:16])
            self._equivocations.see(block.header)
            judged = self.validator.judge(parent, raw, self.now())
            is_head = is_better(judged.state, self._head)
            if not is_head:
                self.store.commit(identity, block.header, raw, ())
                self._remember(judged.state)
                return Import(block, identity, is_new=True, is_head=False, reorg_depth=0)
            branch = [*self._branch(parent.head, parent.height), identity]
            if self._checkpoints.refuse_branch(branch, judged.state.height):
                raise Invalid("other-checkpoint", height=judged.state.height, id=identity.hex()[:16])
            depth, abandoned = self._leave(judged.state, branch)
            self.store.commit(identity, block.header, raw, branch, self._alarm(judged.state, depth))
            self._take(judged.state)
        return Import(block, identity, is_new=True, is_head=True, reorg_depth=depth, abandoned=abandoned)

    def prefer(self, block_id: BlockId) -> Import | None:
        """Make a stored block of the head's own weight the head; None where it is not one, or is the head already.

        Local block consensus (paper section 4.6): of equal weights the first seen stays, unless most peers stand on
        the other.  Once for each weight, so that two groups of nodes cannot swap for ever.
        """
        with self._lock:
            raw = self.store.block(block_id)
            if raw is None or block_id == self._head.head or self._preferred_weight == self._head.weight:
                return None
            state = self.state_at(block_id)
            branch = self._branch(block_id, state.height)
            if state.weight != self._head.weight or self._checkpoints.refuse_branch(branch, state.height):
                return None
            depth, abandoned = self._leave(state, branch)
            self.store.activate(state.height, branch, self._alarm(state, depth))
            self._preferred_weight = state.weight
            self._take(state)
        return Import(decode_block(raw), block_id, is_new=False, is_head=True, reorg_depth=depth, abandoned=abandoned)

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
        self._pools.add(manifest_of(self._head, dataset_id), dataset_id, payload)

    def missing_datasets(self) -> list[DatasetId]:
        """Return the ids of the data sets, not closed ones, whose pools are not here yet, most needed first.

        A pool that the operator has put into the store meanwhile is used from now on.
        """
        return self._pools.missing(self._head)

    def stale_headers(self, limit: int) -> list[Header]:
        """Return headers that a block on the head may carry as stale ones, newest first, at most ``limit``.

        Those of stored blocks beside the active chain whose parent is among the head's last ancestors.  None where the
        chain pays nothing for them.
        """
        state = self._head
        params = state.spec.params_at(state.height + 1)
        if params.is_lottery_open or not params.stale_depth:
            return []
        included = {block_id for _, block_id in state.included_stale}
        raws = self.store.children([ancestor.head for ancestor in state.ancestors], limit + len(included))
        headers = [decode_block(raw).header for raw in raws]
        return [header for header in headers if header_id(header) not in included][:limit]

    def equivocations(self) -> list[Equivocation]:
        """Return proofs that a miner whose reward still waits has signed two blocks on one parent."""
        return self._equivocations.provable(self._head)

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

    def _leave(self, state: ChainState, branch: Sequence[BlockId]) -> tuple[int, tuple[Transaction, ...]]:
        """Return how many blocks leave the active chain for ``branch``, and their transactions, oldest first."""
        depth = max(0, self._head.height - (state.height - len(branch)))
        blocks = self.store.active_blocks(self._head.height - depth + 1, depth) if depth else ()
        return depth, tuple(transaction for _, raw in blocks for transaction in decode_block(raw).transactions)

    def _alarm(self, state: ChainState, depth: int) -> DeepReorg | None:
        if depth <= DEEP_REORG_BLOCKS:
            return None
        log.error("DEEP REORGANISATION: %d blocks leave the chain for %s", depth, state.head.hex())
        return DeepReorg(self.now(), state.height, state.head, depth)

    def _take(self, state: ChainState) -> None:
        self._remember(state)
        self._head = state
        self._pools.missing(state)  # what the operator has provided is used as soon as the chain knows it
        self._pools.trim(state)

    def _branch(self, block_id: BlockId, height: int) -> list[BlockId]:
        """Return the ids from the first block that is not active up to ``block_id``, which has that height."""
        branch: list[BlockId] = []
        while self.store.active_id(height) != block_id:
            branch.append(block_id)
            block_id, height = self._previous(block_id), height - 1
        return branch[::-1]

    def _replay_to(self, block_id: BlockId) -> ChainState:
        path: list[BlockId] = []
        while (state := self._kept(block_id)) is None:
            path.append(block_id)
            block_id = self._previous(block_id)
        for identity in reversed(path):
            state = self._replay(state, identity)
            self._remember(state)
        return state

    def _kept(self, block_id: BlockId) -> ChainState | None:
        if block_id == self.spec.genesis_id:
            return self._genesis
        return self._states.get(block_id) or self._waypoints.get(block_id)

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
        if state.height % WAYPOINT_BLOCKS == 0:
            self._waypoints[state.head] = state
            while len(self._waypoints) > WAYPOINTS_KEPT:
                self._waypoints.popitem(last=False)
