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
from bnnchain.chain.kept_states import KeptStates
from bnnchain.chain.pools import DEFAULT_LIMIT_BYTES, Pools, manifest_of
from bnnchain.chain.schema import Damaged
from bnnchain.chain.store import DeepReorg
from bnnchain.chain.validator import Validator
from bnnchain.consensus.codec import decode_block, decode_header
from bnnchain.consensus.errors import BnnchainError, Fault, Invalid, Unavailable
from bnnchain.consensus.fork_choice import is_better
from bnnchain.consensus.header import block_id as header_id
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockId, DatasetId, Height

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnnchain.chain.store import Store
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Block, Equivocation, Header, Transaction
    from bnnchain.datasets.manifest import Manifest
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


MIN_PRUNE_BLOCKS = 1_024
"""Blocks whose bodies a pruning node keeps at least: far more than any reorganisation it should follow takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Import:
    """What became of a block that keeps every rule."""

    block: Block
    block_id: BlockId
    is_new: bool
    """False where it was stored before."""
    is_head: bool
    """Whether it has become the active chain's last block; of a range, until the next one did."""
    reorg_depth: int
    """Blocks that left the active chain for it."""
    abandoned: tuple[Transaction, ...] = ()
    """The transactions of those blocks, which wait again."""


class _Run:
    """Blocks that extend the head, judged and not stored yet."""

    def __init__(self, tip: ChainState) -> None:
        self.tip = tip
        self.blocks: list[tuple[BlockId, Header, bytes]] = []
        self.states: list[ChainState] = []


