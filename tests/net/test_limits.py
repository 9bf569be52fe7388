"""gRPC takes any option name without a word: a misspelt one once left the server's default, which cut idle streams."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from bnnchain.consensus.codec import HEADER_BYTES, MAX_TRANSACTION_BYTES
from bnnchain.consensus.params import MAX_BLOCK_BYTES
from bnnchain.datasets.chunks import CHUNK_BYTES
from bnnchain.net import limits
from bnnchain.net.convert import MAX_SHARED_ADDRESSES
from bnnchain.net.limits import CLIENT_OPTIONS, SERVER_OPTIONS
from bnnchain.net.reads import MAX_RANGE_BYTES

LIBRARY = Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", sorted({name for name, _ in (*SERVER_OPTIONS, *CLIENT_OPTIONS)}))
def test_every_option_is_one_that_grpc_knows(name: str) -> None:
    assert name.encode() in LIBRARY


def test_a_misspelt_option_would_be_seen() -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in LIBRARY


def test_what_peers_may_send_fits_into_a_message_and_a_message_into_memory() -> None:
    largest = max(MAX_BLOCK_BYTES, MAX_TRANSACTION_BYTES, CHUNK_BYTES, HEADER_BYTES, 64 * MAX_SHARED_ADDRESSES)
    assert largest < limits.MAX_MESSAGE_BYTES <= 4 * MAX_BLOCK_BYTES
    assert limits.MAX_BODIES * limits.MAX_MESSAGE_BYTES <= 32 << 20
    assert limits.SYNC_WINDOW_BYTES >= 2 * (MAX_RANGE_BYTES + MAX_BLOCK_BYTES), "two peers at least fetch side by side"


def test_waits_are_in_an_order_that_lets_the_inner_one_end_first() -> None:
    assert limits.ARRIVAL_TIMEOUT_S < limits.OFFER_TIMEOUT_S
    assert limits.MESSAGE_TIMEOUT_S < limits.FIRST_CALL_TIMEOUT_S
    assert limits.BODY_TIMEOUT_S < limits.VERDICT_TIMEOUT_S
    assert limits.STALL_TIMEOUT_S < limits.RANGE_TIMEOUT_S
    assert limits.PEERS_INTERVAL_S < limits.PEERS_REFRESH_S


def test_one_netgroup_cannot_take_all_places() -> None:
    assert 2 * limits.MAX_INBOUND_PER_NETGROUP <= limits.DEFAULT_INBOUND <= limits.MAX_INBOUND
    assert 2 * limits.MAX_OUTBOUND_PER_NETGROUP < limits.DEFAULT_OUTBOUND <= limits.MAX_OUTBOUND
