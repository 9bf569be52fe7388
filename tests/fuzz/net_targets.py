"""What peers and operators type or send around the chain: protobuf messages, addresses, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builders import ALICE, make_spec, transfer
from fuzz.target import Target, refusals
from google.protobuf.message import DecodeError

from bnnchain.consensus.codec import encode_header, encode_transaction
from bnnchain.consensus.signatures import public_key
from bnnchain.home import parse_checkpoint, parse_hash, parse_public_key
from bnnchain.mining.pool.address import parse_pool_address
from bnnchain.net import convert
from bnnchain.net.address import parse_address
from bnnchain.rpc.v1 import node_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEY = public_key(ALICE)
_CODES = ("bad-message", "bad-encoding", "bad-kind", "bad-tx-kind", "bad-manifest")
MESSAGES: list[tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = [
    (pb.Hello, convert.hello_from_pb, convert.hello_to_pb),
    (pb.Verdict, convert.verdict_from_pb, convert.verdict_to_pb),
    (pb.StatusReply, convert.status_from_pb, convert.status_to_pb),
    (pb.Event, convert.event_from_pb, convert.event_to_pb),
    (pb.TransactionStatusReply, convert.transaction_status_from_pb, convert.transaction_status_to_pb),
    (pb.AccountReply, lambda message: convert.account_from_pb(KEY, message), convert.account_to_pb),
]
"""Type, reader and writer of every message that is turned into a value; the first byte of an input chooses."""


def run_messages(data: bytes) -> None:
    """A message that is read is written to one that reads the same."""
    kind, read, write = MESSAGES[data[0] % len(MESSAGES)] if data else MESSAGES[0]
    try:
        message = kind.FromString(data[1:])
    except DecodeError:
        return
    with refusals(*_CODES):
        value = read(message)
        assert read(kind.FromString(write(value).SerializeToString())) == value


def message_seeds() -> Sequence[bytes]:
    spec = make_spec()
    head = pb.Head(id=spec.genesis_id, height=5, weight=b"\1\0")
    new_head = pb.NewHead(header=encode_header(spec.genesis_header), weight=b"\1", reorg_depth=2, is_snapshot=True)
    made = [
        pb.Hello(
            protocol_version=1,
            chain_id=7,
            genesis_id=spec.genesis_id,
            head=head,
            node_id=b"n" * 16,
            role=3,
            agent="bnnchain/9",
        ),
        pb.Verdict(outcome=3, code="bad-claim", message="x=1", id=KEY, locator=[KEY], missing_dataset_id=KEY),
        pb.StatusReply(
            version="1",
            chain_name="tiny",
            chain_id=7,
            genesis_id=KEY,
            node_id=b"n" * 16,
            role=2,
            backend="c",
            head=head,
            missing_dataset_ids=[KEY],
            agreement=pb.Agreement(id=KEY, votes=3, voters=4),
            deep_reorg=pb.DeepReorg(time_s=1, height=5, id=KEY, depth=101),
        ),
        pb.Event(new_head=new_head),
        pb.Event(transaction=pb.TransactionAccepted(raw=encode_transaction(transfer()))),
        pb.TransactionStatusReply(state=3, block_id=KEY, height=3, confirmations=4),
        pb.AccountReply(balance=9, nonce=1, next_nonce=2, immature=3, height=4),
    ]
    kinds = [kind for kind, _, _ in MESSAGES]
    return [bytes([kinds.index(type(message))]) + message.SerializeToString() for message in made]


def run_text(data: bytes) -> None:
    """Addresses, keys, hashes, checkpoints, as typed."""
    text = data.decode(errors="replace")
    with refusals("bad-address"):
        address = parse_address(text)
        assert parse_address(str(address)) == address
        assert isinstance(address.is_loopback, bool)
    with refusals("bad-address"):
        assert len(parse_public_key(text)) == 32
    with refusals("bad-id"):
        assert len(parse_hash(text)) == 32
    with refusals("bad-id"):
        height, identity = parse_checkpoint(text)
        assert parse_checkpoint(f"{height}:{identity.hex()}") == (height, identity)
    with refusals():
        address = parse_pool_address(text)
        assert parse_pool_address(str(address)) == address


def text_seeds() -> Sequence[bytes]:
    return [b"127.0.0.1:9555", b"[::1]:80", b"node.example.org:65535", KEY.hex().encode(), b"12:" + KEY.hex().encode(),
            b"local:2", b"tls://10.0.0.1:99"]  # fmt: skip


TARGETS = [
    Target("messages", run_messages, message_seeds, max_size_bytes=1_024, share=2),
    Target("text", run_text, text_seeds, max_size_bytes=300, tokens=(b"[", b"]", b"::", b"tls://", b"local:")),
]
