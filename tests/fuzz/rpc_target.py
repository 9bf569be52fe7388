"""The node's calls without sockets: sequences of requests from several peers to one node, state kept between them.

An input is a list of calls, each ``u8 peer, u8 length and name of the method, u16 length and bytes of the request``.
Whatever the peers do, no call may fail the node, no answer may be one that its own client refuses, nothing may be left
running, and a peer that has done no wrong is still served: its block is accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from builders import ALICE, GENESIS_TIME, Builder, Clock, make_spec, transfer
from fuzz.net_targets import MESSAGES
from fuzz.target import Target, mutate_bytes
from google.protobuf.message import DecodeError
from learnable import OWN, payload_tree, tiny_dataset, uploaded_dataset
from states import money
from uploads import order, upload

from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.store import Store
from bnnchain.consensus.codec import decode_block, decode_header, encode_block, encode_transaction
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import Amount, Bounty
from bnnchain.datasets.chunks import decode_chunk, encode_chunk
from bnnchain.datasets.manifest import decode_manifest
from bnnchain.datasets.payload import encode_payload
from bnnchain.net import limits
from bnnchain.net.intake import Intake
from bnnchain.net.network import Network
from bnnchain.rpc.v1 import node_pb2 as pb
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

PEERS = ("ipv4:127.0.0.1:1001", "ipv4:127.0.0.1:1002", "ipv4:203.0.113.5:99", "ipv6:%5B2001:db8::1%5D:7", "unix:")
HONEST = "ipv4:198.51.100.7:9555"
MAX_CALLS = 12
CALL_TIMEOUT_S = 5.0
SETTLE_S = 2.0
ARRIVAL_S = 0.01
BLOCKS = 4
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
}
"""How a call may be refused; INTERNAL, UNKNOWN and the like would be the node's own failure."""
SERVICE = pb.DESCRIPTOR.services_by_name["Node"]
METHODS = {method.name: (method.input_type.name, method.output_type.name) for method in SERVICE.methods}

Call = tuple[int, str, bytes]


def encode_calls(calls: Sequence[Call]) -> bytes:
    """Return the input of a list of calls."""
    return b"".join(
        bytes([peer, len(name)]) + name.encode() + len(body).to_bytes(2, "little") + body for peer, name, body in calls
    )


def decode_calls(data: bytes) -> list[Call]:
    """Return the calls of any bytes; what is cut off ends with the bytes."""
    calls, position = [], 0
    while position + 2 <= len(data) and len(calls) < MAX_CALLS:
        peer, length = data[position], data[position + 1]
        name = data[position + 2 : position + 2 + length].decode(errors="replace")
        position += 2 + length
        size = int.from_bytes(data[position : position + 2], "little")
        calls.append((peer, name, data[position + 2 : position + 2 + size]))
        position += 2 + size
    return calls


class Context:
    """A call's context as the server's code uses it."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self.written: list[Any] = []
        self.status: grpc.StatusCode | None = None

    def peer(self) -> str:
        return self._peer

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        assert details.isprintable(), details
        self.status = code
        raise grpc.aio.AbortError

    async def write(self, message: Any) -> None:
        self.written.append(message)
        await asyncio.sleep(0)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # invocation_metadata, auth_context, done callbacks: nothing is known of a peer.
        return lambda *_: {} if name == "auth_context" else ()


@dataclass(frozen=True)
class Scene:
    """A store with a few blocks, and what peers can send on top of it."""

    store: Path
    next_blocks: tuple[bytes, ...]
    blocks: tuple[bytes, ...]


@lru_cache
def scene() -> Scene:
    """Return the store that every input starts from."""
    is_memory = Path("/dev/shm").is_dir()  # noqa: S108  (a file system in memory, where there is one)
    directory = Path(tempfile.mkdtemp(prefix="bnnchain-fuzz-", dir="/dev/shm" if is_memory else None))  # noqa: S108
    path = directory / "template.db"
    chain = open_chain(path)
    builder = Builder(chain)
    made = builder.extend(BLOCKS)
    uploading = encode_block(builder.idle(transactions=[upload()]))
    chain.import_block(uploading)
    made.append(uploading)
    # The uploaded pool stays missing: chunks are offered for it.
    following = (encode_block(builder.next()), encode_block(builder.idle()), encode_block(builder.idle(nonce=5)))
    chain.store.close()
    return Scene(path, following, tuple(made))


def open_chain(path: Path) -> Chain:
    """Return the chain of a store, a new one's on the tiny data set."""
    chain = Chain(Store(path, make_spec()), ReferenceEvaluator, Clock(GENESIS_TIME + 10**6))
    if OWN in chain.missing_datasets():
        chain.add_dataset(OWN, encode_payload(tiny_dataset().pool))
    return chain


