"""What transactions and blocks do to money: accounts, data sets' pots, rewards that mature (PROTOCOL.md, "Money")."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import block_id
from bnnchain.consensus.params import BP
from bnnchain.consensus.registry import proposed, validate_upload
from bnnchain.consensus.transactions import (
    cost,
    upload_fee,
    upload_id,
    validate_spendable,
    validate_stateless,
)
from bnnchain.consensus.types import (
    Account,
    Amount,
    Bounty,
    DatasetId,
    Equivocation,
    Height,
    PublicKey,
    Transaction,
    Transfer,
    Upload,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.consensus.ledger import Ledger
    from bnnchain.consensus.params import Params
    from bnnchain.consensus.state import ChainState, Coinbase, DatasetState


@dataclass(frozen=True, slots=True, eq=False)
class Books:
    """The money side of a state: what transactions and rewards change."""

    ledger: Ledger
    datasets: dict[DatasetId, DatasetState]
    coinbases: tuple[Coinbase, ...]
    fees: Amount
    """Of the block so far, for its miner."""
    burned: Amount
    """Gone from the supply with this block."""


class Booking:
    """Applies transactions to a state's money one after the other; the state itself stays as it is."""

    def __init__(self, state: ChainState) -> None:
        self._state = state
        self._height = Height(state.height + 1)
        self._params = state.spec.params_at(self._height)
        self._accounts: dict[PublicKey, Account] = {}
        self._datasets = state.datasets
        self._coinbases = state.coinbases
        self._fees = 0
        self._burned = 0

    def apply(self, transaction: Transaction) -> None:
        """Apply one transaction of the next block; raises :class:`Invalid`, and then nothing has changed."""
        validate_stateless(transaction, self._state.spec.chain_id)
        sender = self._account(transaction.sender)
        validate_spendable(transaction, sender, self._height, self._params)
        body = transaction.body
        if isinstance(body, Upload):
            self._upload(body, transaction.sender)
        elif isinstance(body, Bounty):
            self._top_up(body)
        elif isinstance(body, Equivocation):
            self._slash(body, transaction.sender)
        paid = cost(transaction, self._params)
        sender = self._account(transaction.sender)
        self._accounts[transaction.sender] = Account(Amount(sender.balance - paid), sender.nonce + 1)
        if isinstance(body, Transfer):
            self._credit(body.recipient, body.amount)
        self._fees += transaction.fee

    def books(self) -> Books:
        """Return what has become of the state's money."""
        ledger = self._state.ledger.updated(self._accounts)
        return Books(ledger, self._datasets, self._coinbases, Amount(self._fees), Amount(self._burned))

    def _upload(self, upload: Upload, sender: PublicKey) -> None:
        validate_upload(upload, self._datasets, self._params)
        entry = proposed(upload, sender, self._height, self._params)
        self._datasets = {**self._datasets, upload_id(upload): entry}
        self._burned += upload_fee(upload, self._params)

    def _top_up(self, bounty: Bounty) -> None:
        entry = self._datasets.get(bounty.dataset_id)
        if entry is None or entry.is_closed:
            raise Invalid("unknown-dataset", dataset_id=bounty.dataset_id.hex())
        changed = replace(entry, bounty=Amount(entry.bounty + bounty.amount))
        self._datasets = {**self._datasets, bounty.dataset_id: changed}

    def _slash(self, evidence: Equivocation, reporter: PublicKey) -> None:
        signed = {block_id(evidence.first), block_id(evidence.second)}
        slashed = next((each for each in self._coinbases if each.block_id in signed), None)
        if slashed is None:
            raise Invalid("bad-evidence", reason="neither block's reward is waiting on this chain")
        share = slashed.amount * self._params.slash_reporter_bp // BP
        self._coinbases = tuple(each for each in self._coinbases if each is not slashed)
        self._credit(reporter, Amount(share))
        self._burned += slashed.amount - share

    def _account(self, key: PublicKey) -> Account:
        return self._accounts.get(key) or self._state.ledger.account(key)

    def _credit(self, key: PublicKey, amount: Amount) -> None:
        account = self._account(key)
        self._accounts[key] = replace(account, balance=Amount(account.balance + amount))


def book(state: ChainState, transactions: Sequence[Transaction]) -> Books:
    """Return the state's money after the transactions of the next block, in order; raises as they are checked."""
    booking = Booking(state)
    for transaction in transactions:
        booking.apply(transaction)
    return booking.books()


def split_bounty(paid: Amount, *, has_parent: bool, params: Params) -> tuple[Amount, Amount, Amount]:
    """Return (the miner's, the parent's miner's, the burned) share of what a data set pays for a better model.

    A founding model has no parent: what would be its miner's stays in the pot and is in none of the three.
    """
    miner, parent = paid * params.bounty_miner_bp // BP, paid * params.bounty_parent_bp // BP
    return Amount(miner), Amount(parent if has_parent else 0), Amount(paid - miner - parent)


def earned_bounty(entry: DatasetState, correct: int) -> Amount:
    """Return what a model with ``correct`` right labels takes from the data set's pot.

    ``bounty * gained // (pool - record)``: every sample gained over the record pays the same until someone tops the pot
    up.  The first model sets the record and is paid nothing.
    """
    gained = correct - entry.record
    if not entry.record or gained <= 0:
        return Amount(0)
    return Amount(entry.bounty * gained // (entry.manifest.pool_size - entry.record))


def pay_mature(books: Books, height: Height) -> Books:
    """Return the books with the rewards paid that mature at ``height``."""
    changes: dict[PublicKey, Account] = {}
    waiting = []
    for coinbase in books.coinbases:
        if coinbase.mature_height > height:
            waiting.append(coinbase)
            continue
        account = changes.get(coinbase.owner) or books.ledger.account(coinbase.owner)
        changes[coinbase.owner] = replace(account, balance=Amount(account.balance + coinbase.amount))
    return replace(books, ledger=books.ledger.updated(changes), coinbases=tuple(waiting))
