"""State machines: what must hold after any steps in any order, of money, forks, election, novelty and the mempool."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from builders import (
    ALICE,
    BOB,
    CAROL,
    MINER,
    Builder,
    close_opened,
    describe,
    made_up_family,
    make_params,
    make_spec,
    money,
    open_chain,
    random_model,
    transfer,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from learnable import OWN, uploaded_dataset
from oracle import judging
from uploads import IDLE, entry, evidence, order, upload, uploaded_id

from bnnchain.bnn.encoding import apply_flips, flat_weights
from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.booking import Booking, book
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.election import election_order, is_open, join_offset, open_places, round_key
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.fork_choice import is_better
from bnnchain.consensus.lineage import new_family, novel_flip_count, novel_flips, with_child, with_founder
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import ChainState, DatasetStatus, ModelRecord, genesis_state, own_dataset
from bnnchain.consensus.types import Amount, BlockId, Bounty, Height, ModelHash, PublicKey
from bnnchain_kernels.model import Architecture, Dense

if TYPE_CHECKING:
    from bnnchain.consensus.types import Header, Transaction

KEYS = st.sampled_from([MINER, ALICE, BOB, CAROL])
RUN = settings(max_examples=15, stateful_step_count=14)
SPEC = make_spec(coinbase_maturity_blocks=2, pending_blocks=4, suspended_blocks=4, max_active_datasets=2)


class Forks(RuleBasedStateMachine):
    """A growing tree of blocks of all kinds of transactions: money is conserved, no state changes, order is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[ChainState] = [genesis_state(SPEC)]
        self.described = [describe(self.states[0])]
        self.blocks: list[tuple[BlockId, bytes]] = []
        self.drafts: list[Transaction] = []
        self.twins: list[tuple[Header, Header]] = []

    def draft(self, key: object, make: object) -> None:
        """Keep a transaction where the best state could hold it after the other drafts."""
        booking = Booking(self.states[-1])
        try:
            for kept in self.drafts:
                booking.apply(kept)
            nonce = booking.books().ledger.account(public_key(key)).nonce  # type: ignore[arg-type]
            made = make(nonce)  # type: ignore[operator]
            booking.apply(made)
        except Invalid:
            return
        self.drafts.append(made)

    @rule(sender=KEYS, recipient=KEYS, amount=st.integers(1, 4_000), fee=st.integers(0, 9))
    def pay(self, sender: object, recipient: object, amount: int, fee: int) -> None:
        self.draft(sender, lambda nonce: transfer(sender, recipient, nonce=nonce, amount=amount, fee=fee))

    @rule(sender=KEYS, number=st.integers(0, 2), bounty=st.integers(0, 900))
    def propose(self, sender: object, number: int, bounty: int) -> None:
        self.draft(sender, lambda nonce: upload(number, sender, nonce=nonce, bounty=bounty))

    @rule(sender=KEYS, dataset_id=st.sampled_from([OWN, uploaded_id(0), uploaded_id(1)]), amount=st.integers(1, 900))
    def top_up(self, sender: object, dataset_id: object, amount: int) -> None:
        self.draft(sender, lambda nonce: order(Bounty(dataset_id, Amount(amount)), sender, nonce=nonce))

    @precondition(lambda self: self.twins)
    @rule(sender=KEYS, data=st.data())
    def report(self, sender: object, data: st.DataObject) -> None:
        both = data.draw(st.sampled_from(self.twins))
        self.draft(sender, lambda nonce: order(evidence(*both), sender, nonce=nonce))

    @rule(key=KEYS, back=st.integers(0, 2), proven=st.sets(st.integers(0, 2)), signs_twice=st.booleans())
    def seal(self, key: object, back: int, proven: set[int], signs_twice: bool) -> None:
        parent = self.states[max(0, len(self.states) - 1 - back)]
        builder = Builder(parent, key=key)  # type: ignore[arg-type]
        known = [n for n in proven if uploaded_id(n) in parent.datasets and not entry(parent, n).is_closed]
        orders = self.drafts if back == 0 else ()
        block = builder.idle(transactions=orders, proofs=builder.proofs(*known))
        if block.header.miner in {header.miner for header, _ in self.twins if header.previous_hash == parent.head}:
            return
        after = builder.after(parent, block)
        assert describe(builder.after(parent, block)) == describe(after), "judged again it gives the same"
        if signs_twice:
            self.twins.append((block.header, builder.idle(nonce=1).header))
        self.states.append(after)
        self.described.append(describe(after))
        self.blocks.append((parent.head, encode_block(block)))
        self.drafts = []

    @invariant()
    def no_state_has_changed(self) -> None:
        """What a reorganisation goes back to is what was there: nothing is ever undone."""
        assert [describe(state) for state in self.states] == self.described
        assert all(money(state) == state.supply for state in self.states)

    def teardown(self) -> None:
        """Import the tree in two orders: the heaviest weight wins, and of each block there is one state."""
        weights = {state.head: state.weight for state in self.states}
        best = max(weights.values())
        by_head = dict(zip((state.head for state in self.states), self.described, strict=True))
        for seed in (0, 1):
            with tempfile.TemporaryDirectory() as directory:
                chain, waiting = open_chain(Path(directory) / "chain.db", SPEC), list(self.blocks)
                random.Random(seed).shuffle(waiting)
                while waiting:
                    parent, raw = waiting.pop(0)
                    try:
                        chain.import_block(raw)
                    except Unavailable:
                        assert parent in weights
                        waiting.append((parent, raw))
                assert chain.head.weight == best
                assert describe(chain.head) == by_head[chain.head.head]
                assert not any(is_better(state, chain.head) for state in self.states)
                close_opened()


