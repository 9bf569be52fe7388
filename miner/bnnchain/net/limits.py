"""The figures that bound what a peer can make this node hold or wait for; sizes in bytes, times in seconds."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 4 << 20
DEFAULT_INBOUND = 64
"""Connections that others may have to this node."""
MAX_INBOUND = 1_024
MAX_INBOUND_PER_NETGROUP = 16
DEFAULT_OUTBOUND = 8
"""Peers that a node chooses from its address book, beside those that it is told to dial."""
MAX_OUTBOUND = 64
MAX_OUTBOUND_PER_NETGROUP = 2
BACKLOG = 128
MAX_STREAMS_OF_CONNECTION = 16
"""Calls under way on one connection, those included that it does not read; a server takes so many of every guest."""
MAX_BODIES = 8
"""Blocks that are coming in at a time, each in memory; more wait before their bytes are read."""
MAX_WATCHES_OF_CONNECTION = 2
MAX_RANGE_STREAMS = 16
"""Ranges of blocks, headers or chunks served at once, each held in memory while it is sent."""
MAX_RANGES_OF_CONNECTION = 4
MAX_SESSIONS = 1_024

FIRST_CALL_TIMEOUT_S = 15.0
"""Who connects and asks nothing, or never ends asking, is cut after this long."""
MESSAGE_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 60.0
"""A block of 1 MiB at 17 KiB a second."""
BODY_GRACE_S = 1.0
"""Where all places for blocks are taken, who has had one for this long makes room: every guest gets its turn."""
BAN_GRACE_S = 1.0
"""A banned guest is cut after this long, so that it can still read why."""
PEERS_INTERVAL_S = 30.0
"""One connection is told addresses this often."""
ARRIVAL_TIMEOUT_S = 5.0
"""A block that one peer has promised is not asked of others for this long."""

CALL_TIMEOUT_S = 10.0
OFFER_TIMEOUT_S = 20.0
"""Longer than ``ARRIVAL_TIMEOUT_S``, for which an offer may have to wait."""
RANGE_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 10.0
"""A range that is not whole after this long goes on to another peer, as far as it is missing."""
SYNC_WINDOW_BYTES = 32 << 20
"""Blocks fetched ahead of their import, those on their way counted as large as they may be."""
SYNC_RANGE_BLOCKS = 64
SYNC_PEERS = 8
PEERS_REFRESH_S = 60.0
"""How often dialled peers are asked for addresses."""
VERDICT_TIMEOUT_S = 120.0
"""A large model on a small machine takes a while to count."""
WRITE_TIMEOUT_S = 30.0
"""A reader that takes nothing for this long is cut off."""
STOP_GRACE_S = 0.5

KEEPALIVE_TIME_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
MIN_PING_INTERVAL_MS = 5_000

CODE_METADATA = "bnn-code"
"""Trailing metadata that carries the reject code of a refused call."""

_SHARED_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
SERVER_OPTIONS = (
    *_SHARED_OPTIONS,
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MAX_STREAMS_OF_CONNECTION),
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
    ("grpc.max_connection_idle_ms", 10 * 60 * 1000),
)
CLIENT_OPTIONS = (
    *_SHARED_OPTIONS,
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # one client, one connection: the server counts connections
)
