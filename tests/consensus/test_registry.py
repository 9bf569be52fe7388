"""The life of a data set, its proofs and its money, by the ageing alone and on chains of blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import (
    ALICE,
    BOB,
    COINS,
    OWN,
    Builder,
    known_datasets,
    make_params,
    make_spec,
    outcome,
    payload_tree,
    private_key,
    uploaded_dataset,
)
from hypothesis import given
from hypothesis import strategies as st
from uploads import IDLE, activate, entry, found_uploaded, order, upload, uploaded_id

from bnnchain.consensus.election import election_order, is_open, join_offset, open_places, round_key, wanting_datasets
from bnnchain.consensus.params import preset
from bnnchain.consensus.registry import (
    age_datasets,
    leaf_count,
    leaf_index,
    proposed,
    prove_available,
    validate_proofs,
    validate_upload,
)
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import ChainState, DatasetState, DatasetStatus, genesis_state, own_dataset
from bnnchain.consensus.types import Amount, Bounty, DatasetId, Height, Upload
from bnnchain.wire import verify_merkle_path

PENDING, ACTIVE, SUSPENDED, CLOSED = DatasetStatus
MAIN = preset("main")
FIRST = uploaded_id()
UPLOADER = public_key(ALICE)


def uploaded(status: DatasetStatus = PENDING, number: int = 0, **fields: object) -> DatasetState:
    """Return an uploaded data set's state at height 0, with 900 of deposit and 500 in the pot, 300 of them its own."""
    made = DatasetState(uploaded_dataset(number).manifest, UPLOADER, 5_000, status, Height(0), Height(0))
    return replace(made, **{"deposit": 900, "bounty": 500, "own_bounty": 300, **fields})  # type: ignore[arg-type]


class Life:
    """One or more data sets and the blocks that pass over them."""

    def __init__(self, *entries: DatasetState, **params: int) -> None:
        self.datasets = {DatasetId(each.manifest.dataset_id): each for each in entries}
        self.params = replace(MAIN, **params)
        self.height = max(each.since_height for each in entries)
        self.paid: dict[bytes, int] = {}
        self.burned = 0

    def pass_blocks(self, count: int = 1, *, proven: bool = False, unfilled: bool = False) -> DatasetState:
        """Let blocks pass, with a proof of each data set or none; return the first one's state."""
        for _ in range(count):
            self.height += 1
            ids = set(self.datasets)
            aged = age_datasets(
                self.datasets, ids if proven else (), ids if unfilled else (), Height(self.height), self.params
            )
            self.datasets = aged.datasets
            self.burned += aged.burned
            for key, amount in aged.refunds:
                self.paid[key] = self.paid.get(key, 0) + amount
        return self.first

    @property
    def first(self) -> DatasetState:
        return next(iter(self.datasets.values()))

    @property
    def statuses(self) -> list[DatasetStatus]:
        return [each.status for each in self.datasets.values()]


def test_twenty_proofs_in_thirty_blocks_make_it_active() -> None:
    life = Life(uploaded())
    assert life.pass_blocks(19, proven=True).status == PENDING
    assert life.pass_blocks(10).status == PENDING
    assert life.pass_blocks(1, proven=True).status == ACTIVE, "the 30th block brings the 20th"
    assert (life.first.since_height, life.first.below_blocks) == (30, 0)
    late = Life(uploaded())
    late.pass_blocks(19, proven=True)
    assert late.pass_blocks(11).status == PENDING
    assert late.pass_blocks(1, proven=True).status == PENDING, "the first of them is 31 blocks old"


def test_an_active_one_is_suspended_after_200_blocks_below_and_not_before() -> None:
    life = Life(uploaded(ACTIVE, window=(1 << 30) - 1))
    life.pass_blocks(10)
    assert life.first.below_blocks == 0, "20 of 30 are left"
    assert life.pass_blocks(199).status == ACTIVE
    assert life.first.below_blocks == 199
    assert life.pass_blocks().status == SUSPENDED
    assert life.first.since_height == 210


