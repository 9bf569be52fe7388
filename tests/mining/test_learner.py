"""What is learned keeps every gate, is tried again where refused, and outlives the blocks that interrupt it."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
from builders import MINER, Builder, Clock, count, fetch_pools, founder, make_spec, open_chain
from uploads import IDLE, upload, uploaded_id

from bnnchain.consensus import learning
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.registry import validate_proofs
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import BlockKind
from bnnchain.mining import learner as learner_module
from bnnchain.mining.availability import availability_proofs
from bnnchain.mining.evolve import Search
from bnnchain.mining.founders import FoundedModel
from bnnchain.mining.learner import Learner
from bnnchain.mining.miner import MiningOptions

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.chain.chain import Chain
    from bnnchain_kernels.model import Architecture


class ScriptedFounder:
    """Returns the builders' founders of the given numbers, one after another; the last for ever."""

    name = "scripted"

    def __init__(self, *numbers: int) -> None:
        self.seeds: list[int] = []
        self._numbers = numbers

    def found(self, architecture: Architecture, *_: Any, seed: int, **__: Any) -> FoundedModel:
        number = self._numbers[min(len(self.seeds), len(self._numbers) - 1)]
        self.seeds.append(seed)
        model = founder(architecture, number)
        return FoundedModel(model, count(model), 700, 1.0, 0.0)


def make_learner(chain: Chain, own: ScriptedFounder | None = None, seed: int = 1) -> Learner:
    return Learner(chain, own or ScriptedFounder(1, 2, 3), MiningOptions(seed, 1), lambda _: None)


def small_chain(path: Path, **params: int) -> tuple[Chain, Clock]:
    clock = Clock()
    return open_chain(path / "chain.db", make_spec(min_families=1, **params), clock), clock


def never() -> bool:
    return False


def after(calls: int) -> Any:
    """Return a ``should_stop`` that answers True from the given call on."""
    counter = itertools.count()
    return lambda: next(counter) >= calls


def evolving_chain(path: Path, **params: int) -> tuple[Chain, Clock, Builder]:
    """Return a chain whose next place is a child's."""
    chain, clock = small_chain(path, **params)
    clock.now += 10**6
    builder = Builder(chain)
    builder.extend(2)
    clock.now = chain.head.timestamp
    return chain, clock, builder


def test_a_founder_too_like_another_is_trained_again_from_another_seed(tmp_path: Path) -> None:
    chain, _ = small_chain(tmp_path)
    own = ScriptedFounder(1, 1, 1, 2)
    learner = make_learner(chain, own)
    first = learner.learn(chain.head, None, never)
    assert first is not None
    assert first.place is not None
    assert first.model is not None
    Builder(chain).chain.import_block(_sealed(chain, first.model))
    second = learner.learn(chain.head, None, never)
    assert second is not None
    assert second.correct == count(founder(first.model.architecture, 2))
    assert len(set(own.seeds)) == len(own.seeds) == 4


def _sealed(chain: Chain, model: Any) -> bytes:
    from bnnchain.consensus.codec import encode_block

    chain.now.now += 10**6  # type: ignore[attr-defined]
    builder = Builder(chain)
    return encode_block(builder.found(builder.place(), model))


def test_reused_rows_are_trained_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, _ = small_chain(tmp_path)
    own, refusals = ScriptedFounder(1, 2), iter([True, False])

    def refuse_first(*_: Any) -> None:
        if next(refusals):
            raise Invalid("bad-row-reuse")

    monkeypatch.setattr(learning, "validate_rows", refuse_first)
    candidate = make_learner(chain, own).learn(chain.head, None, never)
    assert candidate is not None
    assert len(own.seeds) == 2


def test_a_weak_founder_is_given_up_for_a_while(tmp_path: Path) -> None:
    chain, _ = small_chain(tmp_path, min_family_acc_bp=9_900)
    own = ScriptedFounder(1)
    assert make_learner(chain, own).learn(chain.head, None, never) is None
    assert len(own.seeds) == len(learner_module.FOUNDING_EPOCHS)


