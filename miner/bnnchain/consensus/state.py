"""What the rules know after a block: families, data sets, money; immutable, so a reorg just takes another one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from bnnchain.consensus.ledger import Ledger
from bnnchain.consensus.types import Account, Amount, BlockId, DatasetId, Height, ModelHash, PublicKey

if TYPE_CHECKING:
    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.datasets.manifest import Manifest
    from bnnchain_kernels.model import Architecture, Model, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class ModelRecord:
    """A model that is on the chain, with where it stands."""

    model: Model
    model_hash: ModelHash
    block_id: BlockId
    height: Height
    generation: int
    correct: int
    miner: PublicKey


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """Which values each weight of a family has had in this epoch (paper section 4.1).

    ``uint8[ceil(weight_count/8)]`` each, one bit a weight, LSB first: every recent block's state holds one.
    """

    seen_zero: UInt8Array
    seen_one: UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class FamilyState:
    """A family after some block; immutable, so a reorg restores it instead of inverting anything."""

    family_id: int
    dataset_id: DatasetId
    architecture: Architecture
    founders: tuple[ModelRecord, ...]
    best: ModelRecord
    """Highest count on the pool, the latest of equals: the parent of the next EVOLVE child."""
    latest: ModelRecord
    generation: int
    model_count: int
    join_offset: int
    last_gain: int
    """Samples gained by the last EVOLVE block, 0 before the first."""
    novelty: Novelty | None
    """None until the first EVOLVE block."""
    waited_blocks: int = 0
    """Blocks since the last model in which its data set was suspended: they do not try its patience."""


NO_MONEY = Amount(0)


class DatasetStatus(IntEnum):
    """Where a data set stands; models are elected for active ones alone."""

    PENDING = 1
    ACTIVE = 2
    SUSPENDED = 3
    CLOSED = 4


@dataclass(frozen=True, slots=True)
class DatasetState:
    """A data set after some block."""

    manifest: Manifest
    uploader: PublicKey | None
    """None: the chain's own, which is active for ever."""
    min_family_acc_bp: int | None
    """The least accuracy of its founding models; None: the chain's parameter."""
    status: DatasetStatus
    added_height: Height
    since_height: Height
    """Of the block that gave it its status."""
    window: int = 0
    """One bit for each recent block, the last one lowest: whether it proved that the pool can be had."""
    below_blocks: int = 0
    """Blocks in a row after which too few recent ones had."""
    deposit: Amount = NO_MONEY
    bounty: Amount = NO_MONEY
    own_bounty: Amount = NO_MONEY
    """What the uploader has put into the pot: the most of it that closing gives back."""
    unfilled_blocks: int = 0
    """Blocks in a row, active ones, in which it wanted a family and got none."""
    record: int = 0
    """Most samples of the pool that a model on the chain labels right; 0: no model yet."""

    @property
    def is_active(self) -> bool:
        return self.status == DatasetStatus.ACTIVE

    @property
    def is_closed(self) -> bool:
        return self.status == DatasetStatus.CLOSED


@dataclass(frozen=True, slots=True)
class Coinbase:
    """A reward that can be spent from ``mature_height`` on."""

    mature_height: Height
    owner: PublicKey
    amount: Amount
    block_id: BlockId | None
    """The block whose miner it pays, which loses it where the miner signed another on the same parent.

    None for a share of a bounty that pays another.
    """


@dataclass(frozen=True, slots=True, eq=False)
class ChainState:
    """Everything the rules need to judge a child of ``head``."""

    spec: ChainSpec
    head: BlockId
    height: Height
    timestamp: int
    weight: int
    """Sum of the blocks' weights from genesis."""
    datasets: dict[DatasetId, DatasetState]
    families: tuple[FamilyState, ...]
    """Indexed by family_id."""
    ledger: Ledger
    coinbases: tuple[Coinbase, ...]
    """Immature, oldest first."""
    supply: Amount
    """All money there is: accounts, immature coinbases, deposits and bounties."""
    ancestors: tuple[ChainState, ...] = ()
    """The last states before this one, oldest first, without theirs: stale headers are judged on them."""
    included_stale: tuple[tuple[Height, BlockId], ...] = ()
    """(height of the including block, id) of the stale headers that recent blocks carried."""


def genesis_state(spec: ChainSpec) -> ChainState:
    """Return the state after block 0."""
    ledger = Ledger().updated({key: Account(amount, 0) for key, amount in spec.allocations if amount})
    return ChainState(
        spec=spec,
        head=spec.genesis_id,
        height=Height(0),
        timestamp=spec.genesis_time,
        weight=0,
        datasets={DatasetId(spec.dataset.dataset_id): own_dataset(spec.dataset)},
        families=(),
        ledger=ledger,
        coinbases=(),
        supply=ledger.total(),
    )


def own_dataset(manifest: Manifest) -> DatasetState:
    """Return the state of the data set that comes with the chain."""
    return DatasetState(manifest, None, None, DatasetStatus.ACTIVE, Height(0), Height(0))
