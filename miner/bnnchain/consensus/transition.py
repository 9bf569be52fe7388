"""Judging a block: pure functions with the kernel between them (PROTOCOL.md, section "Order of validation").

    check_header   cheap header rules                      => CheckedHeader, which names the ticket to evaluate
      kernel       logits of the ticket's mutant
    check_lottery  y recomputed and compared
    check_body     proofs, model, difference, claims, transactions => CheckedBlock, which may carry a stale header
      kernel       logits of the stale header's ticket
      kernel       exact count on the whole pool (and predictions of founders)
    accept         claims against counts                   => ChainState

Nothing here does I/O or reads a clock.  ``apply`` alone gives the state after a block that is known to be valid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import apply_difference, decode_model, flip_positions, model_hash, shape_hash
from bnnchain.consensus import learning, lottery
from bnnchain.consensus.booking import Books, book, earned_bounty, pay_mature, split_bounty
from bnnchain.consensus.codec import encode_transaction
from bnnchain.consensus.difficulty import block_weight, next_target
from bnnchain.consensus.election import Place, join_offset, open_places, rejoined, wanting_datasets
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import block_id, body_root, core_hash, is_signed
from bnnchain.consensus.lineage import new_family, with_child, with_founder
from bnnchain.consensus.params import Params, params_hash
from bnnchain.consensus.registry import age_datasets, validate_proofs
from bnnchain.consensus.state import ChainState, Coinbase, DatasetState, DatasetStatus, FamilyState, ModelRecord
from bnnchain.consensus.types import (
    VERSION,
    Account,
    Amount,
    Block,
    BlockId,
    BlockKind,
    DatasetId,
    Header,
    Height,
    ModelHash,
    PublicKey,
)
from bnnchain.wire import ZERO_HASH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain_kernels.model import Int32Array, Model, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class CheckedHeader:
    """A header that follows from its parent's state, with the ticket whose y is still to be recomputed."""

    header: Header
    block_id: BlockId
    params: Params
    place: Place | None
    """None for IDLE."""
    task: lottery.LotteryTask


@dataclass(frozen=True, slots=True, eq=False)
class CheckedBlock:
    """A block that keeps every rule that needs no inference on the pool; its claims are still to be counted."""

    checked_header: CheckedHeader
    block: Block
    model: Model | None
    """The whole model; None for IDLE."""
    books: Books
    """The money after the block's transactions."""
    stale: CheckedHeader | None
    """The stale header it carries, whose ticket is still to be evaluated."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What the kernel says of a CheckedBlock's model."""

    correct: int
    """Samples of the pool labelled right."""
    predictions: UInt8Array | None
    """``uint8[pool]``; only a founder that joins others needs them."""
    founders: Sequence[UInt8Array]
    """The same of every earlier founder of the family."""
    majority: int
    """Samples of the pool's commonest class."""


def check_header(state: ChainState, header: Header, now: int) -> CheckedHeader:
    """Return the header checked against its parent's ``state``; ``now`` is this node's clock in seconds.

    Raises :class:`Invalid`; of all codes only ``time-too-new`` may pass later.
    """
    params = state.spec.params_at(state.height + 1)
    _check_position(state, header, params, now)
    place = _check_place(state, header, params)
    if not is_signed(header):
        raise Invalid("bad-header-signature")
    return CheckedHeader(header, block_id(header), params, place, lottery_task(state, header, params))


def check_lottery(checked: CheckedHeader, logits: Int32Array) -> None:
    """Raise ``bad-lottery-value`` or ``lottery-lost`` by the mutant's ``int32[samples, classes]`` logits."""
    header, task = checked.header, checked.task
    if lottery.lottery_value(task.seed, logits) != header.y:
        raise Invalid("bad-lottery-value")
    is_open = bool(checked.params.is_lottery_open)
    if not is_open and not lottery.is_winning(header.y, task.base.architecture, header.target):
        raise Invalid("lottery-lost")


def check_body(state: ChainState, checked: CheckedHeader, block: Block, size_bytes: int) -> CheckedBlock:
    """Return the block with its body checked: size of its encoding, roots, model, difference, claims, transactions."""
    params, header = checked.params, checked.header
    if size_bytes > params.max_block_bytes:
        raise Invalid("bad-block-size", size=size_bytes, limit=params.max_block_bytes)
    if len(block.transactions) > params.max_block_transactions:
        raise Invalid("bad-tx-count", count=len(block.transactions), limit=params.max_block_transactions)
    transactions_bytes = sum(len(encode_transaction(transaction)) for transaction in block.transactions)
    if transactions_bytes > params.max_transactions_bytes:
        raise Invalid("bad-tx-count", bytes=transactions_bytes, limit_bytes=params.max_transactions_bytes)
    if body_root(block.transactions, block.proofs, block.stale) != header.body_root:
        raise Invalid("bad-body-root")
    validate_proofs(state, header.previous_hash, header.miner, block.proofs)
    stale = None if block.stale is None else _check_stale(state, block.stale, header.timestamp, params)
    model = _check_model(state, checked, block.model)
    return CheckedBlock(checked, block, model, book(state, block.transactions), stale)


