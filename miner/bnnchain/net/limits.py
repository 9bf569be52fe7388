"""The figures that bound what a peer can make this node hold or wait for; sizes in bytes, times in seconds."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 4 << 20
MAX_CONCURRENT_RPCS = 256
MAX_STREAMS_OF_CONNECTION = 32
"""Calls under way on one connection, those included that it does not read."""
MAX_WATCHERS = 64
MAX_RANGE_STREAMS = 8
"""Ranges of blocks, headers or chunks served at once, each held in memory while it is sent."""
MAX_SESSIONS = 1_024

CALL_TIMEOUT_S = 10.0
RANGE_TIMEOUT_S = 60.0
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