class Election(RuleBasedStateMachine):
    """Families and data sets that come, grow, wait and close: the order is the oracle's, and turns are fair."""

    PARAMS = make_params(min_families=2, family_patience=12, max_family_generations=6, skip_s=10, relief_s=50)

    @initialize()
    def start(self) -> None:
        self.state = genesis_state(make_spec())
        ids = (uploaded_id(0), uploaded_id(1))
        for number, identity in enumerate(ids):
            made = replace(own_dataset(uploaded_dataset(number).manifest), uploader=public_key(ALICE))
            self.state = replace(self.state, datasets={**self.state.datasets, identity: made})

    @rule(place=st.integers(0, 4))
    def fill(self, place: int) -> None:
        places = election_order(self.state, self.PARAMS)
        chosen, families = places[place % len(places)], list(self.state.families)
        height = Height(self.state.height + 1)
        if chosen.family is None:
            made = made_up_family(
                self.state, chosen.family_id, founders=1, last_height=height, dataset_id=chosen.dataset_id
            )
            families.append(replace(made, join_offset=join_offset(self.state, self.PARAMS)))
        else:
            family = chosen.family
            founders = (*family.founders, family.best) if len(family.founders) < 2 else family.founders
            families[family.family_id] = replace(
                family,
                model_count=family.model_count + 1,
                founders=founders,
                generation=family.generation + (founders is family.founders),
                latest=replace(family.latest, height=height),
            )
        self.state = replace(self.state, height=height, families=tuple(families))

    @rule()
    def idle(self) -> None:
        self.state = replace(self.state, height=Height(self.state.height + 1))

    @rule(number=st.integers(0, 1), status=st.sampled_from(DatasetStatus), unfilled=st.sampled_from([0, 11, 12]))
    def turn(self, number: int, status: DatasetStatus, unfilled: int) -> None:
        entry_ = replace(entry(self.state, number), status=status, unfilled_blocks=unfilled)
        self.state = replace(self.state, datasets={**self.state.datasets, uploaded_id(number): entry_})

    @invariant()
    def the_order_is_the_oracles(self) -> None:
        plain = {
            "height": self.state.height,
            "datasets": {
                key: {"status": e.status.name.lower(), "unfilled": e.unfilled_blocks}
                for key, e in self.state.datasets.items()
            },
            "families": [
                {"id": f.family_id, "dataset": f.dataset_id, "count": f.model_count, "offset": f.join_offset,
                 "founders": f.founders, "generation": f.generation, "latest": {"height": f.latest.height},
                 "waited": f.waited_blocks}
                for f in self.state.families
            ],
        }  # fmt: skip
        params = {"generations": 6, "patience": 12, "families": 2, "population": 2, "skip": 10, "relief": 50}
        for seconds in (0, 9, 10, 49, 50, 10**6):
            ours = [(p.kind, p.dataset_id, p.family_id) for p in open_places(self.state, seconds, self.PARAMS)]
            theirs = judging.places_after(plain, seconds, params)
            assert set(ours) == set(theirs)
            assert len(set(ours)) == len(ours) > 0
            assert ours == theirs[: len(ours)], "in the oracle's order"

    @invariant()
    def nobody_waits_for_closed_families(self) -> None:
        opened = [family for family in self.state.families if is_open(family, self.state, self.PARAMS)]
        keys = [round_key(family) for family in opened]
        assert 1 - join_offset(self.state, self.PARAMS) == min(keys, default=1)