def check_stale_lottery(stale: CheckedHeader, logits: Int32Array) -> None:
    """Raise ``bad-stale`` where a stale header's ticket has not won, by its mutant's ``int32[samples, classes]``."""
    try:
        check_lottery(stale, logits)
    except Invalid as error:
        raise Invalid("bad-stale", cause=error.code) from error


def accept(state: ChainState, checked: CheckedBlock, counts: Counts | None) -> ChainState:
    """Return the state after the block, once its claims equal the kernel's counts; counts are None for IDLE only."""
    header, params = checked.checked_header.header, checked.checked_header.params
    if checked.model is not None:
        if counts is None or counts.correct != header.correct_new:
            raise Invalid("bad-claim", claimed=header.correct_new, counted=counts and counts.correct)
        entry = state.datasets[header.dataset_id]
        if header.kind == BlockKind.FOUND and entry.uploader is not None:
            learning.validate_above_majority(counts.correct, counts.majority, header.eval_total, params)
        if counts.predictions is not None:
            learning.validate_founder_difference(counts.predictions, counts.founders, params)
    return apply(state, checked)


def apply(state: ChainState, checked: CheckedBlock) -> ChainState:
    """Return the state after a block that is known to be valid (already judged, or stored as such)."""
    header, params, block = checked.block.header, checked.checked_header.params, checked.block
    books, minted = _rewarded(state, checked)
    proven = {proof.dataset_id for proof in block.proofs}
    aged = age_datasets(books.datasets, proven, _unfilled(state, checked), header.height, params)
    accounts = dict[PublicKey, Account]()
    for uploader, amount in aged.refunds:
        account = accounts.get(uploader) or books.ledger.account(uploader)
        accounts[uploader] = replace(account, balance=Amount(account.balance + amount))
    books = replace(books, ledger=books.ledger.updated(accounts), burned=Amount(books.burned + aged.burned))
    # This ledger judges the next block, which may already spend what matures at its height.
    books = pay_mature(books, Height(header.height + 1))
    after = replace(
        state,
        head=checked.checked_header.block_id,
        height=header.height,
        timestamp=header.timestamp,
        weight=state.weight + block_weight(header.target),
        datasets=aged.datasets,
        families=_families_after(state, checked),
        ledger=books.ledger,
        coinbases=books.coinbases,
        supply=Amount(state.supply + minted - books.burned),
        ancestors=_last((*state.ancestors, replace(state, ancestors=())), params.stale_depth),
        included_stale=_included_after(state, checked),
    )
    returned = [key for key, entry in aged.datasets.items() if entry.is_active and _was_suspended(state, key)]
    return rejoined(state, after, returned, params) if returned else after


def _rewarded(state: ChainState, checked: CheckedBlock) -> tuple[Books, Amount]:
    """Return the books with the block's rewards among the coinbases, and the new money in them."""
    header, params, books = checked.block.header, checked.checked_header.params, checked.books
    is_full = header.kind != BlockKind.IDLE and state.datasets[header.dataset_id].uploader is None
    minted = params.subsidy if is_full else params.idle_subsidy
    minted += params.subsidy // params.stale_divisor if checked.stale is not None else 0
    mature, own, rewards = Height(header.height + params.coinbase_maturity_blocks), int(minted + books.fees), []
    if header.kind != BlockKind.IDLE:
        entry, family = (
            books.datasets[header.dataset_id],
            checked.checked_header.place and checked.checked_header.place.family,
        )
        parent = family.best.miner if family and header.kind == BlockKind.EVOLVE else None
        shares = split_bounty(earned_bounty(entry, header.correct_new), has_parent=parent is not None, params=params)
        pot, record = Amount(entry.bounty - sum(shares)), max(entry.record, header.correct_new)
        datasets = {**books.datasets, header.dataset_id: replace(entry, bounty=pot, record=record)}
        books = replace(books, datasets=datasets, burned=Amount(books.burned + shares[2]))
        own += shares[0]
        if parent is not None and shares[1]:
            rewards.append(Coinbase(mature, parent, shares[1], None))
    rewards.append(Coinbase(mature, header.miner, Amount(own), checked.checked_header.block_id))
    return replace(books, coinbases=(*books.coinbases, *rewards)), Amount(minted)


