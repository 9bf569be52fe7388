"""Protobuf messages to plain values and back: the one place where a field from outside is checked.

``*_from_pb`` raises :class:`Invalid` ``bad-message`` with the field's name.  Canonical bytes (blocks, transactions,
chunks) pass through: their own decoders judge them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from bnnchain.chain.store import DeepReorg
from bnnchain.consensus.codec import (
    HEADER_BYTES,
    MAX_TRANSACTION_BYTES,
    decode_header,
    decode_transaction,
    encode_header,
)
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import block_id
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import Amount, BlockId, DatasetId, Height, PublicKey
from bnnchain.net.address import Address, parse_peer_address
from bnnchain.net.messages import (
    NODE_ID_BYTES,
    AccountStatus,
    Agreement,
    Event,
    Head,
    Hello,
    NewHead,
    Outcome,
    Role,
    SideBlock,
    Status,
    TransactionAccepted,
    TransactionState,
    TransactionStatus,
    Verdict,
)
from bnnchain.rpc.v1 import node_pb2 as pb
from bnnchain.wire import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import Enum

    from bnnchain.consensus.types import Header

MAX_LOCATOR_IDS = 72
"""Doubling steps: enough for 2**71 blocks."""
MAX_WEIGHT_BYTES = 40
"""A block weighs at most 2**255: room for 2**64 of them."""
MAX_TEXT_BYTES = 256
MAX_CODE_BYTES = 64
MAX_DATASET_IDS = 256
MAX_SHARED_ADDRESSES = 128
MAX_HEIGHT = (1 << 63) - 1

EnumType = TypeVar("EnumType", bound="Enum")


def hello_to_pb(hello: Hello) -> pb.Hello:
    """Return a Hello as a message."""
    return pb.Hello(
        protocol_version=hello.protocol_version,
        chain_id=hello.chain_id,
        genesis_id=hello.genesis_id,
        head=head_to_pb(hello.head),
        node_id=hello.node_id,
        role=hello.role,
        agent=hello.agent,
        listen_address=hello.listen_address,
        time_s=hello.time_s,
    )


def hello_from_pb(message: pb.Hello) -> Hello:
    """Return the Hello of a message."""
    return Hello(
        protocol_version=message.protocol_version,
        chain_id=_read_u32(message.chain_id),
        genesis_id=read_id("genesis_id", message.genesis_id),
        head=head_from_pb(message.head),
        node_id=_read_bytes("node_id", message.node_id, NODE_ID_BYTES),
        role=_read_enum("role", message.role, Role),
        agent=_read_text("agent", message.agent, MAX_TEXT_BYTES),
        listen_address=str(_read_address("listen_address", message.listen_address)) if message.listen_address else "",
        time_s=message.time_s,
    )


def addresses_to_pb(addresses: Sequence[Address]) -> pb.PeersReply:
    """Return peers' addresses as a message."""
    return pb.PeersReply(addresses=[str(address) for address in addresses])


def addresses_from_pb(message: pb.PeersReply) -> list[Address]:
    """Return the addresses of a message: IP addresses that can be dialled, at most ``MAX_SHARED_ADDRESSES``."""
    if len(message.addresses) > MAX_SHARED_ADDRESSES:
        raise Invalid("bad-message", field="addresses", count=len(message.addresses), limit=MAX_SHARED_ADDRESSES)
    return [_read_address("addresses", text) for text in message.addresses]


def head_to_pb(head: Head) -> pb.Head:
    """Return a Head as a message."""
    return pb.Head(id=head.block_id, height=head.height, weight=weight_to_bytes(head.weight))


def head_from_pb(message: pb.Head) -> Head:
    """Return the Head of a message."""
    height = read_height("height", message.height)
    return Head(read_id("head.id", message.id), height, weight_from_bytes(message.weight))


