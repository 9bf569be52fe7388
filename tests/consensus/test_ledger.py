from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from builders import (
    ALICE,
    BOB,
    CAROL,
    CHAIN_ID,
    COINS,
    MINER,
    Builder,
    make_params,
    make_spec,
    open_chain,
    private_key,
    transfer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnchain.consensus.booking import Booking, Books, book, pay_mature
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.ledger import Ledger
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import ChainState, Coinbase, genesis_state
from bnnchain.consensus.transactions import transaction_id, validate_spendable, validate_stateless
from bnnchain.consensus.types import Account, Amount, Height, PublicKey

if TYPE_CHECKING:
    from pathlib import Path

keys = st.binary(min_size=32, max_size=32).map(PublicKey)
accounts = st.builds(Account, st.integers(0, 99).map(Amount), st.integers(0, 3))


@given(st.lists(st.dictionaries(keys, accounts, max_size=8), max_size=6))
def test_a_ledger_is_a_map_whose_old_versions_never_change(changes: list[dict[PublicKey, Account]]) -> None:
    ledger, expected = Ledger(), {}
    versions: list[tuple[Ledger, dict[PublicKey, Account]]] = [(ledger, {})]
    for change in changes:
        ledger = ledger.updated(change)
        expected = {key: value for key, value in {**expected, **change}.items() if value != Account(Amount(0), 0)}
        versions.append((ledger, expected))
    for version, content in versions:
        assert dict(version) == content
        assert version == Ledger().updated(content)
        assert hash(version) == hash(Ledger().updated(content))
        assert version.total() == sum(account.balance for account in content.values())
        assert all(version.account(key) == account for key, account in content.items())
    assert Ledger().account(PublicKey(bytes(32))) == Account(Amount(0), 0)
    assert Ledger() != object()


def balance(state: ChainState, number: int) -> int:
    return state.ledger.account(public_key(private_key(number))).balance


moves = st.tuples(
    st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2, 3, 4]), st.integers(1, 4_000), st.integers(0, 9)
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(moves, max_size=4), min_size=1, max_size=8))
def test_money_is_conserved_to_the_unit(blocks: list[list[tuple[int, int, int, int]]]) -> None:
    """What ``conftest.py`` asserts of every block, on any chain of transfers."""
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=2)))
    for wanted in blocks:
        state, made, booking = builder.state, [], Booking(builder.state)
        for sender, recipient, amount, fee in wanted:
            key = private_key(sender)
            nonce = booking.books().ledger.account(public_key(key)).nonce
            draft = transfer(key, private_key(recipient), nonce=nonce, amount=amount, fee=fee)
            try:
                booking.apply(draft)
            except Invalid as error:
                assert error.code == "bad-tx-balance"  # noqa: PT017
                continue
            made.append(draft)
        before = dict(state.ledger)
        block = builder.idle(transactions=made)
        after = builder.after(state, block)
        assert after.supply == state.supply + 1_250
        assert dict(state.ledger) == before, "the old state's accounts are untouched"
        assert builder.after(state, block).ledger == after.ledger, "judging twice gives the same"
        builder = Builder(after)
    assert builder.state.height == len(blocks)


def test_a_reward_can_be_spent_from_the_block_at_which_it_matures() -> None:
    """Mined at height 1 with a maturity of 3, the first block that may spend it is number 4."""
    spend = transfer(MINER, CAROL, amount=5_000, fee=0)
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=3)))
    builder.extend()
    for height in (2, 3):
        with pytest.raises(Invalid, match="bad-tx-balance"):
            builder.after(builder.state, builder.idle(transactions=[spend]))
        builder.extend(kind=3)
        assert builder.state.height == height
    builder.extend(kind=3, transactions=[spend])
    assert builder.state.height == 4
    assert balance(builder.state, 4) == 5_000


@pytest.mark.parametrize("maturity", [0, 1])
def test_a_maturity_below_two_can_be_spent_in_the_next_block(maturity: int) -> None:
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=maturity)))
    builder.extend()
    builder.extend(transactions=[transfer(MINER, CAROL, amount=5_000, fee=0)])
    assert balance(builder.state, 4) == 5_000


def test_fees_go_to_the_miner_and_a_recipient_can_spend_in_the_same_block() -> None:
    builder = Builder(genesis_state(make_spec(coinbase_maturity_blocks=1)))
    chain_of_three = [transfer(ALICE, CAROL, amount=500, fee=7), transfer(CAROL, BOB, amount=490, fee=10)]
    builder.extend(transactions=chain_of_three)
    assert [balance(builder.state, number) for number in (1, 2, 3, 4)] == [5_017, COINS - 507, COINS + 490, 0]
    assert builder.state.ledger.account(public_key(CAROL)) == Account(Amount(0), 1), "its nonce is remembered"


def test_paying_oneself_costs_the_fee_alone() -> None:
    books = book(genesis_state(make_spec()), [transfer(ALICE, ALICE, amount=COINS - 3, fee=3)])
    assert (books.ledger.account(public_key(ALICE)), books.fees) == (Account(Amount(COINS - 3), 1), 3)


def test_the_same_transactions_applied_twice_from_one_ledger_give_the_same() -> None:
    state, made = genesis_state(make_spec()), [transfer(), transfer(nonce=1), transfer(BOB, ALICE)]
    assert book(state, made).ledger == book(state, made).ledger != state.ledger


def test_rewards_are_paid_when_they_mature_and_wait_until_then() -> None:
    key = public_key(MINER)
    coinbases = tuple(Coinbase(Height(height), key, Amount(height), None) for height in (5, 5, 6, 7))
    books = pay_mature(Books(Ledger(), {}, coinbases, Amount(0), Amount(0)), Height(6))
    assert books.ledger.account(key).balance == 16
    assert books.coinbases == coinbases[3:]


@pytest.mark.parametrize(("height", "is_spendable"), [(9, True), (10, True), (11, False)])
def test_the_expiry_height_is_the_last_that_may_include_it(height: int, is_spendable: bool) -> None:
    account = Account(Amount(1_000), 0)
    order = transfer(expiry_height=10)
    if is_spendable:
        validate_spendable(order, account, Height(height), make_params())
        return
    with pytest.raises(Invalid, match="bad-tx-expired"):
        validate_spendable(order, account, Height(height), make_params())


def test_an_id_covers_everything_but_the_signature() -> None:
    order = transfer()
    assert transaction_id(replace(order, signature=bytes(64))) == transaction_id(order)
    for change in ({"nonce": 1}, {"fee": 9}, {"chain_id": 9}, {"expiry_height": 9}, {"sender": bytes(32)}):
        assert transaction_id(replace(order, **change)) != transaction_id(order)


def test_a_signature_is_judged_by_its_bytes_even_if_a_good_one_was_seen_before() -> None:
    """The cache of verified signatures must not let a changed one pass."""
    order = transfer()
    validate_stateless(order, CHAIN_ID)
    with pytest.raises(Invalid, match="bad-tx-signature"):
        validate_stateless(replace(order, signature=order.signature[:-1] + b"\x7f"), CHAIN_ID)
    validate_stateless(order, CHAIN_ID)


def test_money_is_conserved_over_a_chain_of_learned_blocks(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    for number in range(8):
        chain.import_block(encode_block(builder.next(transactions=[transfer(nonce=number, fee=number)])))
    assert chain.head.supply == 2 * COINS + 8 * 5_000