def lottery_task(state: ChainState, header: Header, params: Params) -> lottery.LotteryTask:
    """Return the ticket that ``header`` claims: EVOLVE plays on its parent model, others on the spec's."""
    spec = state.spec
    base, dataset_id = spec.model, next(iter(state.datasets))
    if header.kind == BlockKind.EVOLVE:
        base, dataset_id = state.families[header.family_id].best.model, header.dataset_id
    seed = lottery.ticket_seed(core_hash(header), header.nonce)
    return lottery.LotteryTask(base, dataset_id, header.previous_hash, seed, params.ticket_flips)


def elapsed(state: ChainState, timestamp: int) -> int:
    """Return the seconds from the parent block to ``timestamp``."""
    return timestamp - state.timestamp


def _check_position(state: ChainState, header: Header, params: Params, now: int) -> None:
    if header.version != VERSION:
        raise Invalid("bad-version", version=header.version)
    if header.chain_id != state.spec.chain_id:
        raise Invalid("bad-chain-id", chain_id=header.chain_id, wanted=state.spec.chain_id)
    if header.previous_hash != state.head:
        raise Invalid("bad-parent", previous=header.previous_hash.hex(), wanted=state.head.hex())
    if header.height != state.height + 1:
        raise Invalid("bad-height", height=header.height, wanted=state.height + 1)
    if header.timestamp < state.timestamp:
        # Ruling: above a median alone, a backdated block would open every place, and lower every gate, for its child.
        raise Invalid("time-too-old", timestamp=header.timestamp, parent=state.timestamp)
    if header.timestamp > now + params.future_limit_s:
        raise Invalid("time-too-new", timestamp=header.timestamp, now=now)
    if header.target != next_target(state, params):
        raise Invalid("bad-target")
    if header.params_hash != params_hash(params):
        raise Invalid("bad-params")


def _check_place(state: ChainState, header: Header, params: Params) -> Place | None:
    if header.kind == BlockKind.IDLE:
        if not params.is_idle_allowed:
            raise Invalid("bad-kind", kind="IDLE")
        used = header.family_id or header.generation or header.model_count or header.correct_new
        hashes = (header.dataset_id, header.previous_model_hash, header.shape_hash, header.model_hash)
        if used or header.correct_parent or header.eval_total or any(value != ZERO_HASH for value in hashes):
            raise Invalid("bad-unused-field")
        return None
    places = open_places(state, elapsed(state, header.timestamp), params)
    wanted = (header.kind, header.dataset_id, header.family_id)
    place = next((p for p in places if (p.kind, p.dataset_id, p.family_id) == wanted), None)
    if place is None:
        raise Invalid("bad-place", kind=header.kind.name, family=header.family_id, open_places=len(places))
    _check_lineage(header, place.family)
    pool_size = state.datasets[place.dataset_id].manifest.pool_size
    if header.eval_total != pool_size:
        raise Invalid("bad-eval-total", eval_total=header.eval_total, wanted=pool_size)
    return place


def _check_lineage(header: Header, family: FamilyState | None) -> None:
    is_evolved = header.kind == BlockKind.EVOLVE
    generation = family.generation + 1 if family and is_evolved else 0
    if header.generation != generation:
        raise Invalid("bad-generation", generation=header.generation, wanted=generation)
    count = family.model_count + 1 if family else 1
    if header.model_count != count:
        raise Invalid("bad-model-count", model_count=header.model_count, wanted=count)
    previous = family.latest.block_id if family else ZERO_HASH
    if header.previous_model_hash != previous:
        raise Invalid("bad-previous-model", wanted=previous.hex())
    parent_correct = family.best.correct if family and is_evolved else 0
    if header.correct_parent != parent_correct:
        raise Invalid("bad-parent-claim", claimed=header.correct_parent, wanted=parent_correct)


