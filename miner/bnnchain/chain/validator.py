"""The rules with the kernel between them: from a parent's state and a block's bytes to the next state."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from bnnchain.chain.meter import InferenceMeter
from bnnchain.consensus import transition
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.lottery import sample_indices
from bnnchain.consensus.types import BlockKind
from bnnchain_kernels.evaluator import count_correct, predict

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from bnnchain.consensus.state import ChainState, ModelRecord
    from bnnchain.consensus.types import Block, BlockId, DatasetId
    from bnnchain_kernels.evaluator import Evaluator, EvaluatorFactory, Samples
    from bnnchain_kernels.model import Int32Array, Model, UInt8Array

PREDICTION_IMAGES = 8_192
"""Images whose logits are held at once while predictions are made."""
CACHED_PREDICTIONS = 64
CACHED_TICKET_POOLS = 8

Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A block that keeps every rule, and the state after it."""

    block: Block
    block_id: BlockId
    state: ChainState


class Validator:
    """Judges blocks; owns the data sets' samples and the evaluators built from them.  Thread-safe."""

    def __init__(self, evaluator_factory: EvaluatorFactory) -> None:
        self._factory = evaluator_factory
        self.meter = InferenceMeter()
        self._pools: dict[DatasetId, Samples] = {}
        self._evaluators: Cache[DatasetId, Evaluator] = Cache(64)
        self._ticket_pools: Cache[tuple[BlockId, DatasetId], Evaluator] = Cache(CACHED_TICKET_POOLS)
        self._predictions: Cache[bytes, UInt8Array] = Cache(CACHED_PREDICTIONS)

    def add_dataset(self, dataset_id: DatasetId, pool: Samples) -> None:
        """Make a data set's pool available; the caller has checked it against its manifest."""
        self._pools[dataset_id] = pool

    def pool(self, dataset_id: DatasetId) -> Samples:
        """Return a data set's pool; raises :class:`Unavailable` where it is not here yet."""
        try:
            return self._pools[dataset_id]
        except KeyError:
            raise Unavailable(f"data set {dataset_id.hex()[:16]} is not here yet") from None

    def evaluator(self, dataset_id: DatasetId) -> Evaluator:
        """Return the evaluator of a data set's whole pool, built once."""
        return self._evaluators.get(dataset_id, lambda: self._factory(self.pool(dataset_id)))

    def ticket_evaluator(self, previous_hash: BlockId, dataset_id: DatasetId, n_eval: int) -> Evaluator:
        """Return the evaluator of the pool samples on which tickets above ``previous_hash`` are played."""

        def build() -> Evaluator:
            pool = self.pool(dataset_id)
            return self._factory(pool.take(sample_indices(previous_hash, dataset_id, len(pool), n_eval)))

        return self._ticket_pools.get((previous_hash, dataset_id), build)

    def judge(self, state: ChainState, raw: bytes, now: int) -> Judged:
        """Return the block of ``raw`` judged against its parent's ``state``, cheapest rules first.

        now: this node's clock, seconds.  Raises :class:`Invalid`, or :class:`Unavailable` for a missing data set.
        """
        block = decode_block(raw)
        header = transition.check_header(state, block.header, now)
        transition.check_lottery(header, self._ticket_logits(header))
        checked = transition.check_body(state, header, block, len(raw))
        if checked.stale is not None:
            transition.check_stale_lottery(checked.stale, self._ticket_logits(checked.stale))
        after = transition.accept(state, checked, self._count(checked))
        return Judged(block, header.block_id, after)

    def replay(self, state: ChainState, raw: bytes) -> ChainState:
        """Return the state after a stored block, which was judged before: the rules again, without inference."""
        block = decode_block(raw)
        header = transition.check_header(state, block.header, block.header.timestamp)
        return transition.apply(state, transition.check_body(state, header, block, len(raw)))

    def predictions(self, dataset_id: DatasetId, model: Model, model_hash: bytes) -> UInt8Array:
        """Return ``uint8[pool]``: the classes a model predicts on the whole pool."""

        def compute() -> UInt8Array:
            evaluator, size = self.evaluator(dataset_id), len(self.pool(dataset_id))
            starts = range(0, size, PREDICTION_IMAGES)
            with self.meter.measure(evaluator.backend, size):
                parts = [predict(evaluator.logits(model, at, min(at + PREDICTION_IMAGES, size))) for at in starts]
            return np.concatenate(parts)

        return self._predictions.get(dataset_id + model_hash, compute)

    def _ticket_logits(self, header: transition.CheckedHeader) -> Int32Array:
        task, n_eval = header.task, header.params.n_eval
        tickets = self.ticket_evaluator(task.previous_hash, task.dataset_id, n_eval)
        images = min(n_eval, len(self.pool(task.dataset_id)))
        with self.meter.measure(tickets.backend, images):
            return tickets.logits(task.child, 0, images)

    def _count(self, checked: transition.CheckedBlock) -> transition.Counts | None:
        place, model = checked.checked_header.place, checked.model
        if place is None or model is None:
            return None
        evaluator, size = self.evaluator(place.dataset_id), len(self.pool(place.dataset_id))
        with self.meter.measure(evaluator.backend, size):
            correct = count_correct(evaluator, model, size)
        if correct != checked.block.header.correct_new:
            raise Invalid("bad-claim", claimed=checked.block.header.correct_new, counted=correct)
        majority = int(np.bincount(self.pool(place.dataset_id).labels).max())
        if place.kind != BlockKind.FOUND or place.family is None:
            return transition.Counts(correct, None, (), majority)
        own = self.predictions(place.dataset_id, model, checked.block.header.model_hash)
        others = [self._founder_predictions(place.dataset_id, founder) for founder in place.family.founders]
        return transition.Counts(correct, own, others, majority)

    def _founder_predictions(self, dataset_id: DatasetId, founder: ModelRecord) -> UInt8Array:
        return self.predictions(dataset_id, founder.model, founder.model_hash)


class Cache(Generic[Key, Value]):
    """Keeps the last values asked for; one thread at a time builds a missing one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Key, build: Callable[[], Value]) -> Value:
        """Return the value of ``key``, built where it is not kept."""
        with self._lock:
            if key not in self._values:
                self._values[key] = build()
                while len(self._values) > self._limit:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]
