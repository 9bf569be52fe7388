"""What the rules know after a block: families, data sets, money; immutable, so a reorg just takes another one."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class DatasetState:
    """A data set that models are elected for, and since when."""

    manifest: Manifest
    added_height: Height


@dataclass(frozen=True, slots=True)
class Coinbase:
    """A miner's reward that can be spent from ``mature_height`` on."""

    mature_height: Height
    miner: PublicKey
    amount: Amount


@dataclass(frozen=True, slots=True, eq=False)
class ChainState:
    """Everything the rules need to judge a child of ``head``."""

    spec: ChainSpec
    head: BlockId
    height: Height
    timestamp: int
    recent_timestamps: tuple[int, ...]
    """Of the last 11 blocks, head last."""
    weight: int
    """Sum of the blocks' weights from genesis."""
    datasets: dict[DatasetId, DatasetState]
    families: tuple[FamilyState, ...]
    """Indexed by family_id."""
    ledger: Ledger
    coinbases: tuple[Coinbase, ...]
    """Immature, oldest first."""
    supply: Amount
    """All money there is: accounts plus immature coinbases."""


def genesis_state(spec: ChainSpec) -> ChainState:
    """Return the state after block 0."""
    ledger = Ledger().updated({key: Account(amount, 0) for key, amount in spec.allocations if amount})
    return ChainState(
        spec=spec,
        head=spec.genesis_id,
        height=Height(0),
        timestamp=spec.genesis_time,
        recent_timestamps=(spec.genesis_time,),
        weight=0,
        datasets={DatasetId(spec.dataset.dataset_id): DatasetState(spec.dataset, Height(0))},
        families=(),
        ledger=ledger,
        coinbases=(),
        supply=ledger.total(),
    )
