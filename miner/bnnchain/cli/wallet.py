"""`bnnchain wallet` and `bnnchain tx`: what an account has, and moving it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain.chain.chain import Chain
from bnnchain.cli.inspect import describe_transaction, iterate_blocks, open_store
from bnnchain.cli.options import home_option, json_option, node_option, open_node, say, write_json
from bnnchain.cli.submit import fee_option, submit
from bnnchain.cli.unlock import Unlocking, ask_new_password, read_password, unlock_options
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.types import Amount, Bounty, DatasetId, PublicKey, TransactionId, Transfer
from bnnchain.home import Home, parse_hash, parse_public_key
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Block
    from bnnchain.net.messages import TransactionStatus

address_option = click.option("--address", help="Another account's public key (64 hex digits); default: this home's.")


@click.group()
def wallet() -> None:
    """Make and keep this home's key; show its account, or another's.

    One home, one key.  Its file wallet.json is sealed by its password and is its own backup: copy it.
    """


@wallet.command()
@home_option
@unlock_options
@json_option
def create(home: Home, unlocking: Unlocking, json_file: str | None) -> None:
    """Make a new key, sealed by a password, where this home has none."""
    refuse_second(home)
    home.wallet.create(Ed25519PrivateKey.generate(), unlocking.new_password())
    _tell_wallet(home, json_file)


@wallet.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@home_option
@unlock_options
@json_option
def import_(file: Path, home: Home, unlocking: Unlocking, json_file: str | None) -> None:
    """Take over the key of FILE, a wallet.json or a key in the clear, where this home has none.

    A wallet.json keeps its password.
    """
    refuse_second(home)
    home.wallet.take(file, unlocking.new_password)
    _tell_wallet(home, json_file)


@wallet.command()
@home_option
@unlock_options
@json_option
def encrypt(home: Home, unlocking: Unlocking, json_file: str | None) -> None:
    """Put a password on a key that has none; the plain file goes once the sealed one reads back."""
    if home.wallet.is_sealed and not home.wallet.plain_file.exists():
        raise Unavailable(f"{home.wallet.file} is encrypted already; `bnnchain wallet change-password` changes it")
    password = unlocking.new_password()
    if password is None:
        raise click.UsageError("--no-password encrypts nothing")
    home.wallet.seal(home.wallet.plain_key(), password)
    _tell_wallet(home, json_file)


@wallet.command("change-password")
@home_option
@unlock_options
@click.option(
    "--new-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the new password.  [default: ask]",
)
@json_option
def change_password(home: Home, unlocking: Unlocking, new_password_file: Path | None, json_file: str | None) -> None:
    """Seal the key by another password; copies of the old file keep the old one."""
    if not home.wallet.is_sealed:
        raise Unavailable(f"{home.path} has no encrypted wallet; `bnnchain wallet encrypt` makes one of a plain key")
    key = unlocking.open(home)
    home.wallet.seal(key, ask_new_password() if new_password_file is None else read_password(new_password_file))
    _tell_wallet(home, json_file)


@wallet.command()
@home_option
@json_option
def address(home: Home, json_file: str | None) -> None:
    """Show this home's address, which is its public key, and how its key is kept; asks for no password."""
    _tell_wallet(home, json_file)


@wallet.command()
@home_option
@node_option
@click.argument("recipient")
@click.option("--keep", type=click.IntRange(min=0), default=0, show_default=True, help="Units that stay.")
@fee_option
@unlock_options
@json_option
def sweep(
    home: Home, address: str, recipient: str, keep: int, fee: int, unlocking: Unlocking, json_file: str | None
) -> None:
    """Send all that this account can spend to RECIPIENT (a public key), whose secret may be elsewhere.

    `bnnchain mine --payout KEY` does it by itself.
    """
    to, own = parse_public_key(recipient), home.wallet.address()

    async def ask() -> Amount:
        async with open_node(address) as node:
            return (await node.account(own)).balance

    amount = asyncio.run(ask()) - keep - fee
    if amount < 1:
        raise Unavailable(f"nothing to send: {max(0, amount + fee)} units can be spent, and the fee is {fee}")
    identity = submit(home, unlocking, address, Transfer(to, Amount(amount)), fee).hex()
    say(json_file)(f"sent {amount} units, fee {fee}: transaction {identity}")
    write_json(json_file, {"id": identity, "amount": amount, "fee": fee, "recipient": to.hex()})


@wallet.command()
@home_option
@address_option
@json_option
def balance(home: Home, address: str | None, json_file: str | None) -> None:
    """Show an account's balance, its rewards that still mature, and its next nonce."""
    key = _account_key(home, address)
    store = open_store(home)
    state = Chain(store, ReferenceEvaluator).head
    store.close()
    result = describe_account(state, key)
    say(json_file)(f"{result['balance']} units, {result['immature']} immature, height {state.height}")
    write_json(json_file, result)