def weight_to_bytes(weight: int) -> bytes:
    """Return a weight as big-endian bytes without leading zeros."""
    return weight.to_bytes(-(-weight.bit_length() // 8), "big")


def weight_from_bytes(data: bytes) -> int:
    """Return the weight of such bytes."""
    if len(data) > MAX_WEIGHT_BYTES or data[:1] == b"\0":
        raise Invalid("bad-message", field="weight", size=len(data))
    return int.from_bytes(data, "big")


def verdict_to_pb(verdict: Verdict) -> pb.Verdict:
    """Return a Verdict as a message."""
    return pb.Verdict(
        outcome=verdict.outcome,
        code=verdict.code,
        message=printable(verdict.message),
        id=verdict.item_id,
        locator=list(verdict.locator),
        missing_dataset_id=verdict.missing_dataset_id,
    )


def verdict_from_pb(message: pb.Verdict) -> Verdict:
    """Return the Verdict of a message: a code exactly where it is INVALID."""
    outcome = _read_enum("outcome", message.outcome, Outcome)
    code = _read_text("code", message.code, MAX_CODE_BYTES)
    if (outcome == Outcome.INVALID) != bool(code):
        raise Invalid("bad-message", field="code", outcome=outcome.name)
    return Verdict(
        outcome=outcome,
        code=code,
        message=_read_text("message", message.message, MAX_TEXT_BYTES),
        item_id=_read_optional_id("id", message.id),
        locator=locator_from_pb(message.locator),
        missing_dataset_id=_read_optional_id("missing_dataset_id", message.missing_dataset_id),
    )


def locator_from_pb(ids: Sequence[bytes]) -> list[BlockId]:
    """Return the ids of a locator."""
    if len(ids) > MAX_LOCATOR_IDS:
        raise Invalid("bad-message", field="locator", count=len(ids), limit=MAX_LOCATOR_IDS)
    return [read_id("locator", value) for value in ids]


def status_to_pb(status: Status) -> pb.StatusReply:
    """Return a Status as a message."""
    return pb.StatusReply(
        version=status.version,
        chain_name=printable(status.chain_name),
        chain_id=status.chain_id,
        genesis_id=status.genesis_id,
        node_id=status.node_id,
        role=status.role,
        backend=status.backend,
        head=head_to_pb(status.head),
        head_timestamp_s=status.head_timestamp_s,
        peer_count=status.peer_count,
        mempool_count=status.mempool_count,
        block_count=status.block_count,
        is_syncing=status.is_syncing,
        missing_dataset_ids=list(status.missing_dataset_ids)[:MAX_DATASET_IDS],
        family_count=status.family_count,
        agreement=pb.Agreement(
            id=status.agreement.block_id or b"", votes=status.agreement.votes, voters=status.agreement.voters
        ),
        deep_reorg=None if status.deep_reorg is None else _deep_reorg_to_pb(status.deep_reorg),
    )


def status_from_pb(message: pb.StatusReply) -> Status:
    """Return the Status of a message."""
    return Status(
        version=_read_text("version", message.version, MAX_TEXT_BYTES),
        chain_name=_read_text("chain_name", message.chain_name, MAX_TEXT_BYTES),
        chain_id=_read_u32(message.chain_id),
        genesis_id=read_id("genesis_id", message.genesis_id),
        node_id=_read_bytes("node_id", message.node_id, NODE_ID_BYTES),
        role=_read_enum("role", message.role, Role),
        backend=_read_text("backend", message.backend, MAX_TEXT_BYTES),
        head=head_from_pb(message.head),
        head_timestamp_s=message.head_timestamp_s,
        peer_count=message.peer_count,
        mempool_count=message.mempool_count,
        block_count=message.block_count,
        is_syncing=message.is_syncing,
        missing_dataset_ids=_dataset_ids_from_pb(message.missing_dataset_ids),
        family_count=message.family_count,
        agreement=_agreement_from_pb(message.agreement),
        deep_reorg=_deep_reorg_from_pb(message.deep_reorg) if message.HasField("deep_reorg") else None,
    )


def transaction_status_to_pb(status: TransactionStatus) -> pb.TransactionStatusReply:
    """Return a TransactionStatus as a message."""
    return pb.TransactionStatusReply(
        state=status.state.value,
        block_id=status.block_id or b"",
        height=status.height,
        confirmations=status.confirmations,
    )


def transaction_status_from_pb(message: pb.TransactionStatusReply) -> TransactionStatus:
    """Return the TransactionStatus of a message."""
    state = _read_enum("state", message.state, TransactionState)
    if state != TransactionState.INCLUDED:
        return TransactionStatus(state)
    return TransactionStatus(state, read_id("block_id", message.block_id), message.height, message.confirmations)


def account_to_pb(account: AccountStatus) -> pb.AccountReply:
    """Return an AccountStatus as a message."""
    return pb.AccountReply(
        balance=account.balance,
        nonce=account.nonce,
        next_nonce=account.next_nonce,
        immature=account.immature,
        height=account.height,
    )


def account_from_pb(key: PublicKey, message: pb.AccountReply) -> AccountStatus:
    """Return the AccountStatus of the answer for ``key``."""
    return AccountStatus(
        key=key,
        balance=Amount(message.balance),
        nonce=message.nonce,
        next_nonce=message.next_nonce,
        immature=Amount(message.immature),
        height=read_height("height", message.height),
    )


def event_to_pb(event: Event) -> pb.Event:
    """Return an event as a message."""
    if isinstance(event, TransactionAccepted):
        return pb.Event(transaction=pb.TransactionAccepted(raw=event.raw))
    if isinstance(event, SideBlock):
        return pb.Event(
            side_block=pb.SideBlock(header=encode_header(event.header), weight=weight_to_bytes(event.weight))
        )
    return pb.Event(
        new_head=pb.NewHead(
            header=encode_header(event.header),
            weight=weight_to_bytes(event.weight),
            reorg_depth=event.reorg_depth,
            verdict_us=event.verdict_us,
            size_bytes=event.size_bytes,
            is_snapshot=event.is_snapshot,
        )
    )


def event_from_pb(message: pb.Event) -> Event:
    """Return the event of a message, its header or transaction decoded, ids computed here."""
    kind = message.WhichOneof("event")
    if kind == "transaction":
        raw = message.transaction.raw
        if len(raw) > MAX_TRANSACTION_BYTES:
            raise Invalid("bad-message", field="transaction", size=len(raw), limit=MAX_TRANSACTION_BYTES)
        return TransactionAccepted(transaction_id(decode_transaction(raw)), raw)
    if kind == "side_block":
        header = header_from_bytes(message.side_block.header)
        return SideBlock(block_id(header), header, weight_from_bytes(message.side_block.weight))
    if kind != "new_head":
        raise Invalid("bad-message", field="event", kind=kind)
    new = message.new_head
    header = header_from_bytes(new.header)
    return NewHead(
        block_id=block_id(header),
        header=header,
        weight=weight_from_bytes(new.weight),
        reorg_depth=new.reorg_depth,
        verdict_us=new.verdict_us,
        size_bytes=new.size_bytes,
        is_snapshot=new.is_snapshot,
    )


def header_from_bytes(data: bytes) -> Header:
    """Return the header of exactly ``HEADER_BYTES``."""
    return decode_header(_read_bytes("header", data, HEADER_BYTES))


def read_id(field: str, value: bytes) -> BlockId:
    """Return a 32-byte id."""
    return BlockId(_read_bytes(field, value, HASH_BYTES))


def printable(text: str) -> str:
    """Return ``text`` as printable ASCII of bounded size: what we write, peers may show on a terminal."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:MAX_TEXT_BYTES])


def read_height(field: str, value: int) -> Height:
    """Return a height that fits a signed 64-bit integer."""
    return Height(_read_bounded(field, value, MAX_HEIGHT))


def _dataset_ids_from_pb(ids: Sequence[bytes]) -> list[DatasetId]:
    if len(ids) > MAX_DATASET_IDS:
        raise Invalid("bad-message", field="missing_dataset_ids", count=len(ids), limit=MAX_DATASET_IDS)
    return [DatasetId(read_id("missing_dataset_ids", value)) for value in ids]


def _agreement_from_pb(message: pb.Agreement) -> Agreement:
    block_id = _read_optional_id("agreement.id", message.id)
    return Agreement(BlockId(block_id) if block_id else None, message.votes, message.voters)


def _deep_reorg_to_pb(alarm: DeepReorg) -> pb.DeepReorg:
    return pb.DeepReorg(time_s=alarm.time_s, height=alarm.height, id=alarm.block_id, depth=alarm.depth)


def _deep_reorg_from_pb(message: pb.DeepReorg) -> DeepReorg:
    height = read_height("deep_reorg.height", message.height)
    return DeepReorg(message.time_s, height, read_id("deep_reorg.id", message.id), message.depth)


def _read_u32(value: int) -> int:
    # protobuf 4.21 (Debian 12) gives a uint32 from 2**31 on as a negative number where C's long has 32 bits.
    return value & 0xFFFF_FFFF


def _read_address(field: str, value: str) -> Address:
    try:
        return parse_peer_address(value)
    except Invalid as error:
        raise Invalid("bad-message", field=field, **error.values) from None


def _read_bytes(field: str, value: bytes, size_bytes: int) -> bytes:
    if len(value) != size_bytes:
        raise Invalid("bad-message", field=field, size=len(value), wanted=size_bytes)
    return value


def _read_optional_id(field: str, value: bytes) -> bytes:
    return read_id(field, value) if value else b""


def _read_bounded(field: str, value: int, limit: int) -> int:
    if value > limit:
        raise Invalid("bad-message", field=field, value=value, limit=limit)
    return value


def _read_text(field: str, value: str, limit_bytes: int) -> str:
    if len(value) > limit_bytes or printable(value) != value:
        raise Invalid("bad-message", field=field, reason="not short printable ASCII")
    return value


def _read_enum(field: str, value: int, kind: type[EnumType]) -> EnumType:
    try:
        return kind(value)
    except ValueError:
        raise Invalid("bad-message", field=field, value=value) from None