class NoveltyLine(RuleBasedStateMachine):
    """A family's flips against a plain history of every value that every weight has had in the epoch."""

    SHAPE = Architecture(1, 5, 1, (Dense(3), Dense(2)))

    @initialize()
    def start(self) -> None:
        self.family = new_family(0, OWN, self.record(random_model(self.SHAPE, 3), 10), 0)
        self.epoch = [flat_weights(self.family.best.model)]

    def record(self, model: object, correct: int) -> ModelRecord:
        return ModelRecord(model, ModelHash(b""), BlockId(b""), Height(1), 0, correct, PublicKey(b""))  # type: ignore[arg-type]

    @rule(flips=st.sets(st.integers(0, 20), max_size=6))
    def evolve(self, flips: set[int]) -> None:
        positions = np.array(sorted(flips), np.int64)
        values = np.array(self.epoch)
        had_both = values.any(axis=0) & ~values.all(axis=0)
        assert novel_flip_count(self.family, positions) == int((~had_both)[positions].sum())
        child = apply_flips(self.family.best.model, positions)
        self.family = with_child(self.family, self.record(child, self.family.best.correct + 1))
        self.epoch.append(flat_weights(child))
        values = np.array(self.epoch)
        if 2 * int((values.any(axis=0) & ~values.all(axis=0)).sum()) >= self.SHAPE.weight_count:
            self.epoch = [flat_weights(child)]

    @rule(seed=st.integers(0, 99), lead=st.sampled_from([-1, 0, 1]))
    def found(self, seed: int, lead: int) -> None:
        model = random_model(self.SHAPE, seed)
        self.family = with_founder(self.family, self.record(model, self.family.best.correct + lead))
        if lead >= 0:
            self.epoch = [flat_weights(model)]

    @invariant()
    def what_is_novel_is_what_the_history_says(self) -> None:
        values = np.array(self.epoch)
        assert (novel_flips(self.family) == ~(values.any(axis=0) & ~values.all(axis=0))).all()


class Waiting(RuleBasedStateMachine):
    """A mempool on a chain that moves: what it selects is always a valid block, and it forgets what is done."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.chain = open_chain(Path(self.directory.name) / "chain.db", SPEC)
        self.mempool = Mempool(self.chain)
        self.included: set[bytes] = set()

    def add(self, made: Transaction) -> None:
        try:
            self.mempool.add(made)
        except Invalid:
            return
        assert made in self.mempool.waiting()

    @rule(sender=KEYS, recipient=KEYS, ahead=st.integers(0, 2), amount=st.integers(1, 500_000), fee=st.integers(0, 200))
    def pay(self, sender: object, recipient: object, ahead: int, amount: int, fee: int) -> None:
        nonce = max(0, self.mempool.next_nonce(public_key(sender)) - 1 + ahead)  # type: ignore[arg-type]
        self.add(transfer(sender, recipient, nonce=nonce, amount=amount, fee=fee))  # type: ignore[arg-type]

    @rule(sender=KEYS, number=st.integers(0, 1), fee=st.integers(0, 200))
    def propose(self, sender: object, number: int, fee: int) -> None:
        nonce = self.mempool.next_nonce(public_key(sender))  # type: ignore[arg-type]
        self.add(upload(number, sender, nonce=nonce, fee=fee))  # type: ignore[arg-type]

    @rule(limit=st.integers(0, 5))
    def seal(self, limit: int) -> None:
        chosen = self.mempool.select(limit, 1 << 20)
        assert len(chosen) <= limit
        Builder(self.chain).extend(kind=IDLE, transactions=chosen)
        self.mempool.refresh()
        assert not set(map(id, chosen)) & set(map(id, self.mempool.waiting()))

    @rule(sender=st.sampled_from([ALICE, BOB]), amount=st.integers(1, 10**6))
    def overtake(self, sender: object, amount: int) -> None:
        """A block of somebody else with another transaction of the same nonce."""
        nonce = self.chain.head.ledger.account(public_key(sender)).nonce  # type: ignore[arg-type]
        rival = transfer(sender, CAROL, nonce=nonce, amount=amount, fee=0)  # type: ignore[arg-type]
        try:
            Builder(self.chain).extend(kind=IDLE, transactions=[rival])
        except Invalid:
            return
        self.mempool.refresh()

    @invariant()
    def what_is_selected_makes_a_block(self) -> None:
        chosen = self.mempool.select(1_000, 1 << 20)
        books = book(self.chain.head, chosen)
        assert books.fees == sum(made.fee for made in chosen)
        assert len(self.mempool) == len(self.mempool.waiting())

    def teardown(self) -> None:
        close_opened()
        self.directory.cleanup()


TestForks = Forks.TestCase
TestElection = Election.TestCase
TestNovelty = NoveltyLine.TestCase
TestWaiting = Waiting.TestCase
TestForks.settings = TestWaiting.settings = RUN
TestElection.settings = TestNovelty.settings = settings(max_examples=60, stateful_step_count=30)
