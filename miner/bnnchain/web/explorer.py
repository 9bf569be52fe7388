"""What the pages show: answers about one node's chain, made when asked; blocking, safe from several threads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

from bnnchain.consensus.codec import decode_block, decode_header
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.header import block_id as header_id
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import BlockId, BlockKind, Bounty, DatasetId, Transfer, Upload
from bnnchain.home import parse_hash
from bnnchain.web.index import ModelEntry, ModelIndex, entry_of
from bnnchain.web.models import ChainModels, LayerChange, changes
from bnnchain.wire import HASH_BYTES

if TYPE_CHECKING:
    from bnnchain.chain.chain import Chain
    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.state import DatasetState, FamilyState
    from bnnchain.consensus.types import Amount, Block, Header, Transaction
    from bnnchain.net.messages import Agreement
    from bnnchain.net.peers import DialledPeer
    from bnnchain.web.live import Verdict
    from bnnchain_kernels.evaluator import EvaluatorFactory

PAGE_BLOCKS = 25
OVERVIEW_BLOCKS = 8
MAX_HEIGHT_DIGITS = 18
MAX_SHOWN_TRANSACTIONS = 500
MAX_SHOWN_WAITING = 100
MAX_U64 = (1 << 64) - 1


class Surroundings(Protocol):
    """What the page asks of the node's network, in its event loop."""

    @property
    def address(self) -> str: ...

    @property
    def peer_count(self) -> int: ...

    @property
    def dialled(self) -> list[DialledPeer]: ...

    @property
    def guests(self) -> set[bytes]: ...

    @property
    def is_syncing(self) -> bool: ...

    @property
    def agreement(self) -> Agreement: ...


@dataclass(frozen=True, slots=True)
class Around:
    """The network at one moment."""

    address: str
    peer_count: int
    dialled: list[DialledPeer]
    guests: list[bytes]
    is_syncing: bool
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class BlockRow:
    """A block in a list."""

    block_id: BlockId
    header: Header
    transaction_count: int | None
    """None where its body was pruned."""
    size_bytes: int | None

    @property
    def entry(self) -> ModelEntry | None:
        """Its model, None where it carries none."""
        return None if self.header.kind == BlockKind.IDLE else entry_of(self.block_id, self.header)


@dataclass(frozen=True, slots=True)
class BlockDetail:
    """Everything of a block."""

    row: BlockRow
    block: Block
    is_active: bool
    next_id: BlockId | None
    reward: Amount | None
    """What its miner gets; None where it cannot be said any more."""
    changes: list[LayerChange]
    """What a child changed of its parent; empty for other blocks, and where the parent was pruned."""
    fields: list[tuple[str, str]]
    """Every field of the header by name, hashes as hex."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images that one kernel has counted since the node began."""

    backend: str
    images: int
    images_per_s: float


@dataclass(frozen=True, slots=True)
class Overview:
    """A node at one moment."""

    height: int
    head: BlockId
    weight: int
    head_time: int
    latest: list[BlockRow]
    best: ModelEntry | None
    model_count: int
    throughput: list[Throughput]
    verdict: Verdict | None
    median_verdict_us: int | None


