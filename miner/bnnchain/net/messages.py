"""What nodes say to each other, as plain values; :mod:`bnnchain.net.convert` turns them into protobuf and back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, TypeAlias

from bnnchain import __version__
from bnnchain.chain.chain import DEEP_REORG_BLOCKS
from bnnchain.consensus.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.chain.store import DeepReorg
    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.consensus.types import Amount, BlockId, DatasetId, Header, Height, PublicKey, TransactionId

PROTOCOL_VERSION = 1
NODE_ID_BYTES = 16


class Role(IntEnum):
    """What a node does; numbers as on the wire."""

    OBSERVER = 1
    """A command line or dashboard: asks, holds no chain."""
    VALIDATOR = 2
    MINER = 3


class Outcome(IntEnum):
    """What became of a block or transaction; numbers as on the wire."""

    ACCEPTED = 1
    KNOWN = 2
    INVALID = 3
    UNAVAILABLE = 4
    FAULT = 5
    WANTED = 6
    """Of an offered block: send its body."""


class TransactionState(Enum):
    """Where a transaction is."""

    UNKNOWN = 1
    WAITING = 2
    INCLUDED = 3


@dataclass(frozen=True, slots=True)
class Head:
    """The last block of a node's active chain, and the chain's weight: a peer's is a claim until it is validated."""

    block_id: BlockId
    height: Height
    weight: int


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a node is and which chain it keeps."""

    protocol_version: int
    chain_id: int
    genesis_id: BlockId
    head: Head
    node_id: bytes
    """16 random bytes of this run of the node; all zero for an observer."""
    role: Role
    agent: str
    """Name and version of the software."""
    listen_address: str = ""
    """Where it says that it can be dialled; empty where it cannot.  Believed only after dialling it."""
    time_s: int = 0
    """Its clock; 0 where it does not tell."""


@dataclass(slots=True)
class Identity:
    """What a node says of itself."""

    node_id: bytes
    role: Role
    agent: str = f"bnnchain/{__version__}"
    listen_address: str = ""
    """Set once the port is known."""

    def hello(self, spec: ChainSpec, head: Head, time_s: int = 0) -> Hello:
        """Return this node's Hello on a chain."""
        return Hello(
            protocol_version=PROTOCOL_VERSION,
            chain_id=spec.chain_id,
            genesis_id=spec.genesis_id,
            head=head,
            node_id=self.node_id,
            role=self.role,
            agent=self.agent,
            listen_address=self.listen_address,
            time_s=time_s,
        )


def validate_same_chain(ours: Hello, theirs: Hello) -> None:
    """Raise :class:`Invalid` ``other-version``, ``other-chain`` or ``other-genesis`` where two nodes cannot talk."""
    if theirs.protocol_version != ours.protocol_version:
        raise Invalid("other-version", theirs=theirs.protocol_version, ours=ours.protocol_version)
    if theirs.chain_id != ours.chain_id:
        raise Invalid("other-chain", theirs=theirs.chain_id, ours=ours.chain_id)
    if theirs.genesis_id != ours.genesis_id:
        raise Invalid("other-genesis", theirs=theirs.genesis_id.hex()[:16], ours=ours.genesis_id.hex()[:16])


@dataclass(frozen=True, slots=True)
class Verdict:
    """A node's answer to a block or transaction."""

    outcome: Outcome
    code: str = ""
    """The rule's reject code, where ``outcome`` is INVALID."""
    message: str = ""
    item_id: bytes = b""
    """Id of the block or transaction; empty where its bytes could not be read."""
    locator: Sequence[BlockId] = ()
    """Where a block's parent is unknown: the judge's chain, so that the sender can send what is missing."""
    missing_dataset_id: bytes = b""
    """Where a data set is missing: its id, so that the sender can offer its chunks."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether most of the peers that a node has dialled stand on one tip (:mod:`bnnchain.net.agreement`)."""

    block_id: BlockId | None
    """None where fewer than two thirds of them do."""
    votes: int
    """Peers on the tip that most are on."""
    voters: int
    """Peers polled."""


@dataclass(frozen=True, slots=True)
class Status:
    """A node at one moment, for people and dashboards."""

    version: str
    chain_name: str
    chain_id: int
    genesis_id: BlockId
    node_id: bytes
    role: Role
    backend: str
    head: Head
    head_timestamp_s: int
    peer_count: int
    mempool_count: int
    block_count: int
    """Blocks stored, active or not, without genesis."""
    is_syncing: bool
    missing_dataset_ids: Sequence[DatasetId]
    """Data sets of the chain, not closed ones, whose pools are not there yet, most needed first."""
    family_count: int
    agreement: Agreement
    deep_reorg: DeepReorg | None
    """The last one, if there ever was one."""

    @property
    def height(self) -> Height:
        """Height of the head."""
        return self.head.height


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """Where a transaction is; block fields only where it is included."""

    state: TransactionState
    block_id: BlockId | None = None
    height: int = 0
    confirmations: int = 0


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """An account as of ``height``."""

    key: PublicKey
    balance: Amount
    nonce: int
    next_nonce: int
    """The nonce that a new transaction needs, the sender's waiting ones counted."""
    immature: Amount
    """Rewards that cannot be spent yet."""
    height: Height


@dataclass(frozen=True, slots=True)
class NewHead:
    """The active chain has a new last block."""

    block_id: BlockId
    header: Header
    weight: int
    reorg_depth: int
    """Blocks that left the active chain for it."""
    verdict_us: int
    """Decoding, rules, inference and commit, on the node that reports."""
    size_bytes: int
    is_snapshot: bool = False
    """True for the head that was there when the watch began."""

    @property
    def is_deep_reorg(self) -> bool:
        """Whether it took so many blocks from the active chain that people should look (an alarm)."""
        return self.reorg_depth > DEEP_REORG_BLOCKS


@dataclass(frozen=True, slots=True)
class TransactionAccepted:
    """A transaction waits for a block."""

    transaction_id: TransactionId
    raw: bytes


@dataclass(frozen=True, slots=True)
class SideBlock:
    """An own block that did not become the head: as good as it, or it lost its race."""

    block_id: BlockId
    header: Header
    weight: int


Event: TypeAlias = NewHead | TransactionAccepted | SideBlock