class Failures(logging.Handler):
    """Collects what the node logs as its own failure."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage() + (f": {record.exc_info[1]!r}" if record.exc_info else ""))


class DirectIntake:
    """Runs what the intake gives to its threads at once: the same input takes the same way every time.

    And nobody waits seconds for a block that a peer has promised and never sends.
    """

    def __enter__(self) -> None:
        self._kept = Intake.__dict__["_run"]
        run = self._kept.__func__

        async def direct(_executor: Any, function: Callable[..., Any], *arguments: object) -> Any:
            return await run(Now(), function, *arguments)

        Intake._run = staticmethod(direct)
        self._arrival_s = limits.ARRIVAL_TIMEOUT_S
        limits.ARRIVAL_TIMEOUT_S = ARRIVAL_S

    def __exit__(self, *_: object) -> None:
        Intake._run = self._kept
        limits.ARRIVAL_TIMEOUT_S = self._arrival_s


class Now:
    """An executor that has finished when it is asked."""

    def submit(self, function: Callable[..., Any], *arguments: object) -> Any:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001  (as an executor does)
            future.set_exception(error)
        return future


def run(data: bytes) -> None:
    """Make the calls on a fresh node; see the module's first lines for what must hold."""
    calls = decode_calls(data)
    path = scene().store.with_name("input.db")
    for rest in path.parent.glob("input.db*"):
        rest.unlink()
    shutil.copyfile(scene().store, path)
    failures = Failures()
    logger = logging.getLogger("bnnchain")
    logger.addHandler(failures)
    logger.propagate = False
    chain = open_chain(path)
    try:
        with DirectIntake():
            asyncio.run(_serve(chain, calls))
    finally:
        logger.removeHandler(failures)
        logger.propagate = True
        chain.store.close()
    assert not failures.records, failures.records
    assert money(chain.head) == chain.head.supply


async def _serve(chain: Chain, calls: Sequence[Call]) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    network = Network(chain, Mempool(chain))
    handlers = network._server._servicer()
    watching: list[tuple[asyncio.Task[None], Context]] = []
    for peer, name, body in calls:
        await _call(handlers, PEERS[peer % len(PEERS)], name, body, watching)
    await _still_serves(chain, handlers)
    for task, _ in watching:
        task.cancel()
    if watching:
        await asyncio.wait([task for task, _ in watching], timeout=SETTLE_S)
    for _, context in watching:
        for event in context.written:
            _check_reply("Event", event)
    assert not network._server.guests
    assert network._server._range_streams == 0
    await network.stop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left
    assert not complaints, complaints


async def _call(
    handlers: Any, peer: str, name: str, body: bytes, watching: list[tuple[asyncio.Task[None], Context]]
) -> Any:
    if name not in METHODS or not hasattr(handlers, name):
        return None
    request_type, reply_type = METHODS[name]
    try:
        request = getattr(pb, request_type).FromString(body)
    except DecodeError:
        return None
    context = Context(peer)
    work: Awaitable[Any] = getattr(handlers, name)(request, context)
    if name == "Watch":
        watching.append((asyncio.ensure_future(_quietly(work)), context))
        await asyncio.sleep(0)
        return None
    try:
        reply = await asyncio.wait_for(work, CALL_TIMEOUT_S)
    except grpc.aio.AbortError:
        assert context.status in REFUSED, f"{name} ended with {context.status}"
        return None
    for message in context.written if reply is None else [reply]:
        assert type(message).__name__ == reply_type
        assert message.ByteSize() <= 4 << 20
        _check_reply(reply_type, message)
    return reply


async def _quietly(work: Awaitable[Any]) -> None:
    with contextlib.suppress(grpc.aio.AbortError, asyncio.CancelledError):
        await work


def _check_reply(kind: str, message: Any) -> None:
    """Read an answer as a peer would; none of ours may be refused."""
    readers = {each.__name__: read for each, read, _ in MESSAGES}
    raw = {
        "RawBlock": decode_block,
        "RawHeader": decode_header,
        "RawManifest": decode_manifest,
        "RawChunk": decode_chunk,
    }
    if kind in raw:
        raw[kind](message.raw)
    elif kind in readers:
        readers[kind](type(message).FromString(message.SerializeToString()))
    if kind == "Verdict":
        assert message.outcome != pb.Verdict.FAULT


async def _still_serves(chain: Chain, handlers: Any) -> None:
    """A block on the head from a peer that has not been seen before is accepted."""
    block = encode_block(Builder(chain).idle(nonce=77))
    request = pb.RawBlock(raw=block)
    verdict = await handlers.AnnounceBlock(request, Context(HONEST))
    assert verdict.outcome == pb.Verdict.ACCEPTED, verdict
    status = await handlers.Status(pb.StatusRequest(), Context(HONEST))
    assert status.head.id == chain.head.head


