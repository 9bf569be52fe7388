"""Messages: what goes out comes back, and every field from outside that breaks its bounds is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import ALICE, make_spec, outcome, transfer
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.chain.store import DeepReorg
from bnnchain.consensus.codec import encode_header, encode_transaction
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import Amount, BlockId, DatasetId, Height
from bnnchain.net import convert
from bnnchain.net.address import Address
from bnnchain.net.messages import (
    AccountStatus,
    Agreement,
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

ID = BlockId(bytes(range(32)))
HEAD = Head(ID, Height(5), (1 << 256) - 3)
HELLO = Hello(1, 7, ID, HEAD, b"n" * 16, Role.MINER, "bnnchain/9", "10.1.2.3:9555", 1_800_000_000)
VERDICT = Verdict(Outcome.INVALID, "bad-claim", "bad-claim (x=1)", ID, [ID], ID)
STATUS = Status(
    *("9", "tiny", 7, ID, b"n" * 16, Role.VALIDATOR, "numba", HEAD, 99, 3, 4, 5, True, [DatasetId(ID)], 2),
    agreement=Agreement(ID, 3, 4),
    deep_reorg=DeepReorg(99, 5, ID, 101),
)
QUIET_STATUS = replace(STATUS, missing_dataset_ids=[], agreement=Agreement(None, 1, 2), deep_reorg=None)
ACCOUNT = AccountStatus(public_key(ALICE), Amount(1 << 62), 1, 2, Amount(3), Height(4))
HEADER = make_spec().genesis_header
NEW_HEAD = NewHead(make_spec().genesis_id, HEADER, 1 << 70, 2, 3, 4, is_snapshot=True)
TRANSACTION = TransactionAccepted(transaction_id(transfer()), encode_transaction(transfer()))


def test_round_trips() -> None:
    assert convert.hello_from_pb(convert.hello_to_pb(HELLO)) == HELLO
    assert convert.verdict_from_pb(convert.verdict_to_pb(VERDICT)) == VERDICT
    for told in (STATUS, QUIET_STATUS):
        assert convert.status_from_pb(convert.status_to_pb(told)) == told
    assert convert.account_from_pb(ACCOUNT.key, convert.account_to_pb(ACCOUNT)) == ACCOUNT
    for event in (NEW_HEAD, TRANSACTION, SideBlock(NEW_HEAD.block_id, HEADER, 1 << 70)):
        assert convert.event_from_pb(convert.event_to_pb(event)) == event
    for status in (
        TransactionStatus(TransactionState.INCLUDED, ID, 3, 4),
        TransactionStatus(TransactionState.WAITING),
        TransactionStatus(TransactionState.UNKNOWN),
    ):
        assert convert.transaction_status_from_pb(convert.transaction_status_to_pb(status)) == status


@given(st.integers(0, (1 << (8 * convert.MAX_WEIGHT_BYTES)) - 1))
def test_weights_have_one_spelling(weight: int) -> None:
    data = convert.weight_to_bytes(weight)
    assert convert.weight_from_bytes(data) == weight
    with pytest.raises(Invalid, match="bad-message"):
        convert.weight_from_bytes(b"\0" + data)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"genesis_id": b"short"}, "genesis_id"),
        ({"node_id": b""}, "node_id"),
        ({"role": 0}, "role"),
        ({"role": 77}, "role"),
        ({"agent": "a" * 257}, "agent"),
        ({"agent": "\x1b[2J"}, "agent"),
        ({"agent": "é"}, "agent"),
        ({"listen_address": "no address"}, "listen_address"),
        ({"listen_address": "node.example:9555"}, "listen_address"),
        ({"listen_address": "0.0.0.0:9555"}, "listen_address"),
        ({"listen_address": "10.1.2.3:0"}, "listen_address"),
        ({"head": pb.Head(id=ID, height=1 << 63)}, "height"),
        ({"head": pb.Head(id=b"x")}, "head.id"),
        ({"head": pb.Head(id=ID, weight=b"\1" * 41)}, "weight"),
    ],
)
def test_bad_hello(change: dict[str, Any], field: str) -> None:
    message = convert.hello_to_pb(HELLO)
    message.MergeFrom(pb.Hello(**change))
    for name, value in change.items():
        if not isinstance(value, pb.Head):
            setattr(message, name, value)
    refused(field, convert.hello_from_pb, message)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"outcome": 0}, "outcome"),
        ({"outcome": 7}, "outcome"),
        ({"code": ""}, "code"),
        ({"outcome": 1}, "code"),
        ({"code": "c" * 65}, "code"),
        ({"message": "\n"}, "message"),
        ({"id": b"x" * 31}, "id"),
        ({"missing_dataset_id": b"x"}, "missing_dataset_id"),
    ],
)
def test_bad_verdict(change: dict[str, Any], field: str) -> None:
    message = convert.verdict_to_pb(VERDICT)
    for name, value in change.items():
        setattr(message, name, value)
    refused(field, convert.verdict_from_pb, message)


def test_bad_locators() -> None:
    refused("locator", convert.locator_from_pb, [ID] * (convert.MAX_LOCATOR_IDS + 1))
    refused("locator", convert.locator_from_pb, [ID, b""])


def test_addresses_of_peers() -> None:
    addresses = [Address("10.1.2.3", 1), Address("2001:db8::1", 65_535)]
    assert convert.addresses_from_pb(convert.addresses_to_pb(addresses)) == addresses
    assert convert.addresses_from_pb(pb.PeersReply(addresses=["[2001:DB8:0::1]:9"])) == [Address("2001:db8::1", 9)]
    refused("addresses", convert.addresses_from_pb, pb.PeersReply(addresses=["10.1.2.3:1"] * 129))
    for text in ("", "node.example:1", "[::]:1", "224.0.0.1:1", "10.1.2.3:0", "10.1.2.3"):
        refused("addresses", convert.addresses_from_pb, pb.PeersReply(addresses=[text]))


def test_bad_events() -> None:
    refused("header", convert.event_from_pb, pb.Event(side_block=pb.SideBlock(header=b"x")))
    refused("event", convert.event_from_pb, pb.Event())
    refused("header", convert.event_from_pb, pb.Event(new_head=pb.NewHead(header=encode_header(HEADER)[:-1])))
    refused("transaction", convert.event_from_pb, pb.Event(transaction=pb.TransactionAccepted(raw=bytes(5_000))))
    with pytest.raises(Invalid) as refusal:
        convert.event_from_pb(pb.Event(new_head=pb.NewHead(header=b"\xff" * 439)))
    assert refusal.value.code == "bad-kind"
    refused("state", convert.transaction_status_from_pb, pb.TransactionStatusReply(state=9))
    refused("block_id", convert.transaction_status_from_pb, pb.TransactionStatusReply(state=3))


def test_what_we_write_is_printable() -> None:
    message = convert.verdict_to_pb(replace(VERDICT, message="a\x1b[2J\né" + "x" * 500))
    assert message.message.startswith("a?[2J??x")
    assert len(message.message) == convert.MAX_TEXT_BYTES
    convert.verdict_from_pb(message)


@pytest.mark.filterwarnings("ignore:Unexpected end-group tag")  # what protobuf 3.20 says before it refuses
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for kind, read in (
        (pb.Hello, convert.hello_from_pb),
        (pb.Verdict, convert.verdict_from_pb),
        (pb.StatusReply, convert.status_from_pb),
        (pb.Event, convert.event_from_pb),
        (pb.TransactionStatusReply, convert.transaction_status_from_pb),
        (pb.PeersReply, convert.addresses_from_pb),
    ):
        try:
            message = kind.FromString(data)
        except DecodeError:
            continue
        code = outcome(lambda read=read, message=message: read(message))
        assert not isinstance(code, str) or code in {"bad-message", "bad-encoding", "bad-kind", "bad-tx-kind"}


class OnThirtyTwoBits:
    """A message as protobuf 4.21 gives it on 32-bit ARM."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._message, name)
        return value - (1 << 32) if name == "chain_id" and value >= 1 << 31 else value


def test_a_chain_id_is_unsigned_on_every_machine() -> None:
    for chain_id in (0, 7, (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
        hello, status = replace(HELLO, chain_id=chain_id), replace(STATUS, chain_id=chain_id)
        assert convert.hello_from_pb(OnThirtyTwoBits(convert.hello_to_pb(hello))) == hello
        assert convert.status_from_pb(OnThirtyTwoBits(convert.status_to_pb(status))) == status


def refused(field: str, read: Any, message: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        read(message)
    assert refusal.value.code == "bad-message"
    assert refusal.value.values["field"] == field
