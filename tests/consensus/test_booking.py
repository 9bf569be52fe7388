"""Pots and their shares, uploads and what they cost, double signers and what they lose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import ALICE, BOB, CAROL, COINS, MINER, OWN, Builder, make_params, make_spec, private_key, transfer
from hypothesis import given
from hypothesis import strategies as st
from learnable import tiny_dataset
from uploads import IDLE, activate, double_signed, entry, evidence, found_uploaded, order, upload, uploaded_id

from bnnchain.consensus.booking import Booking, book, earned_bounty, split_bounty
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.params import MAX_MONEY
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import ChainState, DatasetState, genesis_state, own_dataset
from bnnchain.consensus.types import Amount, Bounty

PARAMS = make_params()


def balance(state: ChainState, number: int) -> int:
    return state.ledger.account(public_key(private_key(number))).balance


def pot(bounty: int, record: int, pool: int = 700) -> DatasetState:
    return replace(own_dataset(tiny_dataset(pool).manifest), bounty=Amount(bounty), record=record)


@pytest.mark.parametrize(
    ("bounty", "record", "correct", "paid"),
    [
        (700, 0, 600, 0),
        (700, 350, 350, 0),
        (700, 350, 349, 0),
        (700, 350, 351, 2),
        (700, 350, 360, 20),
        (700, 350, 700, 700),
        (699, 350, 351, 1),
        (0, 350, 700, 0),
        (700, 700, 700, 0),
        (MAX_MONEY * 9, 1, 700, MAX_MONEY * 9),
    ],
)
def test_what_a_model_earns(bounty: int, record: int, correct: int, paid: int) -> None:
    """The first model sets the record, nobody is paid twice for a sample, a whole pool empties the pot."""
    assert earned_bounty(pot(bounty, record), correct) == paid


@pytest.mark.parametrize(
    ("paid", "has_parent", "shares"),
    [
        (1_000, True, (700, 200, 100)),
        (1_000, False, (700, 0, 100)),
        (1, True, (0, 0, 1)),
        (9, True, (6, 1, 2)),
        (9, False, (6, 0, 2)),
        (0, True, (0, 0, 0)),
    ],
)
def test_how_a_bounty_is_shared(paid: int, has_parent: bool, shares: tuple[int, int, int]) -> None:
    assert split_bounty(Amount(paid), has_parent=has_parent, params=PARAMS) == shares


@given(
    st.integers(0, MAX_MONEY), st.integers(1, 699), st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30)
)
def test_no_pot_pays_more_than_it_holds_and_every_sample_the_same(
    bounty: int, record: int, steps: list[tuple[int, bool]]
) -> None:
    held, paid_out, pool = bounty, 0, 700
    rate = bounty / (pool - record)
    has_founders = any(not has_parent for _, has_parent in steps)
    for gained, has_parent in steps:
        state = pot(held, record)
        correct = min(pool, record + gained)
        paid = earned_bounty(state, correct)
        miner, parent, burned = split_bounty(paid, has_parent=has_parent, params=PARAMS)
        assert miner + parent + burned + (0 if has_parent else paid * 2_000 // 10_000) == paid
        if not has_founders and correct < pool:
            assert paid == pytest.approx((correct - record) * rate, abs=len(steps) * 700 + rate * 1e-9)
        held -= miner + parent + burned
        paid_out += miner + parent + burned
        record = max(record, correct)
        assert held >= 0
    assert held + paid_out == bounty


def test_a_pot_pays_miner_and_parents_miner_when_they_mature() -> None:
    """700 of 1,000 to the miner, 200 to the parent's, the rest burned; what a founder leaves stays in the pot."""
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=1)))
    builder.extend(2, key=BOB)
    builder.extend(kind=IDLE, transactions=[order(Bounty(OWN, Amount(50_000)))])
    before = builder.state
    held, record = before.datasets[OWN].bounty, before.datasets[OWN].record
    assert (held, record) == (50_000, max(family.best.correct for family in before.families))
    builder.extend(key=CAROL)
    gained = builder.state.families[0].best.correct - record
    paid = 50_000 * gained // (700 - record)
    shares = split_bounty(Amount(paid), has_parent=True, params=PARAMS)
    assert gained > 0
    assert balance(builder.state, 4) - balance(before, 4) == 5_000 + shares[0]
    assert balance(builder.state, 3) - balance(before, 3) == shares[1]
    assert builder.state.datasets[OWN].bounty == 50_000 - paid
    assert builder.state.supply == before.supply + 5_000 - shares[2]
    assert builder.state.datasets[OWN].record == record + gained