def _check_model(state: ChainState, checked: CheckedHeader, data: bytes) -> Model | None:
    place, header, params = checked.place, checked.header, checked.params
    if place is None:
        if data:
            raise Invalid("bad-body", reason="an IDLE block carries no model")
        return None
    pool_size = header.eval_total
    waited, parent = elapsed(state, header.timestamp), None
    if header.kind == BlockKind.EVOLVE and place.family is not None:
        parent = place.family.best.model
        learning.validate_gain(place.family, header.correct_new, pool_size, waited, params)
        model = apply_difference(parent, data)
    else:
        learning.validate_accuracy(header.correct_new, state.datasets[place.dataset_id], params)
        model = decode_model(data)
    _check_shape(state, place, model, header)
    learning.validate_size(model.architecture, pool_size, params)
    if model_hash(model) != header.model_hash:
        raise Invalid("bad-model-hash")
    if parent is not None and place.family is not None:
        learning.validate_difference(place.family, flip_positions(parent, model), params)
    learning.validate_rows(model, other_models(state, place), params, parent=parent)
    return model


def other_models(state: ChainState, place: Place) -> list[Model]:
    """Return the latest model of each other family, of all that there ever were (the last so many of them)."""
    others = [family for family in state.families if place.family is None or family.family_id != place.family_id]
    return [family.latest.model for family in others[-learning.MAX_COMPARED_FAMILIES :]]


def _check_stale(state: ChainState, header: Header, now: int, params: Params) -> CheckedHeader:
    """Return a stale header checked on its own parent's state at the including block's time; raises ``bad-stale``."""
    if params.is_lottery_open or not params.stale_depth:
        raise Invalid("bad-stale", reason="stale headers cost nothing on this chain")
    identity = block_id(header)
    if identity in {state.head, *(ancestor.head for ancestor in state.ancestors)}:
        raise Invalid("bad-stale", reason="its block is part of this chain")
    if identity in {included for _, included in state.included_stale}:
        raise Invalid("bad-stale", reason="included before")
    parent = next((ancestor for ancestor in state.ancestors if ancestor.head == header.previous_hash), None)
    if parent is None:
        raise Invalid("bad-stale", reason="its parent is not among the last blocks before the head")
    try:
        return check_header(parent, header, now)
    except Invalid as error:
        raise Invalid("bad-stale", cause=error.code) from error


def _check_shape(state: ChainState, place: Place, model: Model, header: Header) -> None:
    shape = model.architecture
    if shape_hash(shape) != header.shape_hash:
        raise Invalid("bad-shape", reason="shape_hash is not that of the model")
    if place.family is not None:
        if shape != place.family.architecture:
            raise Invalid("bad-shape", reason="not the family's shape")
        return
    manifest = state.datasets[place.dataset_id].manifest
    wanted = (manifest.height, manifest.width, manifest.planes, manifest.classes)
    if (shape.height, shape.width, shape.planes, shape.classes) != wanted:
        raise Invalid("bad-architecture", reason="does not fit the data set", wanted=wanted)
    if any(shape == family.architecture for family in state.families):
        raise Invalid("bad-shape", reason="already on the chain")


def _families_after(state: ChainState, checked: CheckedBlock) -> tuple[FamilyState, ...]:
    header, place, model = checked.block.header, checked.checked_header.place, checked.model
    if place is None or model is None:
        return state.families
    record = ModelRecord(
        model=model,
        model_hash=ModelHash(header.model_hash),
        block_id=checked.checked_header.block_id,
        height=header.height,
        generation=header.generation,
        correct=header.correct_new,
        miner=header.miner,
    )
    if place.family is None:
        offset = join_offset(state, checked.checked_header.params)
        return (*state.families, new_family(place.family_id, place.dataset_id, record, offset))
    extend = with_child if header.kind == BlockKind.EVOLVE else with_founder
    families = list(state.families)
    families[place.family_id] = extend(place.family, record)
    return tuple(families)


def _unfilled(state: ChainState, checked: CheckedBlock) -> set[DatasetId]:
    """Return the data sets that wanted a family and do not get it by this block."""
    place = checked.checked_header.place
    founded = {place.dataset_id} if place is not None and place.family is None else set()
    return set(wanting_datasets(state, checked.checked_header.params)) - founded


def _included_after(state: ChainState, checked: CheckedBlock) -> tuple[tuple[Height, BlockId], ...]:
    header, depth = checked.block.header, checked.checked_header.params.stale_depth
    kept = [pair for pair in state.included_stale if pair[0] + depth > header.height]
    own = [] if checked.stale is None else [(header.height, checked.stale.block_id)]
    return (*kept, *own)


def _was_suspended(state: ChainState, dataset_id: DatasetId) -> bool:
    entry: DatasetState | None = state.datasets.get(dataset_id)
    return entry is not None and entry.status == DatasetStatus.SUSPENDED


def _last(states: tuple[ChainState, ...], count: int) -> tuple[ChainState, ...]:
    return states[-count:] if count else ()
