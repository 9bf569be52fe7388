"""Tickets say which weights are worth flipping, and a search that hears them finds its child with less work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from mining.searching import POOL_SIZE, SHAPE, toy_problem

from bnnchain.bnn.encoding import apply_flips, flat_weights
from bnnchain.consensus import lottery
from bnnchain.mining import evidence as evidence_module
from bnnchain.mining.evidence import BEST_MUTANTS, TicketEvidence
from bnnchain.mining.evolve import EvolveRequest, Search
from bnnchain.mining.operators import FEW_FLIPS_MOVES, FewFlips, Situation, apply_move
from bnnchain.mining.tickets import count_right
from bnnchain_kernels.evaluator import Samples, count_correct, predict
from bnnchain_kernels.mutants import pack_mutants
from bnnchain_kernels.reference import ReferenceEvaluator
from bnnchain_kernels.select import mutants_of, select

if TYPE_CHECKING:
    from bnnchain_kernels.model import Int32Array, Model

WRONG = 14


def look(base: Model, eligible: np.ndarray | None = None) -> Situation:
    everything = np.arange(base.architecture.weight_count)
    return Situation(base, flat_weights(base), (), everything if eligible is None else eligible)


def draw_tickets(parent: Model, samples: Samples, count: int, evidence: TicketEvidence) -> None:
    """Draw tickets on the whole toy pool as a miner does."""
    mutants = mutants_of(select("auto")(samples), samples, parent, len(samples))
    base = int(mutants.base_counts.sum())
    for start in range(0, count, 64):
        seeds = [lottery.ticket_seed(bytes(32), nonce) for nonce in range(start, min(start + 64, count))]
        flips = [lottery.mutant_flips(parent.architecture, seed, 1) for seed in seeds]
        logits = mutants.logits(pack_mutants([(each, ()) for each in flips]))
        evidence.record(flips, count_right(logits, samples.labels) - base)


@pytest.mark.parametrize("seed", range(20))
def test_right_labels_are_counted_as_predictions_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few values, so that ties with classes below and above the label abound.
    logits: Int32Array = rng.integers(-2, 3, (5, 200, 7)).astype(np.int32)
    labels = rng.integers(0, 7, 200).astype(np.uint8)
    wanted = [int(np.count_nonzero(predict(each) == labels)) for each in logits]
    assert count_right(logits, labels).tolist() == wanted


def test_wrong_weights_are_found_among_the_promising() -> None:
    shares = []
    for seed in range(6):
        parent, samples = toy_problem(seed, WRONG)
        evidence = TicketEvidence(parent)
        draw_tickets(parent, samples, 2000, evidence)
        assert evidence.tickets == 2000
        moves = evidence.propose(look(parent), np.random.default_rng(seed))
        promising = np.unique(np.concatenate([move.flips for move in moves[BEST_MUTANTS:]]))
        assert len(promising) <= 0.12 * SHAPE.weight_count
        shares.append(np.isin(wrong_weights(seed), promising).mean())
    # A tenth of each layer is called promising; by chance it would hold a tenth of the wrong weights.
    assert np.mean(shares) >= 0.25


def wrong_weights(seed: int) -> np.ndarray:
    """Return the weights that ``toy_problem`` flipped."""
    rng = np.random.default_rng(seed)
    for layer in SHAPE.geometry:
        rng.random((layer.out_channels, layer.fan_in))
    rng.random((POOL_SIZE, SHAPE.input_bits))
    return np.sort(rng.choice(SHAPE.weight_count, WRONG, replace=False)).astype(np.int64)


def test_nothing_is_proposed_before_a_ticket() -> None:
    parent, _ = toy_problem(0)
    assert TicketEvidence(parent).propose(look(parent), np.random.default_rng(0)) == []


def test_the_best_mutants_come_first_and_whole() -> None:
    parent, _ = toy_problem(0)
    evidence = TicketEvidence(parent)
    evidence.record([[3, 60], [9, 61], [5, 62], [7, 63]], np.array([4, -2, 9, 0], np.int32))
    moves = evidence.propose(look(parent), np.random.default_rng(0))
    assert [move.flips.tolist() for move in moves[:2]] == [[5, 62], [3, 60]]
    assert [7, 63] not in [move.flips.tolist() for move in moves[:2]]
    assert len(moves) == FEW_FLIPS_MOVES
    for number in range(3 * BEST_MUTANTS):
        evidence.record([[number % 40, 55 + number % 60]], np.array([20 + number], np.int32))
    moves = evidence.propose(look(parent), np.random.default_rng(0))
    assert len(moves) == FEW_FLIPS_MOVES
    assert moves[0].flips.tolist() == [(3 * BEST_MUTANTS - 1) % 40, 55 + (3 * BEST_MUTANTS - 1) % 60]


def test_what_was_flipped_or_is_not_eligible_is_left_alone() -> None:
    parent, _ = toy_problem(0)
    evidence = TicketEvidence(parent)
    evidence.record([[3, 60], [5, 62], [7, 63]], np.array([4, 9, 2], np.int32))
    child = apply_flips(parent, np.array([5], np.int64))
    eligible = np.delete(np.arange(SHAPE.weight_count), 60)
    moves = evidence.propose(look(child, eligible), np.random.default_rng(0))
    assert moves[0].flips.tolist() == [7, 63]
    flips = np.concatenate([move.flips for move in moves])
    assert not np.isin([5, 60], flips).any()


@pytest.mark.parametrize("seed", range(3))
def test_its_moves_help_more_often_than_random_ones(seed: int) -> None:
    """The operator's yield, by exact counts on the pool: moves that gain, and what they gain."""
    parent, samples = toy_problem(seed, WRONG)
    evidence = TicketEvidence(parent)
    draw_tickets(parent, samples, 2000, evidence)
    reference = ReferenceEvaluator(samples)
    correct = count_correct(reference, parent, POOL_SIZE)
    helpful, gained = [], []
    for operator in (evidence, FewFlips()):
        moves = operator.propose(look(parent), np.random.default_rng(seed))
        gains = [count_correct(reference, apply_move(parent, move), POOL_SIZE) - correct for move in moves]
        helpful.append(np.mean(np.array(gains) > 0))
        gained.append(np.mean(np.maximum(gains, 0)))
    assert helpful[0] > 1.5 * helpful[1]
    assert gained[0] > 1.5 * gained[1]


def test_enough_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, samples = toy_problem(0)
    evidence = TicketEvidence(parent)
    monkeypatch.setattr(evidence_module, "ENOUGH_TICKETS", 64)
    assert not evidence.is_complete
    draw_tickets(parent, samples, 64, evidence)
    assert evidence.is_complete


def test_a_demand_can_be_changed_while_the_search_runs_on() -> None:
    parent, samples = toy_problem(2)
    request = EvolveRequest(parent, samples, gain=POOL_SIZE, min_flips=2, seed=2, max_candidates=2000)
    search = Search(request, ReferenceEvaluator(samples))
    assert search.run(should_stop=lambda: search.candidates > 600) is None
    search.require(1)
    first = search.run()
    assert first is not None
    assert first.correct > first.correct_parent
    search.require(first.correct - first.correct_parent + 1)
    better = search.run()
    assert better is None or better.correct > first.correct