@wallet.command()
@home_option
@address_option
@json_option
def history(home: Home, address: str | None, json_file: str | None) -> None:
    """Show an account's rewards and transfers, oldest first."""
    key = _account_key(home, address)
    store = open_store(home)
    entries = [entry for raw in iterate_blocks(store, 1) for entry in _entries(decode_block(raw), key)]
    store.close()
    for entry in entries:
        say(json_file)(f"height {entry['height']:>6}  {entry['what']:8}  {entry.get('amount', '')}  {entry['id']}")
    write_json(json_file, {"address": key.hex(), "entries": entries})


@click.group()
def tx() -> None:
    """Send a transfer, top a bounty up, or ask what became of a transaction."""


@tx.command()
@home_option
@node_option
@click.argument("recipient")
@click.argument("amount", type=click.IntRange(min=1))
@fee_option
@unlock_options
@json_option
def send(
    home: Home, address: str, recipient: str, amount: int, fee: int, unlocking: Unlocking, json_file: str | None
) -> None:
    """Send AMOUNT units to RECIPIENT (a public key, 64 hex digits) by a running node."""
    to = parse_public_key(recipient)
    identity = submit(home, unlocking, address, Transfer(to, Amount(amount)), fee).hex()
    say(json_file)(f"sent {amount} units, fee {fee}: transaction {identity}")
    write_json(json_file, {"id": identity, "amount": amount, "fee": fee, "recipient": to.hex()})


@tx.command()
@home_option
@node_option
@click.argument("dataset_id", metavar="DATASET")
@click.argument("amount", type=click.IntRange(min=1))
@fee_option
@unlock_options
@json_option
def bounty(
    home: Home, address: str, dataset_id: str, amount: int, fee: int, unlocking: Unlocking, json_file: str | None
) -> None:
    """Add AMOUNT units to what data set DATASET (its id, 64 hex digits) pays for better models."""
    to = DatasetId(parse_hash(dataset_id))
    identity = submit(home, unlocking, address, Bounty(to, Amount(amount)), fee).hex()
    say(json_file)(f"added {amount} units, fee {fee}: transaction {identity}")
    write_json(json_file, {"id": identity, "amount": amount, "fee": fee, "dataset": to.hex()})


@tx.command()
@node_option
@click.argument("identity", metavar="ID")
@json_option
def status(address: str, identity: str, json_file: str | None) -> None:
    """Ask a running node where transaction ID is: unknown, waiting, or in which block."""
    wanted = TransactionId(parse_hash(identity))

    async def ask() -> TransactionStatus:
        async with open_node(address) as node:
            return await node.transaction_status(wanted)

    answer = asyncio.run(ask())
    result: dict[str, object] = {"id": identity, "state": answer.state.name.lower()}
    if answer.block_id is not None:
        result |= {"block": answer.block_id.hex(), "height": answer.height, "confirmations": answer.confirmations}
    say(json_file)("  ".join(f"{name} {value}" for name, value in result.items() if name != "id"))
    write_json(json_file, result)


def describe_account(state: ChainState, key: PublicKey) -> dict[str, object]:
    """Return an account's money in units, for people and programs."""
    account = state.ledger.account(key)
    immature = sum(coinbase.amount for coinbase in state.coinbases if coinbase.owner == key)
    return {
        "address": key.hex(),
        "balance": account.balance,
        "immature": immature,
        "nonce": account.nonce,
        "height": state.height,
    }


def _account_key(home: Home, address: str | None) -> PublicKey:
    return parse_public_key(address) if address else home.wallet.address()


def refuse_second(home: Home) -> None:
    """Raise :class:`Unavailable` where a home has a wallet, before anybody is asked for a password."""
    if home.wallet.exists:
        raise Unavailable(f"{home.path} has a wallet already, of {home.wallet.address().hex()}; choose another --home")


def _tell_wallet(home: Home, json_file: str | None) -> None:
    key, kept = home.wallet.address().hex(), home.wallet
    say(json_file)(key)
    say(json_file)(f"encrypted, {kept.file}" if kept.is_sealed else f"not encrypted, {kept.plain_file}")
    file = kept.file if kept.is_sealed else kept.plain_file
    write_json(json_file, {"address": key, "is_encrypted": kept.is_sealed, "file": str(file)})


def _entries(block: Block, key: PublicKey) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    height = block.header.height
    if block.header.miner == key:
        entries.append({"height": height, "what": "mined", "id": block_id(block.header).hex()})
    for index, transaction in enumerate(block.transactions):
        recipient = transaction.body.recipient if isinstance(transaction.body, Transfer) else None
        if key in (transaction.sender, recipient):
            what = "sent" if transaction.sender == key else "received"
            entries.append({"height": height, "what": what, **describe_transaction(block, index)})
    return entries