class Explorer:
    """Reads a node's chain, mempool and network."""

    def __init__(
        self, chain: Chain, mempool: Mempool, surroundings: Surroundings, factory: EvaluatorFactory, role: str
    ) -> None:
        self.chain = chain
        self.mempool = mempool
        self._surroundings = surroundings
        self.factory = factory
        self.role = role
        self.index = ModelIndex(chain)
        self.models = ChainModels(chain)

    def around(self) -> Around:
        """Return the network as it is now; in the event loop, the only place where it is read."""
        network = self._surroundings
        dialled = sorted(network.dialled, key=lambda peer: peer.address)
        guests = sorted(network.guests)
        return Around(network.address, network.peer_count, dialled, guests, network.is_syncing, network.agreement)

    def overview(self, verdicts: list[Verdict]) -> Overview:
        """Return the node as it is now; ``verdicts``: of its last blocks, oldest first."""
        state, entries = self.chain.head, self.index.entries()
        times = sorted(verdict.verdict_us for verdict in verdicts)
        totals = self.chain.validator.meter.totals().items()
        return Overview(
            height=state.height,
            head=state.head,
            weight=state.weight,
            head_time=state.timestamp,
            latest=self.blocks(state.height, OVERVIEW_BLOCKS),
            best=max(entries, key=lambda entry: (entry.accuracy_bp, entry.height), default=None),
            model_count=len(entries),
            throughput=[
                Throughput(name, total.images, total.images / total.seconds) for name, total in totals if total.seconds
            ],
            verdict=verdicts[-1] if verdicts else None,
            median_verdict_us=times[len(times) // 2] if times else None,
        )

    def blocks(self, top: int, count: int) -> list[BlockRow]:
        """Return up to ``count`` active blocks from height ``top`` downwards, newest first."""
        store, first = self.chain.store, max(1, top - count + 1)
        count = max(0, top - first + 1)
        kept_from = max(first, store.pruned_height() + 1)
        headers = [decode_header(raw) for raw in store.active_headers(first, min(count, kept_from - first))]
        pruned = [BlockRow(header_id(header), header, None, None) for header in headers]
        kept = store.active_blocks(kept_from, first + count - kept_from) if kept_from < first + count else []
        return [*pruned, *(_row(raw) for _, raw in kept)][::-1]

    def block(self, which: str) -> BlockDetail:
        """Return a stored block by height or id; raises ``bad-id`` or :class:`Unavailable`."""
        store, identity = self.chain.store, self.find_block(which)
        raw = store.block(identity)
        if raw is None:
            raise Unavailable(f"no block {which[: 2 * HASH_BYTES]} in this node's store")
        block, row = decode_block(raw), _row(raw)
        header = row.header
        is_active = store.active_id(header.height) == identity
        difference: list[LayerChange] = []
        if header.kind == BlockKind.EVOLVE:
            with suppress(Unavailable):  # what leads to it may have been pruned
                found = self.models.read(identity)
                difference = [] if found.parent is None else changes(found.parent, found.model)
        return BlockDetail(
            row=row,
            block=block,
            is_active=is_active,
            next_id=store.active_id(header.height + 1) if is_active else None,
            reward=self._reward(identity),
            changes=difference,
            fields=[(field.name, _text(getattr(header, field.name))) for field in fields(header)],
        )

    def find_block(self, which: str) -> BlockId:
        """Return the id of the active block of a height, or the id itself; raises ``bad-id`` or Unavailable."""
        if which.isascii() and which.isdigit() and len(which) <= MAX_HEIGHT_DIGITS:
            identity = self.chain.store.active_id(int(which)) if int(which) else None
            if identity is None:
                raise Unavailable(f"the chain has no block {which}; its height is {self.chain.head.height}")
            return identity
        return BlockId(parse_hash(which[: 2 * HASH_BYTES + 1]))

    def dataset(self, which: str) -> tuple[DatasetId, DatasetState]:
        """Return a data set of the chain by id; raises ``bad-id`` or :class:`Unavailable`."""
        dataset_id = DatasetId(parse_hash(which[: 2 * HASH_BYTES + 1]))
        entry = self.chain.head.datasets.get(dataset_id)
        if entry is None:
            raise Unavailable(f"the chain has no data set {which[:16]}")
        return dataset_id, entry

    def family(self, which: str) -> FamilyState:
        """Return a family of the chain by number; raises :class:`Unavailable`."""
        families = self.chain.head.families
        is_number = which.isascii() and which.isdigit() and len(which) <= MAX_HEIGHT_DIGITS
        if not is_number or int(which) >= len(families):
            raise Unavailable(f"the chain has no family {which[:MAX_HEIGHT_DIGITS]}; it has {len(families)}")
        return families[int(which)]

    def dataset_name(self, dataset_id: DatasetId) -> str:
        """Return a data set's name, or the beginning of its id where the chain has forgotten it."""
        entry = self.chain.head.datasets.get(dataset_id)
        return entry.manifest.name if entry else dataset_id.hex()[:12]

    def best_model(self) -> BlockId:
        """Return the block of the chain's most accurate model; raises :class:`Unavailable` where it has none yet."""
        best = max(self.index.entries(), key=lambda entry: (entry.accuracy_bp, entry.height), default=None)
        if best is None:
            raise Unavailable("the chain carries no model yet; the first miner founds one")
        return best.block_id

    def _reward(self, identity: BlockId) -> Amount | None:
        state = self.chain.head
        waiting = next((each for each in state.coinbases if each.block_id == identity), None)
        if waiting is None:
            after = self.chain.state_at(identity)  # at most so many replays as lie between two waypoints
            waiting = next((each for each in after.coinbases if each.block_id == identity), None)
        return waiting.amount if waiting else None


def describe_transaction(transaction: Transaction) -> dict[str, str]:
    """Return what a transaction orders, by name; hashes as hex."""
    body = transaction.body
    if isinstance(body, Transfer):
        order = {"recipient": body.recipient.hex(), "amount": f"{body.amount:,}"}
    elif isinstance(body, Bounty):
        order = {"data set": body.dataset_id.hex(), "amount": f"{body.amount:,}"}
    elif isinstance(body, Upload):
        order = {"data set": body.manifest.dataset_id.hex(), "name": body.manifest.name, "bounty": f"{body.bounty:,}"}
    else:
        order = {"miner": body.first.miner.hex(), "height": str(body.first.height)}
    return {
        "id": transaction_id(transaction).hex(),
        "order": type(body).__name__.lower(),
        "sender": transaction.sender.hex(),
        **order,
        "fee": f"{transaction.fee:,}",
        "nonce": str(transaction.nonce),
        "expires after": f"block {transaction.expiry_height}",
    }


def _row(raw: bytes) -> BlockRow:
    block = decode_block(raw)
    return BlockRow(header_id(block.header), block.header, len(block.transactions), len(raw))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, BlockKind):
        return value.name
    return str(value) if isinstance(value, int) and value <= MAX_U64 else f"{value:064x}"
