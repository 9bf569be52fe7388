"""A search in lanes on a pool's workers: each round every lane climbs from the best model, by a seed of its own.

A round ends as soon as its result is certain: a lane has met the request and no lane before it can any more.  Rounds
have equal budgets of candidates, so the result depends on seed and lanes, never on workers or time.  What the other
lanes found in a round is tried on its best at the next: most of it adds up.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.bnn.encoding import decode_model, encode_model, flat_weights
from bnnchain.mining.evolve import STUCK_GAIN_SHARE, EvolveProgress, EvolveResult
from bnnchain.mining.pool.tasks import LaneOrder, LaneResult, Migrant, run_lane
from bnnchain.wire import tagged_hash
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from bnnchain.mining.evolve import EvolveRequest, ReportEvolve, ShouldStop
    from bnnchain.mining.pool.workers import WorkerPool
    from bnnchain_kernels.model import Model

ROUND_MACS = 1 << 39
"""Multiply-accumulates that a round's candidates would take on the whole pool; races drop most of them early."""
MIN_ROUND_CANDIDATES, MAX_ROUND_CANDIDATES = 256, 1 << 15
MAX_JUMPS = 4
PERCENT = 100


class PooledSearch:
    """As :class:`~bnnchain.mining.evolve.Search`, in lanes; a round that runs on while nobody waits is not lost."""

    def __init__(self, pool: WorkerPool, request: EvolveRequest, share_percent: int = PERCENT) -> None:
        """share_percent: of the time that rounds may take, for a miner whose tickets come first."""
        self._pool = pool
        self._request = request
        self._gain = request.gain
        self._share_percent = max(1, share_percent)
        self._samples = pool.share_samples(request.samples)
        self._parent = encode_model(request.parent)
        self._start, self._start_correct = request.parent, -1
        self._migrants: tuple[Migrant, ...] = ()
        self._best: LaneResult | None = None
        self._round = self._jumps = 0
        self._candidates = self._accepted = 0
        self._seconds = 0.0
        self._futures: list[Any] = []
        self._results: list[LaneResult] = []
        self._round_started = self._rest_until = 0.0
        self._stop = f"search-{secrets.token_hex(16)}"

    @property
    def candidates(self) -> int:
        """Return how many candidates the rounds that are over have judged."""
        return self._candidates

    @property
    def best(self) -> Model:
        """Return the best model so far, the parent at first."""
        return self._request.parent if self._best is None else decode_model(self._best.model)

    def require(self, gain: int) -> None:
        """Ask for another gain from the next round on."""
        if not 1 <= gain <= self._request.pool_size:
            raise Invalid("bad-search", pool_size=self._request.pool_size, gain=gain)
        self._gain = gain

    def run(
        self,
        *,
        threads: int = 1,  # noqa: ARG002  (the pool's workers have their own)
        on_progress: ReportEvolve | None = None,
        should_stop: ShouldStop | None = None,
    ) -> EvolveResult | None:
        """Return a child that meets the request, or None where stopped or out of candidates."""
        should_stop = should_stop or _never
        while not self._is_met() and self._candidates < self._request.max_candidates:
            if not self._futures:
                if time.monotonic() < self._rest_until:
                    if should_stop():
                        break
                    time.sleep(0.01)
                    continue
                self._begin_round()
            if not self._gather(should_stop):
                break
            self._end_round()
            if on_progress is not None:
                on_progress(self._progress())
        return self._result() if self._is_met() else None

    def _begin_round(self) -> None:
        self._round_started = time.monotonic()
        request, start = self._request, encode_model(self._start)
        population = tuple(encode_model(model) for model in request.population)
        for lane in range(self._pool.lanes):
            digest = tagged_hash("lane", f"{request.seed}/{self._round}/{lane}".encode())
            order = LaneOrder(
                parent=self._parent,
                start=start,
                population=population,
                migrants=self._migrants,
                gain=self._gain,
                min_flips=request.min_flips,
                max_flips=request.max_flips,
                novel=request.novel,
                is_thrifty=request.is_thrifty,
                seed=int.from_bytes(digest[:8], "little") >> 1,
                max_candidates=self._budget(),
                jumps=self._jumps,
            )
            self._futures.append(self._pool.submit(run_lane, self._samples, order, self._stop))

    def _budget(self) -> int:
        macs = self._request.parent.architecture.mac_count * self._request.pool_size
        return min(max(ROUND_MACS // macs, MIN_ROUND_CANDIDATES), MAX_ROUND_CANDIDATES)

    def _gather(self, should_stop: ShouldStop) -> bool:
        """Wait for the lanes in their order until the round's result is certain; answer whether it is."""
        while len(self._results) < len(self._futures):
            result = self._pool.result(self._futures[len(self._results)], should_stop)
            if result is None:
                return False
            self._results.append(result)
            if result.is_found:
                break
        return True

    def _end_round(self) -> None:
        results, before = self._results, self._start
        if len(results) < len(self._futures):
            self._pool.stop_event(self._stop).set()
            self._stop = f"search-{secrets.token_hex(16)}"
        found = [result for result in results if result.is_found]
        best = found[0] if found else max(results, key=self._rank)  # of equals the first lane's
        gained = best.correct - max(self._start_correct, best.correct_parent)
        is_stuck = gained <= self._request.pool_size * STUCK_GAIN_SHARE
        self._jumps = min(self._jumps + 1, MAX_JUMPS) if is_stuck else 0
        if self._best is None or self._rank(best) > self._rank(self._best) or best.is_found:
            self._best = best
            self._start, self._start_correct = decode_model(best.model), best.correct
        self._migrants = self._others(before, [result for result in results if result is not best])
        self._candidates += sum(result.candidates for result in results)
        self._accepted += sum(result.accepted for result in results)
        self._round += 1
        self._futures, self._results = [], []
        busy_s = time.monotonic() - self._round_started
        self._seconds += busy_s
        self._rest_until = time.monotonic() + busy_s * (PERCENT - self._share_percent) / self._share_percent

    def _others(self, before: Model, others: list[LaneResult]) -> tuple[Migrant, ...]:
        """Return what other lanes changed and the best did not, the most helpful first."""
        old, taken = flat_weights(before), flat_weights(self._start)
        migrants = []
        for result in sorted(others, key=lambda result: -result.correct):
            if result.correct <= result.correct_parent:
                continue
            model = decode_model(result.model)
            weights = flat_weights(model)
            flips = np.flatnonzero((weights != old) & (weights != taken)).astype(np.int32)
            steps = _threshold_steps(before, model)
            if len(flips) or steps:
                migrants.append(Migrant(flips, steps))
        return tuple(migrants)

    def _rank(self, result: LaneResult) -> tuple[int, int]:
        correct = result.correct
        if self._request.is_thrifty:
            correct = min(correct, result.correct_parent + self._gain)
        return correct, min(result.novel_flips, self._request.min_flips)

    def _is_met(self) -> bool:
        best = self._best
        if best is None:
            return False
        return best.correct - best.correct_parent >= self._gain and best.novel_flips >= self._request.min_flips

    def _progress(self) -> EvolveProgress:
        best, seconds = self._best, self._seconds
        rate = self._candidates / seconds if seconds > 0 else 0.0
        if best is None:
            return EvolveProgress(self._candidates, rate, self._accepted, 0, 0, 0, seconds)
        gain = best.correct - best.correct_parent
        return EvolveProgress(self._candidates, rate, self._accepted, gain, best.flips, best.novel_flips, seconds)

    def _result(self) -> EvolveResult | None:
        best = self._best
        if best is None:
            return None
        return EvolveResult(
            child=decode_model(best.model),
            correct=best.correct,
            correct_parent=best.correct_parent,
            flips=best.flips,
            novel_flips=best.novel_flips,
            candidates=self._candidates,
            accepted=self._accepted,
            seconds=self._seconds,
        )


def _threshold_steps(before: Model, after: Model) -> tuple[tuple[int, int], ...]:
    if not before.thresholds:
        return ()
    changes = np.concatenate(after.thresholds).astype(np.int64) - np.concatenate(before.thresholds)
    places = np.flatnonzero(changes)
    return tuple(zip(places.tolist(), changes[places].tolist(), strict=True))


def _never() -> bool:
    return False