def test_one_block_with_enough_proofs_starts_the_count_again() -> None:
    life = Life(uploaded(ACTIVE))
    life.pass_blocks(150)
    life.pass_blocks(20, proven=True)
    assert life.first.below_blocks == 0
    assert life.pass_blocks(10 + 199).status == ACTIVE
    assert life.pass_blocks().status == SUSPENDED


def test_a_suspended_one_comes_back_with_its_proofs() -> None:
    life = Life(uploaded(SUSPENDED))
    assert life.pass_blocks(19, proven=True).status == SUSPENDED
    assert life.pass_blocks(1, proven=True).status == ACTIVE
    assert (life.paid, life.burned) == ({}, 0)


@pytest.mark.parametrize(
    ("start", "blocks", "proven", "unfilled", "paid", "burned"),
    [
        (uploaded(), 1_440, False, False, 300, 1_100),
        (uploaded(SUSPENDED, record=9), 10_080, False, False, 300, 1_100),
        (uploaded(ACTIVE, record=9), 525_600, True, False, 1_200, 200),
        (uploaded(ACTIVE, record=0), 525_600, True, False, 300, 1_100),
        (uploaded(ACTIVE, record=9, bounty=120), 525_600, True, False, 1_020, 0),
        (uploaded(ACTIVE, record=9), 10_080, True, True, 1_200, 200),
        (uploaded(ACTIVE), 10_080, True, True, 300, 1_100),
    ],
    ids=["never had", "lost", "served", "served nobody", "spent", "learned out", "never learned"],
)
def test_each_way_to_close_and_whose_the_money_is(
    start: DatasetState, blocks: int, proven: bool, unfilled: bool, paid: int, burned: int
) -> None:
    """The uploader never gets back more than it put in: 300 of the pot, 900 of deposit."""
    life = Life(replace(start, since_height=Height(7), window=0))
    life.height += blocks - 301
    if unfilled:
        life.datasets[FIRST] = replace(life.first, unfilled_blocks=blocks - 301)
    assert life.pass_blocks(300, proven=proven, unfilled=unfilled).status == start.status
    assert life.pass_blocks(1, proven=proven, unfilled=unfilled).status == CLOSED
    assert (life.paid, life.burned) == ({UPLOADER: paid}, burned)
    assert (life.first.deposit, life.first.bounty, life.first.since_height) == (0, 0, life.height)
    assert life.pass_blocks(50, proven=True).status == CLOSED, "for ever"
    assert (life.paid, life.burned) == ({UPLOADER: paid}, burned)


def test_no_more_than_sixteen_are_active_and_the_oldest_goes_first() -> None:
    """Who finds no room though its data can be had waits, and gets its deposit back when that takes too long."""
    entries = [uploaded(number=number, window=(1 << 30) - 1) for number in range(3)]
    life = Life(*entries, max_active_datasets=2)
    life.pass_blocks(1, proven=True)
    assert life.statuses == [ACTIVE, ACTIVE, PENDING]
    life.pass_blocks(1_438, proven=True)
    assert life.statuses == [ACTIVE, ACTIVE, PENDING]
    life.pass_blocks(1, proven=True)
    assert life.statuses == [ACTIVE, ACTIVE, CLOSED]
    assert (life.paid, life.burned) == ({UPLOADER: 1_200}, 200)


def test_a_place_that_is_left_is_taken_in_the_same_block_by_a_younger_one_alone() -> None:
    """In order of age: what an older one leaves is seen by the younger ones, not by those before it."""
    leaving = uploaded(ACTIVE, number=1, below_blocks=199)
    waiting = [uploaded(number=number, window=(1 << 30) - 1) for number in (0, 2)]
    life = Life(waiting[0], leaving, waiting[1], max_active_datasets=1)
    life.pass_blocks()
    assert life.statuses == [PENDING, SUSPENDED, ACTIVE]