@lru_cache
def valid_requests() -> dict[str, list[bytes]]:
    """Return good requests by method; of a method that is not named here, the empty one."""
    spec = make_spec()
    head = pb.Head(id=spec.genesis_id, height=5, weight=b"\1\0")
    hello = pb.Hello(protocol_version=1, chain_id=7, genesis_id=spec.genesis_id, head=head, node_id=b"n" * 16, role=2,
                     agent="x/1")  # fmt: skip
    blocks = [*scene().next_blocks, *scene().blocks]
    orders = [transfer(nonce=nonce, fee=1 + nonce) for nonce in (1, 2, 3)] + [transfer(nonce=1, fee=90)]
    orders += [order(Bounty(OWN, Amount(50)), nonce=4), upload(1, nonce=5)]
    raw_orders = [pb.RawTransaction(raw=encode_transaction(each)) for each in orders]
    manifest = uploaded_dataset().manifest
    tree = payload_tree(manifest.dataset_id)
    chunks = [pb.DatasetChunk(dataset_id=manifest.dataset_id, raw=encode_chunk(chunk)) for chunk in tree]
    ranges = [pb.Range(locator=[spec.genesis_id], count=3), pb.Range(start_height=2), pb.Range(start_height=1, count=9)]
    ids = [decode_header(raw[:439]) for raw in blocks]
    made: dict[str, list[Any]] = {
        "Handshake": [hello],
        "AnnounceBlock": [pb.RawBlock(raw=raw) for raw in blocks],
        "OfferBlock": [pb.RawHeader(raw=raw[:439]) for raw in blocks],
        "AnnounceTransaction": raw_orders,
        "SubmitTransaction": raw_orders,
        "Headers": ranges,
        "Blocks": ranges,
        "Block": [pb.BlockRequest(id=header.previous_hash) for header in ids],
        "Manifest": [pb.ManifestRequest(dataset_id=each) for each in (OWN, manifest.dataset_id)],
        "DatasetChunks": [pb.ChunkRange(dataset_id=OWN, start=0, count=2), pb.ChunkRange(dataset_id=OWN, start=9)],
        "OfferChunk": chunks,
        "TransactionStatus": [pb.TransactionStatusRequest(id=bytes(32))],
        "Account": [pb.AccountRequest(key=public_key(ALICE))],
    }
    return {name: [each.SerializeToString() for each in made.get(name, [])] or [b""] for name in METHODS}


def seeds() -> Sequence[bytes]:
    every = [(0, name, body) for name, bodies in valid_requests().items() for body in bodies]
    groups = [every[start : start + MAX_CALLS] for start in range(0, len(every), MAX_CALLS)]
    flood = [(2, "AnnounceBlock", b"\n\x03abc")] * MAX_CALLS
    watched = [(1, "Watch", b""), (0, "AnnounceBlock", valid_requests()["AnnounceBlock"][0]), (1, "Status", b"")]
    return [encode_calls(group) for group in (*groups, flood, watched)]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return the sequence with a call put in, taken out, doubled, moved, given to another peer, or changed inside."""
    calls = decode_calls(data)
    name = rng.choice(list(METHODS))
    what = rng.randrange(7)
    if what <= 1 or not calls:
        calls.insert(
            rng.randrange(len(calls) + 1), (rng.randrange(len(PEERS)), name, rng.choice(valid_requests()[name]))
        )
        return encode_calls(calls[-MAX_CALLS:])
    at = rng.randrange(len(calls))
    peer, name, body = calls[at]
    if what == 2:
        del calls[at]
    elif what == 3:
        calls.insert(at, (rng.randrange(len(PEERS)), name, body))
    elif what == 4:
        calls[at] = (rng.randrange(len(PEERS)), name, body)
    else:
        calls[at] = (peer, name, _mutate_request(name, body, rng))
    return encode_calls(calls[:MAX_CALLS])


def _mutate_request(name: str, body: bytes, rng: random.Random) -> bytes:
    """Return a request with one of its fields changed, or bytes that may be none."""
    if name not in METHODS or rng.random() < 0.3:
        return mutate_bytes(body, rng)
    try:
        request = getattr(pb, METHODS[name][0]).FromString(body)
    except DecodeError:
        return mutate_bytes(body, rng)
    fields = [field for field in request.DESCRIPTOR.fields if field.message_type is None]
    if not fields:
        return body
    field = rng.choice(fields)
    value = getattr(request, field.name)
    if isinstance(value, bytes):
        changed = mutate_bytes(value, rng) if rng.random() < 0.8 else b""
        setattr(request, field.name, changed)
    elif isinstance(value, int):
        setattr(request, field.name, rng.choice([0, 1, 2, 1 << 30, (1 << 31) - 1]))
    elif isinstance(value, str):
        setattr(request, field.name, rng.choice(["", "x" * 300, "\x1b[2J", "é", "127.0.0.1:1", "[::]:0"]))
    else:
        wrong = rng.choice([b"", bytes(32), bytes(31)])
        value.append(wrong if field.type == field.TYPE_BYTES else "127.0.0.1:70000")
        if rng.random() < 0.1:
            value.extend([value[0]] * 100)
    return bytes(request.SerializeToString())


TARGETS = [Target("rpc", run, seeds, mutate, max_size_bytes=16_384, share=8)]