def test_a_miner_that_betters_its_own_model_gets_both_shares_and_the_rest_is_burned_all_the_same() -> None:
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=9)))
    builder.extend(2)
    builder.extend(kind=IDLE, transactions=[order(Bounty(OWN, Amount(50_000)))])
    builder.extend()
    parents, own = builder.state.coinbases[-2:]
    assert parents.owner == own.owner == public_key(MINER)
    assert (parents.block_id, own.block_id) == (None, builder.state.head)
    paid = 50_000 - builder.state.datasets[OWN].bounty
    assert (own.amount - 5_000, parents.amount) == (paid * 7_000 // 10_000, paid * 2_000 // 10_000)


def test_a_founders_fifth_stays_in_the_pot() -> None:
    builder = Builder(genesis_state(make_spec()))
    builder.extend(kind=IDLE, transactions=[order(Bounty(OWN, Amount(10_000)))])
    builder.extend()
    assert builder.state.datasets[OWN].bounty == 10_000, "the first model sets the record"
    record = builder.state.datasets[OWN].record
    for seed in range(40):
        trial = Builder(builder.state, seed=seed)
        block = trial.next()
        if block.header.correct_new > record:
            break
    trial.take(block)
    paid = 10_000 * (block.header.correct_new - record) // (700 - record)
    assert paid > 0
    assert trial.state.datasets[OWN].bounty == 10_000 - paid + paid * 2_000 // 10_000


def test_an_upload_burns_its_fee_and_holds_its_deposit_and_bounty() -> None:
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=1)))
    builder.extend(kind=IDLE, transactions=[upload(bounty=77, fee=5)])
    state = builder.state
    assert balance(state, 2) == COINS - 20 - 1_000 - 77 - 5
    assert (entry(state).deposit, entry(state).bounty, entry(state).own_bounty) == (1_000, 77, 77)
    assert balance(state, 1) == 1_250 + 5
    assert state.supply == 2 * COINS + 1_250 - 20


def test_transactions_of_one_block_build_on_each_other() -> None:
    state = genesis_state(make_spec())
    made = [
        transfer(ALICE, CAROL, amount=2_000, fee=0),
        upload(0, CAROL, bounty=0, fee=0),
        order(Bounty(uploaded_id(), Amount(500)), CAROL, nonce=1, fee=0),
    ]
    books = book(state, made)
    assert books.datasets[uploaded_id()].bounty == 500
    assert (books.burned, books.fees) == (20, 0)
    assert books.ledger.account(public_key(CAROL)).balance == 2_000 - 20 - 1_000 - 500


def test_a_refused_transaction_leaves_a_booking_as_it_was() -> None:
    state = genesis_state(make_spec())
    booking = Booking(state)
    booking.apply(upload())
    before = booking.books()
    bad = [
        upload(1, nonce=0),
        upload(0, nonce=1),
        upload(1, nonce=1, bounty=COINS),
        order(Bounty(OWN, Amount(0)), nonce=1),
    ]
    for transaction in bad:
        with pytest.raises(Invalid):
            booking.apply(transaction)
    after = booking.books()
    assert (after.ledger, after.datasets, after.burned, after.fees) == (
        before.ledger,
        before.datasets,
        before.burned,
        before.fees,
    )


@pytest.mark.parametrize("is_swapped", [False, True], ids=["first on chain", "second on chain"])
def test_a_double_signer_loses_its_reward_to_reporter_and_fire(is_swapped: bool) -> None:
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=9)))
    twins = Builder(builder.state)
    blocks = [twins.idle(nonce=nonce) for nonce in (0, 1)]
    builder.take(blocks[is_swapped])
    proof = evidence(*(block.header for block in blocks))
    before = builder.state
    builder.extend(kind=IDLE, key=CAROL, transactions=[order(proof, BOB, fee=3)])
    state = builder.state
    assert balance(state, 3) == COINS + 625 - 3, "at once"
    assert [coinbase.owner for coinbase in state.coinbases] == [public_key(CAROL)]
    assert state.supply == before.supply + 1_250 - 625