class Chain:
    """The active chain, its store and its validator.

    Safe to use from several threads; imports happen one at a time.

    now: this node's clock in seconds.
    checkpoints: ids by height that the active chain must have once it is that high; the operator's, no rule.
    dataset_limit_bytes: what the stored pools together may take.
    prune_blocks: of how many last blocks to keep the bodies, at least ``MIN_PRUNE_BLOCKS``; 0: of all.
    """

    def __init__(
        self,
        store: Store,
        evaluator_factory: EvaluatorFactory,
        now: Callable[[], int] = lambda: int(time.time()),
        *,
        checkpoints: Mapping[int, BlockId] | None = None,
        dataset_limit_bytes: int = DEFAULT_LIMIT_BYTES,
        prune_blocks: int = 0,
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
        self._kept_states = KeptStates(store)
        self._prune_blocks = max(prune_blocks, MIN_PRUNE_BLOCKS) if prune_blocks else 0
        self._checkpoints = Checkpoints(checkpoints or {}, store)
        self._pools = Pools(store, self.validator, dataset_limit_bytes)
        self._pools.missing(self._genesis)
        self._head = self._start()
        self._pools.missing(self._head)
        self._equivocations = EquivocationWatch(store, self._head)
        self._waiting_branch: ChainState | None = None
        """The parent of the last block beside the active chain that could not be judged: it may lack a pool."""
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
        return self.import_blocks([raw])[0]

    def import_blocks(self, raws: Sequence[bytes], trusted_height: int = 0) -> list[Import]:
        """Import blocks in order, as one by one, but those that extend the head with one flush of the disk for all.

        trusted_height: up to it blocks are replayed without inference.  Only for who has followed the blocks' ids down
        from one that the operator has pinned: an id commits to all of a block, and to all blocks before it.

        Raises as :meth:`import_block`; the blocks before the one that is refused are in.  Nothing is in before it
        lasts: a power cut takes back no block of which this has told.
        """
        with self._lock:
            run = _Run(self._head)
            try:
                imports = [self._import(raw, run, trusted_height) for raw in raws]
            except BnnchainError:
                self._store_run(run)
                raise
            self._store_run(run)
        return imports

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
        self._pools.add(self.manifest(dataset_id), dataset_id, payload)

    def manifest(self, dataset_id: DatasetId) -> Manifest:
        """Return the manifest of a data set of the chain, or of the branch that waits for it.

        Raises :class:`Unavailable` where neither has one of that id.
        """
        waiting = self._waiting_branch
        if waiting is not None and dataset_id in waiting.datasets:
            return manifest_of(waiting, dataset_id)
        return manifest_of(self._head, dataset_id)

    def missing_datasets(self) -> list[DatasetId]:
        """Return the ids of the data sets, not closed ones, whose pools are not here yet, most needed first.

        A pool that the operator has put into the store meanwhile is used from now on.
        """
        missing, waiting = self._pools.missing(self._head), self._waiting_branch
        if waiting is None:
            return missing
        return [*(each for each in self._pools.missing(waiting) if each not in missing), *missing]

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
        headers = [decode_header(raw) for raw in raws]
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
            height = self.store.height(identity)
            if height is not None and self.store.active_id(height) == identity:
                return height
        return Height(0)

    def _import(self, raw: bytes, run: _Run, trusted_height: int) -> Import:
        block = decode_block(raw)
        identity, tip = header_id(block.header), run.tip
        extends_tip = block.header.previous_hash == tip.head
        if not extends_tip:
            self._store_run(run)
        if self.store.has_block(identity) or identity == self.spec.genesis_id:
            return Import(block, identity, is_new=False, is_head=identity == tip.head, reorg_depth=0)
        if not extends_tip:
            imported = self._import_beside(raw, block, identity, trusted_height)
            run.tip = self._head
            return imported
        if self._checkpoints.refuse(identity, tip.height + 1):
            raise Invalid("other-checkpoint", height=tip.height + 1, id=identity.hex()[:16])
        self._equivocations.see(block.header)
        run.tip = self._judge(tip, raw, trusted_height)  # heavier than its parent, as every block is
        run.blocks.append((identity, block.header, raw))
        run.states.append(run.tip)
        self._pools.missing(run.tip)  # what the operator has provided is used as soon as the chain knows it
        return Import(block, identity, is_new=True, is_head=True, reorg_depth=0)

    def _import_beside(self, raw: bytes, block: Block, identity: BlockId, trusted_height: int) -> Import:
        """Import a block whose parent is not the head: it is stored beside the active chain, or takes its place."""
        parent = self.state_at(block.header.previous_hash)
        if self._checkpoints.refuse(identity, parent.height + 1):
            raise Invalid("other-checkpoint", height=parent.height + 1, id=identity.hex()[:16])
        self._equivocations.see(block.header)
        self._pools.missing(parent)
        try:
            state = self._judge(parent, raw, trusted_height)
        except Unavailable:
            self._waiting_branch = parent  # a branch may have data sets that the active chain has not
            raise
        self._waiting_branch = None
        if not is_better(state, self._head):
            self.store.commit(identity, block.header, raw, ())
            self._remember(state)
            return Import(block, identity, is_new=True, is_head=False, reorg_depth=0)
        branch = [*self._branch(parent.head, parent.height), identity]
        if self._checkpoints.refuse_branch(branch, state.height):
            raise Invalid("other-checkpoint", height=state.height, id=identity.hex()[:16])
        depth, abandoned = self._leave(state, branch)
        self.store.commit(identity, block.header, raw, branch, self._alarm(state, depth))
        self._take(state)
        return Import(block, identity, is_new=True, is_head=True, reorg_depth=depth, abandoned=abandoned)

    def _judge(self, parent: ChainState, raw: bytes, trusted_height: int) -> ChainState:
        if parent.height < trusted_height:
            return self.validator.replay(parent, raw)
        return self.validator.judge(parent, raw, self.now()).state

    def _store_run(self, run: _Run) -> None:
        if not run.blocks:
            return
        self.store.commit_range(run.blocks)
        states, run.blocks, run.states = run.states, [], []
        for state in states[:-1]:
            self._remember(state)
        self._take(states[-1])
        for state in states[:-1]:
            self._keep(state)

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
        self._pools.missing(state)
        self._pools.trim(state)
        self._keep(state)

    def _keep(self, state: ChainState) -> None:
        """Keep a state on disk now and then, so that the next start is short; and prune, where that is wished."""
        try:
            self._kept_states.keep(state)
            if self._prune_blocks and state.height % WAYPOINT_BLOCKS == 0:
                self.prune()
        except Fault as error:
            # The block is in already, and whoever sent it is told so.  A full disk is said at the next one.
            log.warning("no state kept, nothing pruned at height %d: %s", state.height, error)

    def prune(self) -> None:
        """Drop the bodies of all but the last blocks, as far as states are kept from which the rest can be replayed."""
        height = self._kept_states.prunable_height(self._head.height - self._prune_blocks)
        if height > self.store.pruned_height():
            self.store.prune(height)

    def _branch(self, block_id: BlockId, height: int) -> list[BlockId]:
        """Return the ids from the first block that is not active up to ``block_id``, which has that height."""
        branch: list[BlockId] = []
        while self.store.active_id(height) != block_id:
            branch.append(block_id)
            block_id, height = self._previous(block_id), height - 1
        return branch[::-1]

    def _start(self) -> ChainState:
        try:
            state = self._replay_to(self.store.head())
        except Unavailable as error:
            raise Damaged("no state is kept from which this pruned store can be replayed") from error
        if self._prune_blocks:
            self._head = state
            self._keep(state)
            self.prune()
        return state

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
        return self._states.get(block_id) or self._waypoints.get(block_id) or self._kept_states.load(block_id)

    def _replay(self, state: ChainState, block_id: BlockId) -> ChainState:
        # What is stored was judged before it was stored: where it breaks a rule now, the disk is at fault, not a peer.
        raw = self.store.block(block_id)
        try:
            after = self.validator.replay(state, raw or b"")
        except Invalid as error:
            message = f"the store is damaged: block {block_id.hex()[:16]} breaks a rule: {error}"
            raise Damaged(message) from error
        if after.head != block_id:
            raise Damaged(f"the store is damaged: block {block_id.hex()[:16]} holds another block")
        return after

    def _previous(self, block_id: BlockId) -> BlockId:
        previous = self.store.previous(block_id)
        if previous is None:
            raise Damaged(f"the store is damaged: block {block_id.hex()[:16]} is missing")
        return previous

    def _remember(self, state: ChainState) -> None:
        self._states[state.head] = state
        while len(self._states) > STATES_KEPT:
            self._states.popitem(last=False)
        if state.height % WAYPOINT_BLOCKS == 0:
            self._waypoints[state.head] = state
            while len(self._waypoints) > WAYPOINTS_KEPT:
                self._waypoints.popitem(last=False)
