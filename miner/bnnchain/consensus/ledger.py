"""Accounts as a persistent map: a new version shares all it did not change with the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bnnchain.consensus.types import Account, Amount, PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_EMPTY: dict[PublicKey, Account] = {}
NO_ACCOUNT = Account(Amount(0), 0)


class Ledger:
    """Immutable accounts by public key, in 256 buckets by its first byte; absent accounts are empty ones."""

    __slots__ = ("_buckets",)

    BUCKETS: Final = 256

    def __init__(self, buckets: tuple[dict[PublicKey, Account], ...] = (_EMPTY,) * BUCKETS) -> None:
        self._buckets = buckets

    @property
    def buckets(self) -> tuple[dict[PublicKey, Account], ...]:
        """The accounts by the first byte of their key; nobody changes them."""
        return self._buckets

    def account(self, key: PublicKey) -> Account:
        """Return the account of ``key``."""
        return self._buckets[key[0]].get(key, NO_ACCOUNT)

    def updated(self, changes: Mapping[PublicKey, Account]) -> Ledger:
        """Return a ledger with ``changes`` in place; an account back to empty is forgotten."""
        buckets = list(self._buckets)
        touched: set[int] = set()
        for key, account in changes.items():
            index = key[0]
            if index not in touched:
                buckets[index] = dict(buckets[index])
                touched.add(index)
            if account == NO_ACCOUNT:
                buckets[index].pop(key, None)
            else:
                buckets[index][key] = account
        return Ledger(tuple(buckets))

    def __iter__(self) -> Iterator[tuple[PublicKey, Account]]:
        for bucket in self._buckets:
            yield from bucket.items()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and dict(self) == dict(other)

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def total(self) -> Amount:
        """Return the sum of all balances."""
        return Amount(sum(account.balance for _, account in self))