def test_an_odd_reward_is_burned_to_the_unit() -> None:
    builder = Builder(genesis_state(make_spec(idle_subsidy=7, coinbase_maturity_blocks=9)))
    proof = double_signed(builder)
    before = builder.state
    builder.extend(kind=IDLE, key=ALICE, transactions=[order(proof, BOB, fee=0)])
    assert builder.state.supply == before.supply + 7 - 4
    assert balance(builder.state, 3) == COINS + 3


def test_the_reporter_may_spend_its_share_in_the_same_block() -> None:
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=9)))
    proof = double_signed(builder)
    spend = [order(proof, CAROL, fee=0), transfer(CAROL, BOB, nonce=1, amount=625, fee=0)]
    builder.extend(kind=IDLE, key=ALICE, transactions=spend)
    assert balance(builder.state, 3) == COINS + 625


def test_a_shared_bounty_is_not_what_a_double_signer_loses() -> None:
    """Only what its own block brought: a parent's share was earned by an honest block."""
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=30)))
    builder.extend(2)
    builder.extend(kind=IDLE, key=ALICE, transactions=[order(Bounty(OWN, Amount(50_000)))])
    twins = Builder(builder.state, key=BOB)
    blocks = [twins.next(nonce=nonce) for nonce in (0, 1)]
    builder.take(blocks[0])
    parents = [coinbase for coinbase in builder.state.coinbases if coinbase.block_id is None]
    builder.extend(kind=IDLE, key=ALICE, transactions=[order(evidence(*(b.header for b in blocks)), nonce=1)])
    left = builder.state.coinbases
    assert parents
    assert all(parent in left for parent in parents)
    assert public_key(BOB) not in {coinbase.owner for coinbase in left}


def test_a_miner_gains_nothing_by_reporting_itself() -> None:
    """It halves its reward, and has it a little sooner."""
    spec = make_spec(coinbase_maturity_blocks=2)
    honest, cheat = Builder(genesis_state(spec)), Builder(genesis_state(spec))
    proof = double_signed(cheat)
    cheat.extend(kind=IDLE, key=ALICE, transactions=[order(proof, MINER, fee=0)])
    cheat.extend(2, kind=IDLE, key=ALICE)
    honest.extend(kind=IDLE)
    honest.extend(3, kind=IDLE, key=ALICE)
    assert (balance(cheat.state, 1), balance(honest.state, 1)) == (625, 1_250)


def test_sums_of_more_than_all_money_are_exact() -> None:
    """Subsidies and pots may add up past any single amount; nothing wraps round."""
    spec = make_spec(subsidy=MAX_MONEY, idle_subsidy=MAX_MONEY, coinbase_maturity_blocks=1)
    builder = Builder(genesis_state(spec))
    builder.extend(5, kind=IDLE)
    builder.extend(
        kind=IDLE, transactions=[order(Bounty(OWN, Amount(MAX_MONEY)), MINER, nonce=nonce, fee=0) for nonce in range(4)]
    )
    assert builder.state.supply == 2 * COINS + 6 * MAX_MONEY > 1 << 64
    assert builder.state.datasets[OWN].bounty == 4 * MAX_MONEY
    builder.extend(3)
    assert builder.state.datasets[OWN].bounty < 4 * MAX_MONEY


def test_an_upload_dearer_than_all_money_is_refused_for_its_balance() -> None:
    state = genesis_state(make_spec(upload_fee_per_kib=(1 << 64) - 1, upload_deposit=(1 << 64) - 1))
    with pytest.raises(Invalid, match="bad-tx-balance"):
        book(state, [upload()])


def test_models_on_an_uploaded_data_set_are_paid_from_its_pot() -> None:
    builder = Builder(genesis_state(make_spec(suspend_blocks=99)))
    activate(builder, 0, bounty=9_000)
    builder.take(found_uploaded(builder))
    assert entry(builder.state).bounty == 9_000
    while builder.state.families[0].generation == 0:
        builder.extend(timestamp=builder.state.timestamp + 1)
        if builder.state.height > 12:
            break
    assert entry(builder.state).bounty < 9_000
    assert entry(builder.state).own_bounty == 9_000


def test_an_upload_with_its_terms_at_their_bounds_is_accepted() -> None:
    state = genesis_state(make_spec(min_pool_size=300, max_pending_datasets=1))
    books = book(state, [upload(min_family_acc_bp=10_000, bounty=COINS - 1_021, fee=1)])
    assert books.ledger.account(public_key(ALICE)).balance == 0
