"""Builds valid blocks, and blocks that break exactly one rule, on a data set small enough for milliseconds.

    builder = Builder(open_chain(tmp_path / "chain.db"))
    builder.extend(5)                                  # five blocks of whatever the election wants
    raw = builder.tamper(builder.next(), height=9)     # one field wrong, y and signature right again
    with pytest.raises(Invalid) as refusal:
        builder.chain.import_block(raw)

Everything is seeded: the same calls give the same bytes on every machine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from learnable import (  # noqa: F401  (most are for the tests that import this module)
    CLASSES,
    OWN,
    POOL_SIZE,
    SIDE,
    count,
    evaluator,
    family_shape,
    founder,
    known_datasets,
    payload_tree,
    random_model,
    tiny_dataset,
    uploaded_dataset,
)
from states import describe, money  # noqa: F401

from bnnchain.bnn.encoding import apply_flips, encode_difference, encode_model, model_hash, shape_hash
from bnnchain.chain.chain import Chain
from bnnchain.chain.store import Store
from bnnchain.chain.validator import Validator
from bnnchain.consensus import lottery
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.difficulty import next_target
from bnnchain.consensus.election import Place, election_order
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import body_root, core_hash, sign_header
from bnnchain.consensus.learning import required_flips, required_gain
from bnnchain.consensus.lineage import new_family, novel_flips
from bnnchain.consensus.params import Params, params_hash, preset
from bnnchain.consensus.registry import prove_available
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.spec import ChainSpec
from bnnchain.consensus.state import ChainState, FamilyState, ModelRecord, genesis_state
from bnnchain.consensus.transactions import sign_transfer
from bnnchain.consensus.types import (
    MAX_TARGET,
    VERSION,
    Amount,
    AvailabilityProof,
    Block,
    BlockId,
    BlockKind,
    DatasetId,
    Header,
    Height,
    ModelHash,
    PublicKey,
    ShapeHash,
    Signature,
    Transaction,
)
from bnnchain.datasets.payload import encode_payload
from bnnchain.wire import ZERO_HASH
from bnnchain_kernels.model import Architecture, Dense, Model
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Value = TypeVar("Value")

GENESIS_TIME = 1_700_000_000
INTERVAL_S = 60
CHAIN_ID = 7
COINS = 1_000_000
SEARCH_STEPS = 2_000


def private_key(number: int) -> Ed25519PrivateKey:
    """Return the fixed key of account ``number``."""
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "little"))


MINER, ALICE, BOB, CAROL = (private_key(number) for number in range(1, 5))
"""ALICE and BOB own ``COINS`` each at genesis; MINER and CAROL own nothing."""


class Clock:
    """A clock that moves only when told to; seconds."""

    def __init__(self, now: int = GENESIS_TIME) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def make_params(**overrides: int) -> Params:
    """Return small regtest-like parameters, any of them replaced."""
    defaults = {
        "min_family_acc_bp": 2_800,
        "min_family_diff_bp": 100,
        "min_population_diff_bp": 50,
        "family_patience": 64,
        "n_eval": 64,
        "coinbase_maturity_blocks": 3,
        "subsidy": 5_000,
        "idle_subsidy": 1_250,
        "upload_deposit": 1_000,
        "majority_margin_bp": 200,
        "upload_fee_per_kib": 10,
        "availability_window": 3,
        "availability_least": 2,
        "pending_blocks": 6,
        "suspend_blocks": 2,
        "suspended_blocks": 8,
    }
    return replace(preset("regtest"), **{**defaults, **overrides})


def make_spec(
    *later: tuple[int, Params], initial_target: int = MAX_TARGET, name: str = "tiny", **overrides: int
) -> ChainSpec:
    """Return a spec on the tiny data set; ``later`` are parameters that come into force at a height."""
    schedule = ((0, make_params(**overrides)), *later)
    allocations = sorted((public_key(key), Amount(COINS)) for key in (ALICE, BOB))
    return ChainSpec(
        name=name,
        chain_id=CHAIN_ID,
        genesis_time=GENESIS_TIME,
        initial_target=initial_target,
        schedule=tuple((Height(height), params) for height, params in schedule),
        dataset=tiny_dataset().manifest,
        model=random_model(Architecture(SIDE, SIDE, 1, (Dense(CLASSES),)), 99),
        allocations=tuple(allocations),
    )


def make_validator() -> Validator:
    """Return a validator that has the known data sets."""
    validator = Validator(ReferenceEvaluator)
    for dataset_id, dataset in known_datasets().items():
        validator.add_dataset(dataset_id, dataset.pool)
    return validator


def open_chain(path: Path, spec: ChainSpec | None = None, clock: Clock | None = None) -> Chain:
    """Return a chain with the tiny data set on a store at ``path`` (made where there is none).

    ``conftest.py`` closes the store after the test.
    """
    store = Store(path, spec or make_spec())
    _OPENED.append(store)
    chain = Chain(store, ReferenceEvaluator, clock or Clock(GENESIS_TIME + 10**6))
    fetch_pools(chain)
    return chain


def fetch_pools(chain: Chain) -> None:
    """Give a chain the known pools that it lacks."""
    for dataset_id in chain.missing_datasets():
        if dataset_id in known_datasets():
            chain.add_dataset(dataset_id, encode_payload(known_datasets()[dataset_id].pool))


def made_up_family(
    state: ChainState,
    family_id: int,
    *,
    models: int = 1,
    founders: int = 2,
    offset: int = 0,
    generation: int = 0,
    last_height: int = 0,
    dataset_id: DatasetId | None = None,
) -> FamilyState:
    """Return a family that no chain has grown, with the counters that the election looks at."""
    record = ModelRecord(
        model=random_model(family_shape(family_id), 0),
        model_hash=ModelHash(bytes(32)),
        block_id=BlockId(bytes(32)),
        height=Height(last_height),
        generation=generation,
        correct=0,
        miner=PublicKey(bytes(32)),
    )
    first = new_family(family_id, dataset_id or next(iter(state.datasets)), record, offset)
    return replace(first, model_count=models, founders=(record,) * founders, generation=generation)


def made_up_state(counters: Sequence[Sequence[int]], height: int) -> ChainState:
    """Return a state with families of (model_count, join_offset, founders, generation, height of the last model)."""
    state = genesis_state(make_spec())
    families = tuple(
        made_up_family(
            state, number, models=models, offset=offset, founders=founders, generation=generation, last_height=last
        )
        for number, (models, offset, founders, generation, last) in enumerate(counters)
    )
    return replace(state, families=families, height=Height(height))


_OPENED: list[Store] = []


def close_opened() -> None:
    """Close every store that :func:`open_chain` has opened since the last time."""
    while _OPENED:
        _OPENED.pop().close()


def transfer(
    key: Ed25519PrivateKey = ALICE,
    recipient: Ed25519PrivateKey = CAROL,
    *,
    nonce: int = 0,
    amount: int = 100,
    fee: int = 1,
    expiry_height: int = 10**6,
    chain_id: int = CHAIN_ID,
) -> Transaction:
    """Return a signed transfer."""
    return sign_transfer(
        key,
        chain_id=chain_id,
        nonce=nonce,
        recipient=public_key(recipient),
        amount=Amount(amount),
        fee=Amount(fee),
        expiry_height=Height(expiry_height),
    )


class Builder:
    """Seals blocks on a chain's head, or on any state; draws models from its own seeded generator."""

    def __init__(self, source: Chain | ChainState, *, key: Ed25519PrivateKey = MINER, seed: int = 0) -> None:
        self._source = source
        self._validator = make_validator()
        self.key = key
        self.rng = np.random.default_rng(seed)
        self.seed = seed

    @property
    def chain(self) -> Chain:
        assert isinstance(self._source, Chain)
        return self._source

    @property
    def state(self) -> ChainState:
        """The state on which the next block is built."""
        return self._source.head if isinstance(self._source, Chain) else self._source

    def extend(self, blocks: int = 1, *, kind: BlockKind | None = None, **changes: Any) -> list[bytes]:
        """Build and import blocks at the head, or move on the state; returns their bytes."""
        build = self.idle if kind == BlockKind.IDLE else self.next
        return [self.take(build(**changes)) for _ in range(blocks)]

    def take(self, block: Block) -> bytes:
        """Import a block at the head, or move on the state; return its bytes."""
        raw = encode_block(block)
        if isinstance(self._source, Chain):
            self._source.import_block(raw)
            fetch_pools(self._source)
        else:
            self._source = self.after(self._source, raw)
        return raw

    def after(self, state: ChainState, block: Block | bytes) -> ChainState:
        """Return the state after a block judged on ``state``, by all the rules."""
        raw = block if isinstance(block, bytes) else encode_block(block)
        return self._validator.judge(state, raw, GENESIS_TIME + 10**9).state

    def place(self, index: int = 0, on: ChainState | None = None) -> Place:
        """Return a place of the election order of the next block."""
        state = on or self.state
        return election_order(state, state.spec.params_at(state.height + 1))[index]

    def next(self, index: int = 0, *, on: ChainState | None = None, **changes: Any) -> Block:
        """Return a sealed valid block for a place of the order, with fields replaced as for :meth:`seal`."""
        place = self.place(index, on)
        build = self.evolve if place.kind == BlockKind.EVOLVE else self.found
        return build(place, on=on, **changes)

    def idle(self, *, on: ChainState | None = None, **changes: Any) -> Block:
        """Return a sealed IDLE block."""
        return self.seal(Block(self._header(on or self.state, BlockKind.IDLE), b"", ()), on=on, **changes)

    def found(self, place: Place, model: Model | None = None, *, on: ChainState | None = None, **changes: Any) -> Block:
        """Return a sealed FOUND block for a place; by default with a climbed founder of the family's shape."""
        if model is None:
            number = len(place.family.founders) if place.family else 0
            shape = place.family.architecture if place.family else family_shape(place.family_id)
            model = founder(shape, 1_000 * self.seed + 10 * place.family_id + number, place.dataset_id)
        return self._model_block(place, model, encode_model(model), on, changes)

    def evolve(
        self, place: Place, model: Model | None = None, *, on: ChainState | None = None, **changes: Any
    ) -> Block:
        """Return a sealed EVOLVE block for a place; by default with the first random child that passes the gates."""
        assert place.family is not None
        child = model or self.child(place, on)
        return self._model_block(place, child, encode_difference(place.family.best.model, child), on, changes)

    def child(self, place: Place, on: ChainState | None = None, flips: int | None = None) -> Model:
        """Return a child of the family's best model that passes the gates at once, found by random novel flips."""
        state, family = on or self.state, place.family
        assert family is not None
        params = state.spec.params_at(state.height + 1)
        wanted = flips or required_flips(family.architecture, params)
        pool_size = state.datasets[place.dataset_id].manifest.pool_size
        gain = required_gain(family, pool_size, 0, params)
        novel = np.flatnonzero(novel_flips(family))
        for _ in range(SEARCH_STEPS):
            child = apply_flips(family.best.model, self.rng.choice(novel, wanted, replace=False).astype(np.int64))
            if count(child, place.dataset_id) >= family.best.correct + gain:
                return child
        message = f"no child in {SEARCH_STEPS} steps from {family.best.correct} of {pool_size}"
        raise AssertionError(message)

    def proofs(self, *numbers: int, on: ChainState | None = None) -> tuple[AvailabilityProof, ...]:
        """Return what the next block must show of the uploaded data sets of these numbers, in order of their ids."""
        state, miner = on or self.state, public_key(self.key)
        ids = sorted(DatasetId(uploaded_dataset(number).manifest.dataset_id) for number in numbers)
        manifests = [known_datasets()[dataset_id].manifest for dataset_id in ids]
        return tuple(
            prove_available(state.head, miner, manifest, payload_tree(dataset_id))
            for dataset_id, manifest in zip(ids, manifests, strict=True)
        )

    def tamper(self, block: Block, *, on: ChainState | None = None, **changes: Any) -> bytes:
        """Return the bytes of a block with fields replaced and sealed again; see :meth:`seal`."""
        return encode_block(self.seal(block, on=on, **changes))

    def seal(
        self,
        block: Block,
        *,
        on: ChainState | None = None,
        key: Ed25519PrivateKey | None = None,
        model: bytes | None = None,
        transactions: Sequence[Transaction] | None = None,
        proofs: Sequence[AvailabilityProof] | None = None,
        stale: Header | None = None,
        **fields: Any,
    ) -> Block:
        """Return a block with body or header fields replaced, and with root, y and signature right for that.

        A ``body_root``, ``y`` or ``signature`` given here is kept, wrong as it may be; so is ``miner``.
        """
        state, key = on or self.state, key or self.key
        block = Block(
            block.header,
            block.model if model is None else model,
            block.transactions if transactions is None else tuple(transactions),
            block.proofs if proofs is None else tuple(proofs),
            stale or block.stale,
        )
        root = body_root(block.transactions, block.proofs, block.stale)
        derived = {"body_root": root, "miner": public_key(key)}
        header = replace(block.header, **{**derived, **fields})
        if "y" not in fields:
            header = replace(header, y=ticket_value(state, header))
        if "signature" not in fields:
            header = sign_header(header, key)
        return replace(block, header=header)

    def mine(self, block: Block, *, on: ChainState | None = None, tries: int = 10_000) -> Block:
        """Return the block with the first nonce whose ticket wins."""
        state = on or self.state
        for nonce in range(tries):
            header = replace(block.header, nonce=nonce)
            y = ticket_value(state, header)
            if lottery.is_winning(y, ticket_base(state, header), header.target):
                return self.seal(block, on=state, nonce=nonce, y=y)
        message = f"no winning ticket among {tries}"
        raise AssertionError(message)

    def _model_block(
        self, place: Place, model: Model, data: bytes, on: ChainState | None, changes: dict[str, Any]
    ) -> Block:
        state, family = on or self.state, place.family
        is_evolved = place.kind == BlockKind.EVOLVE and family is not None
        header = replace(
            self._header(state, place.kind),
            dataset_id=place.dataset_id,
            family_id=place.family_id,
            generation=family.generation + 1 if family and is_evolved else 0,
            model_count=family.model_count + 1 if family else 1,
            previous_model_hash=family.latest.block_id if family else BlockId(ZERO_HASH),
            shape_hash=ShapeHash(shape_hash(model.architecture)),
            model_hash=ModelHash(model_hash(model)),
            correct_new=count(model, place.dataset_id),
            correct_parent=family.best.correct if family and is_evolved else 0,
            eval_total=state.datasets[place.dataset_id].manifest.pool_size,
        )
        return self.seal(Block(header, data, ()), on=on, **changes)

    def _header(self, state: ChainState, kind: BlockKind) -> Header:
        params = state.spec.params_at(state.height + 1)
        return Header(
            version=VERSION,
            chain_id=state.spec.chain_id,
            height=Height(state.height + 1),
            previous_hash=state.head,
            timestamp=state.timestamp + 1,
            miner=PublicKey(bytes(32)),
            body_root=ZERO_HASH,
            params_hash=params_hash(params),
            kind=kind,
            dataset_id=DatasetId(ZERO_HASH),
            family_id=0,
            generation=0,
            model_count=0,
            previous_model_hash=BlockId(ZERO_HASH),
            shape_hash=ShapeHash(ZERO_HASH),
            model_hash=ModelHash(ZERO_HASH),
            correct_new=0,
            correct_parent=0,
            eval_total=0,
            target=next_target(state, params),
            nonce=0,
            y=ZERO_HASH,
            signature=Signature(bytes(64)),
        )