def test_the_chains_own_needs_no_proofs_and_never_closes() -> None:
    own = own_dataset(known_datasets()[OWN].manifest)
    life = Life(own)
    assert life.pass_blocks(40_000 // 100, unfilled=True).status == ACTIVE
    assert life.first.unfilled_blocks == 400
    assert life.pass_blocks().unfilled_blocks == 0
    assert replace(life.first, unfilled_blocks=0) == own


def test_blocks_without_a_family_count_while_it_is_active_alone() -> None:
    life = Life(uploaded(ACTIVE, window=(1 << 30) - 1, below_blocks=0), suspend_blocks=3)
    life.pass_blocks(12, unfilled=True)
    life.pass_blocks(1, unfilled=True)
    assert (life.first.status, life.first.unfilled_blocks) == (SUSPENDED, 13)
    life.pass_blocks(20, proven=True)
    assert (life.first.status, life.first.unfilled_blocks) == (ACTIVE, 13), "a pause does not start it again"


@pytest.mark.parametrize(("before", "after"), [(30, 8), (8, 30)])
def test_a_window_may_change_its_length_at_a_height(before: int, after: int) -> None:
    life = Life(uploaded(), availability_window=before, availability_least=8, max_active_datasets=0)
    life.pass_blocks(before + 3, proven=True)
    assert life.first.window == (1 << before) - 1
    life.params = replace(life.params, availability_window=after)
    life.pass_blocks(1, proven=True)
    assert life.first.window == (1 << min(after, before + 1)) - 1


def test_a_window_of_one_and_limits_of_zero_do_what_they_say() -> None:
    life = Life(uploaded(), availability_window=1, availability_least=1, pending_blocks=0)
    assert life.pass_blocks(1, proven=True).status == ACTIVE
    assert Life(uploaded(), pending_blocks=0).pass_blocks().status == CLOSED


@given(st.binary(min_size=32, max_size=32), st.integers(1, 200), st.sampled_from([0, 1, 2]))
def test_every_miner_proves_the_piece_that_is_drawn_for_it(previous: bytes, key: int, number: int) -> None:
    manifest, miner = uploaded_dataset(number).manifest, public_key(private_key(key))
    proof = prove_available(previous, miner, manifest, payload_tree(uploaded_id(number)))  # type: ignore[arg-type]
    index = leaf_index(previous, miner, manifest)  # type: ignore[arg-type]
    assert 0 <= index < leaf_count(manifest) == 2
    assert verify_merkle_path(manifest.pool_root, proof.leaf, index, 2, proof.path)


def test_all_pieces_are_drawn() -> None:
    manifest = known_datasets()[OWN].manifest
    drawn = {leaf_index(bytes([number]) * 32, UPLOADER, manifest) for number in range(256)}  # type: ignore[arg-type]
    assert drawn == set(range(leaf_count(manifest))) == set(range(5))


def test_proofs_are_accepted_in_order_of_their_ids() -> None:
    builder = Builder(genesis_state(make_spec()))
    builder.extend(kind=IDLE, transactions=[upload(number, nonce=number) for number in range(3)])
    proofs = builder.proofs(0, 1, 2)
    validate_proofs(builder.state, builder.state.head, public_key(builder.key), proofs)
    for wrong in (proofs[::-1], (proofs[1], proofs[0], proofs[2]), (*proofs, proofs[2])):
        code = outcome(
            lambda wrong=wrong: validate_proofs(builder.state, builder.state.head, public_key(builder.key), wrong)
        )
        assert code == "bad-availability"


def test_a_chain_learns_on_an_uploaded_data_set_and_pays_less_for_it() -> None:
    """FOUND on it earns what IDLE earns; its families are elected beside the chain's own."""
    builder = Builder(genesis_state(make_spec(suspend_blocks=99)))
    builder.extend(2)
    activate(builder, 0)
    assert builder.state.supply == 2 * COINS + 2 * 5_000 + 3 * 1_250 - 20, "1,800 bytes are 2 KiB at 10"
    before = builder.state
    builder.take(found_uploaded(builder))
    assert builder.state.supply == before.supply + 1_250
    (own, other) = builder.state.families
    assert (own.dataset_id, other.dataset_id) == (OWN, FIRST)
    assert entry(builder.state).record == other.best.correct
    builder.extend(8)
    assert [family.generation > 0 for family in builder.state.families] == [True, True]
    assert entry(builder.state).record == builder.state.families[1].best.correct


def returned(builder: Builder) -> tuple[ChainState, ChainState]:
    """Let an uploaded data set with a family be suspended for 6 blocks; return the states around its return."""
    activate(builder, 0)
    for _ in range(2):
        builder.take(
            found_uploaded(builder) if len(builder.state.families) < 2 else builder.next(1, timestamp=later(builder))
        )
    while entry(builder.state).status == ACTIVE:
        builder.extend(kind=IDLE)
    builder.extend(5, kind=IDLE)
    while True:
        before = builder.state
        builder.extend(kind=IDLE, proofs=builder.proofs(0))
        if entry(builder.state).is_active:
            return before, builder.state


def later(builder: Builder) -> int:
    return builder.state.timestamp + 100


def test_families_wait_while_their_data_set_is_suspended_and_come_back_level() -> None:
    builder = Builder(genesis_state(make_spec(suspended_blocks=99)))
    builder.extend(2)
    before, after = returned(builder)
    params = after.spec.params_at(1)
    away, back = before.families[1], after.families[1]
    assert entry(before).status == SUSPENDED
    assert not is_open(away, before, params)
    assert all(place.dataset_id == OWN for place in election_order(before, params))
    assert is_open(back, after, params)
    assert round_key(back) == 1 - join_offset(before, params) == round_key(after.families[0])
    assert back.waited_blocks == after.height - entry(before).since_height
    assert back.model_count == away.model_count
    impatient = replace(params, family_patience=after.height - back.latest.height - back.waited_blocks)
    assert not is_open(back, after, impatient)
    assert is_open(back, after, replace(impatient, family_patience=impatient.family_patience + 1))


def test_a_new_model_ends_what_a_family_has_waited() -> None:
    builder = Builder(genesis_state(make_spec(suspended_blocks=99)))
    builder.extend(2)
    _, after = returned(builder)
    order_ = election_order(after, after.spec.params_at(1))
    index = next(index for index, place in enumerate(order_) if place.dataset_id == FIRST)
    assert after.families[1].waited_blocks > 0
    builder.take(builder.next(index, timestamp=later(builder)))
    assert builder.state.families[1].waited_blocks == 0


def test_the_families_of_a_closed_data_set_are_closed() -> None:
    builder = Builder(genesis_state(make_spec(dataset_life_blocks=4, suspend_blocks=99)))
    builder.extend(2)
    activate(builder, 0, bounty=700)
    builder.take(found_uploaded(builder))
    balance = builder.state.ledger.account(UPLOADER).balance
    builder.extend(3, kind=IDLE, proofs=None)
    assert entry(builder.state).is_closed
    assert builder.state.ledger.account(UPLOADER).balance == balance + 1_700, "deposit and pot"
    params = builder.state.spec.params_at(1)
    assert not is_open(builder.state.families[1], builder.state, params)
    assert FIRST not in wanting_datasets(builder.state, params)


def test_data_that_nobody_can_learn_on_stands_last_once_its_patience_is_over() -> None:
    builder = Builder(genesis_state(make_spec(family_patience=4, suspend_blocks=99, suspended_blocks=99)))
    builder.extend(2)
    activate(builder, 0, min_family_acc_bp=10_000)
    for unfilled in range(4):
        assert entry(builder.state).unfilled_blocks == unfilled
        order_ = election_order(builder.state, builder.state.spec.params_at(1))
        assert order_[0].dataset_id == FIRST
        builder.extend(1, index=len(order_) - 1, timestamp=later(builder))
    order_ = election_order(builder.state, builder.state.spec.params_at(1))
    assert [place.dataset_id for place in order_] == [OWN, FIRST]


def test_data_that_nobody_can_learn_on_closes() -> None:
    builder = Builder(genesis_state(make_spec(suspend_blocks=99, suspended_blocks=3)))
    activate(builder, 0, bounty=50)
    supply = builder.state.supply
    builder.extend(3, kind=IDLE)
    assert entry(builder.state).is_closed
    assert builder.state.supply == supply + 3 * 1_250 - 1_000, "the deposit is burned, the pot is the uploader's"


def test_whoever_tops_a_pot_up_gives_it_to_the_miners_not_to_the_uploader() -> None:
    """Uploading, collecting and closing: the uploader is out of pocket by fee and deposit, and has gained nothing."""
    builder = Builder(genesis_state(make_spec(pending_blocks=2)))
    builder.extend(kind=IDLE, transactions=[upload(bounty=100), order(Bounty(FIRST, Amount(5_000)), BOB)])
    builder.extend(2, kind=IDLE)
    assert entry(builder.state).is_closed
    account = builder.state.ledger.account(UPLOADER)
    assert account.balance == COINS - 1 - 20 - 1_000


def test_relief_opens_a_family_where_none_is_wanted() -> None:
    """Where IDLE is forbidden a family at its best must not halt the chain."""
    params = make_params(relief_s=600, is_idle_allowed=0)
    state = genesis_state(make_spec())
    builder = Builder(state)
    builder.extend(2)
    (place,) = open_places(builder.state, 599, params)
    assert place.family is not None
    first, relief = open_places(builder.state, 600, params)
    assert first == place
    assert (relief.family, relief.dataset_id, relief.family_id) == (None, OWN, 1)
    assert open_places(builder.state, 10**9, replace(params, relief_s=0)) == (place,)
    assert open_places(state, 10**9, params) == election_order(state, params), "wanted anyway: once"


def test_relief_goes_to_the_data_set_with_fewest_families() -> None:
    builder = Builder(genesis_state(make_spec(skip_s=900, relief_s=50, suspend_blocks=99, suspended_blocks=99)))
    builder.extend(2)
    activate(builder, 0)
    builder.take(found_uploaded(builder, timestamp=later(builder)))
    params = builder.state.spec.params_at(1)
    first, relief = open_places(builder.state, 50, params)
    assert first.family is not None
    assert (relief.dataset_id, relief.family) == (OWN, None), "one family each: the older data set"
    assert len(open_places(builder.state, 49, params)) == 1


def test_a_chain_that_forbids_idle_blocks_goes_on_by_relief() -> None:
    builder = Builder(genesis_state(make_spec(relief_s=600, is_idle_allowed=0, min_population_acc_bp=9_999)))
    builder.extend(2)
    assert outcome(lambda: builder.take(builder.idle())) == "bad-kind"
    place = open_places(builder.state, 600, builder.state.spec.params_at(1))[-1]
    early = builder.found(place, timestamp=builder.state.timestamp + 599)
    assert outcome(lambda: builder.take(early)) == "bad-place"
    builder.take(builder.found(place, timestamp=builder.state.timestamp + 600))
    assert len(builder.state.families) == 2


@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 11))), max_size=60))
def test_no_state_holds_more_open_data_sets_than_the_limits_together(steps: list[tuple[bool, set[int]]]) -> None:
    """So that each can have its proof in one block, and nobody's memory fills: 2 active and 3 waiting here."""
    life = Life(own_dataset(known_datasets()[OWN].manifest))
    life.params = make_params(max_active_datasets=2, max_pending_datasets=3, pending_blocks=9, suspended_blocks=9)
    manifests = [replace(uploaded_dataset().manifest, name=f"set-{number}") for number in range(60)]
    for number, (proposes, proven) in enumerate(steps):
        life.height += 1
        body = Upload(manifests[number], 0, Amount(0))
        if proposes and not isinstance(
            outcome(lambda body=body: validate_upload(body, life.datasets, life.params)), str
        ):
            made = proposed(body, UPLOADER, Height(life.height), life.params)
            life.datasets = {**life.datasets, DatasetId(body.manifest.dataset_id): made}
        ids = {key for index, key in enumerate(life.datasets) if index % 12 in proven}
        life.datasets = age_datasets(life.datasets, ids, (), Height(life.height), life.params).datasets
        open_ = [entry_ for entry_ in life.datasets.values() if entry_.uploader and not entry_.is_closed]
        assert len(open_) <= 5
        assert sum(entry_.is_active for entry_ in open_) <= 2