def test_a_trained_founder_waits_for_the_next_block(tmp_path: Path) -> None:
    chain, clock = small_chain(tmp_path)
    own = ScriptedFounder(1)
    learner = make_learner(chain, own)
    assert learner.learn(chain.head, None, after(1)) is None
    assert len(own.seeds) == 1
    clock.now += 10**6
    Builder(chain).extend(kind=IDLE)
    assert learner.learn(chain.head, None, never) is not None
    assert len(own.seeds) == 1


def test_a_search_goes_on_after_a_block_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Search] = []
    build = Search.__init__

    def noted(search: Search, *arguments: Any) -> None:
        begun.append(search)
        build(search, *arguments)

    monkeypatch.setattr(Search, "__init__", noted)
    chain, clock, builder = evolving_chain(tmp_path)
    learner = make_learner(chain)
    first = learner.learn(chain.head, None, never)
    assert first is not None
    judged = begun[0].candidates
    clock.now += 10**6
    builder.extend(kind=IDLE)
    again = learner.learn(chain.head, None, never)
    assert again is not None
    assert (again.correct, len(begun), begun[0].candidates) == (first.correct, 1, judged)
    assert learner.evidence(again) is learner.evidence(first) is not None
    better = learner.learn(chain.head, again, never)
    assert better is not None
    assert better.correct > again.correct
    # A child of the family makes another parent, and another search.
    chain.import_block(builder.tamper(builder.evolve(builder.place(), again.model)))
    learner.learn(chain.head, None, after(3))
    assert len(begun) == 2


def test_a_child_too_weak_at_first_is_valid_later(tmp_path: Path) -> None:
    # Asked for the whole pool at first, and for one sample after ten half-lives.
    chain, clock, _ = evolving_chain(tmp_path, min_population_acc_bp=3_000, gain_halflife_s=30, skip_s=10**6)
    learner = make_learner(chain)
    until = time.monotonic() + 1
    assert learner.learn(chain.head, None, lambda: time.monotonic() > until) is None
    clock.now += 300
    candidate = learner.learn(chain.head, None, never)
    assert candidate is not None
    assert candidate.correct > chain.head.families[0].best.correct


def test_the_same_seed_finds_the_same_child(tmp_path: Path) -> None:
    chain, _, _ = evolving_chain(tmp_path)
    found = [make_learner(chain, seed=seed).learn(chain.head, None, never) for seed in (5, 5)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].model is not None
    assert found[1].model is not None
    for mine, other in zip(found[0].model.weights, found[1].model.weights, strict=True):
        assert (mine == other).all()


def test_what_the_gate_cannot_give_is_not_searched_for(tmp_path: Path) -> None:
    chain, _, _ = evolving_chain(tmp_path, min_population_acc_bp=10_000)
    assert make_learner(chain).learn(chain.head, None, never) is None


def test_proofs_of_every_data_set_that_is_here(tmp_path: Path) -> None:
    chain, clock = small_chain(tmp_path)
    clock.now += 10**6
    miner = public_key(MINER)
    builder = Builder(chain)
    builder.extend(kind=IDLE, transactions=[upload(0), upload(1, nonce=1)])
    fetch_pools(chain)
    assert availability_proofs(chain.head, miner, lambda _: None) == ()
    proofs = availability_proofs(chain.head, miner, chain.store.dataset)
    assert [proof.dataset_id for proof in proofs] == sorted([uploaded_id(0), uploaded_id(1)])
    validate_proofs(chain.head, chain.head.head, miner, proofs)
    with pytest.raises(Invalid, match="bad-availability"):
        validate_proofs(chain.head, chain.head.head, miner, proofs[::-1])
    builder.extend(kind=IDLE, proofs=proofs)
    assert chain.head.datasets[uploaded_id(0)].window == 1


def test_a_candidate_that_is_no_child_has_no_evidence(tmp_path: Path) -> None:
    chain, _ = small_chain(tmp_path)
    learner = make_learner(chain)
    candidate = learner.learn(chain.head, None, never)
    assert candidate is not None
    assert candidate.place is not None
    assert candidate.place.kind == BlockKind.FOUND
    assert learner.evidence(candidate) is None