def ticket_base(state: ChainState, header: Header) -> Architecture:
    """Return the shape whose cost counts for the ticket of ``header``."""
    return _ticket_model(state, header).architecture


def ticket_value(state: ChainState, header: Header) -> bytes:
    """Return the y that is right for ``header``, however wrong its other fields are."""
    params = state.spec.params_at(state.height + 1)
    base = _ticket_model(state, header)
    is_known = header.kind == BlockKind.EVOLVE and header.dataset_id in known_datasets()
    dataset_id = header.dataset_id if is_known else OWN
    pool = known_datasets()[dataset_id].pool
    indices = lottery.sample_indices(header.previous_hash, dataset_id, len(pool), params.n_eval)
    seed = lottery.ticket_seed(core_hash(header), header.nonce)
    child = lottery.mutant(base, seed, params.ticket_flips)
    return lottery.lottery_value(seed, ReferenceEvaluator(pool.take(indices)).logits(child, 0, len(indices)))


def _ticket_model(state: ChainState, header: Header) -> Model:
    if header.kind == BlockKind.EVOLVE and header.family_id < len(state.families):
        return state.families[header.family_id].best.model
    return state.spec.model


def outcome(call: Callable[[], Value]) -> Value | str:
    """Return what ``call`` returns, or the code with which it refuses."""
    try:
        return call()
    except Invalid as error:
        return error.code
