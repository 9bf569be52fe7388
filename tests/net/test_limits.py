"""gRPC takes any option name without a word: a misspelt one once left the server's default, which cut idle streams."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from bnnchain.net.limits import CLIENT_OPTIONS, SERVER_OPTIONS

LIBRARY = Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", sorted({name for name, _ in (*SERVER_OPTIONS, *CLIENT_OPTIONS)}))
def test_every_option_is_one_that_grpc_knows(name: str) -> None:
    assert name.encode() in LIBRARY


def test_a_misspelt_option_would_be_seen() -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in LIBRARY
