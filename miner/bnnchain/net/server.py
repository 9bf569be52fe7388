"""The node's gRPC server: checks messages, asks the chain off the event loop, answers with verdicts."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar

import grpc

from bnnchain import __version__
from bnnchain.consensus.codec import HEADER_BYTES, decode_header
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.types import DatasetId, PublicKey, TransactionId
from bnnchain.datasets.chunks import decode_chunk
from bnnchain.datasets.manifest import encode_manifest
from bnnchain.net import convert, limits
from bnnchain.net.health import Health
from bnnchain.net.messages import NODE_ID_BYTES, NewHead, Outcome, Status, Verdict, validate_same_chain
from bnnchain.net.readiness import Readiness
from bnnchain.net.reads import MAX_RANGE_BLOCKS, MAX_RANGE_HEADERS
from bnnchain.net.tasks import Completions, within
from bnnchain.rpc.v1 import node_pb2 as pb
from bnnchain.rpc.v1 import node_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from typing import Any

    from bnnchain.consensus.types import BlockId
    from bnnchain.datasets.chunks import Chunk
    from bnnchain.net.address import Address
    from bnnchain.net.conduct import Conduct
    from bnnchain.net.intake import Intake
    from bnnchain.net.messages import Agreement, Event, Identity

log = logging.getLogger(__name__)

Message = TypeVar("Message")
Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the server asks of the rest of the node."""

    peer_count: Callable[[], int]
    is_syncing: Callable[[], bool]
    agreement: Callable[[], Agreement]
    catch_up_from: Callable[[bytes], bool]
    """Starts to fetch what is missing from the peer with that node id; False where it was not dialled by us."""
    take_chunk: Callable[[DatasetId, Chunk], Awaitable[bool]]
    """Keeps a chunk of a missing data set; answers whether it was a new one."""


class NodeServer:
    """Serves one node; ``start`` binds, ``stop`` ends within ``STOP_GRACE_S``."""

    def __init__(self, intake: Intake, identity: Identity, conduct: Conduct, surroundings: Surroundings) -> None:
        self._intake = intake
        self._identity = identity
        self._conduct = conduct
        self._surroundings = surroundings
        self.readiness = Readiness(intake, surroundings.is_syncing)
        self._health = Health(self.readiness)
        self._sessions: OrderedDict[str, bytes] = OrderedDict()
        """Connection to node id, as its Handshake said: a hint for whom to ask, never trusted."""
        self._judging: set[str] = set()
        self._verdicts = Completions()
        self._range_streams = 0
        self._watching: list[bytes] = []
        """Node id of each watcher, all zero for observers."""
        self._server: grpc.aio.Server | None = None

    async def start(self, address: Address) -> int:
        """Listen; return the port.  Raises :class:`Fault` where the address cannot be bound."""
        server = grpc.aio.server(options=limits.SERVER_OPTIONS, maximum_concurrent_rpcs=limits.MAX_CONCURRENT_RPCS)
        node_pb2_grpc.add_NodeServicer_to_server(self._servicer(), server)
        server.add_generic_rpc_handlers((self._health.handler(),))
        try:
            port = server.add_insecure_port(str(address))
        except RuntimeError:
            port = 0
        if not port:
            await server.stop(None)
            raise Fault(f"cannot listen on {address}: is another node running there?")
        await server.start()
        self._server = server
        self.readiness.start()
        return int(port)

    async def stop(self) -> None:
        """Say NOT_SERVING, let calls under way end for ``STOP_GRACE_S``, then cut them."""
        self.readiness.stop()
        self._health.stop()
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(limits.STOP_GRACE_S)
        await self._verdicts.close(0)

    @property
    def guests(self) -> set[bytes]:
        """Node ids of the peers that dialled us and follow our chain."""
        return set(self._watching) - {bytes(NODE_ID_BYTES)}

    def _servicer(self) -> SimpleNamespace:
        calls = {
            "Handshake": self._handshake,
            "AnnounceBlock": self._announce_block,
            "AnnounceTransaction": self._announce_transaction,
            "SubmitTransaction": self._announce_transaction,
            "Block": self._block,
            "Manifest": self._manifest,
            "OfferChunk": self._offer_chunk,
            "Status": self._status,
            "TransactionStatus": self._transaction_status,
            "Account": self._account,
        }
        ranges = {"Headers": self._headers, "Blocks": self._blocks, "DatasetChunks": self._dataset_chunks}
        handlers: dict[str, Callable[..., Any]] = {name: self._call(method) for name, method in calls.items()}
        handlers |= {name: self._range(method) for name, method in ranges.items()}
        return SimpleNamespace(**handlers, Watch=self._watch_call)

    # How an answer or an error leaves.

    def _call(self, method: Callable[[Message, str], Awaitable[Reply]]) -> Callable[..., Coroutine[Any, Any, Reply]]:
        async def answer(request: Message, context: grpc.aio.ServicerContext) -> Reply:
            return await _guarded(context, method(request, context.peer()))

        return answer

    def _range(
        self, method: Callable[[Message], Awaitable[Iterable[Reply]]]
    ) -> Callable[..., Coroutine[Any, Any, None]]:
        async def stream(request: Message, context: grpc.aio.ServicerContext) -> None:
            await _guarded(context, self._send_range(method, request, context))

        return stream

    async def _send_range(
        self,
        method: Callable[[Message], Awaitable[Iterable[Reply]]],
        request: Message,
        context: grpc.aio.ServicerContext,
    ) -> None:
        if self._range_streams >= limits.MAX_RANGE_STREAMS:
            raise Unavailable("this node is busy")
        self._range_streams += 1
        try:
            await within(limits.RANGE_TIMEOUT_S, _write_all(context, await method(request)))
        except asyncio.TimeoutError:
            raise Unavailable("the range was read too slowly") from None
        finally:
            self._range_streams -= 1

    # Calls.

    async def _handshake(self, request: pb.Hello, connection: str) -> pb.Hello:
        theirs = convert.hello_from_pb(request)
        ours = self._identity.hello(self._intake.chain.spec, self._intake.head)
        validate_same_chain(ours, theirs)
        self._sessions[connection] = theirs.node_id
        while len(self._sessions) > limits.MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return convert.hello_to_pb(ours)

    async def _announce_block(self, request: pb.RawBlock, connection: str) -> pb.Verdict:
        self._validate_welcome(connection)
        if connection in self._judging:
            raise Unavailable("one unproven block at a time")
        return convert.verdict_to_pb(await self._verdicts.complete(self._judge_alone(request.raw, connection)))

    async def _judge_alone(self, raw: bytes, connection: str) -> Verdict:
        # Goes on to its end though the call is cancelled: cancelling must not make room for the next block.
        self._judging.add(connection)
        try:
            return await self._judge(raw, connection)
        finally:
            self._judging.discard(connection)

    async def _judge(self, raw: bytes, connection: str) -> Verdict:
        try:
            imported = await self._intake.import_block(raw)
        except Invalid as error:
            self._blame(connection, error)
            return Verdict(Outcome.INVALID, error.code, str(error), _id_of(raw))
        except Unavailable as error:
            log.info("a block from %s has to wait: %s", connection, error)
            return await self._miss(raw, str(error), self._sessions.get(connection, b""))
        except Fault as error:
            log.error("a block from %s could not be judged: %s", connection, error)  # noqa: TRY400
            return Verdict(Outcome.FAULT, message="this node failed", item_id=_id_of(raw))
        return Verdict(Outcome.ACCEPTED if imported.is_new else Outcome.KNOWN, item_id=imported.block_id)

    async def _miss(self, raw: bytes, message: str, node_id: bytes) -> Verdict:
        """Start to fetch what a block needs, or tell its sender what to send."""
        verdict = Verdict(Outcome.UNAVAILABLE, message=message, item_id=_id_of(raw))
        if self._surroundings.catch_up_from(node_id):
            return verdict
        chain, header = self._intake.chain, decode_header(raw[:HEADER_BYTES])
        # Others may be missing too; these two are what the block's ticket and model are counted on.
        needed = {header.dataset_id, chain.spec.dataset.dataset_id}
        missing = [each for each in await self._intake.read(chain.missing_datasets) if each in needed]
        if missing:
            return replace(verdict, missing_dataset_id=missing[0])
        previous = header.previous_hash
        if previous == chain.spec.genesis_id or await self._intake.read(chain.store.has_block, previous):
            return verdict
        return replace(verdict, locator=await self._intake.read(chain.locator))

    async def _offer_chunk(self, request: pb.DatasetChunk, connection: str) -> pb.Verdict:
        self._validate_welcome(connection)
        dataset_id = DatasetId(convert.read_id("dataset_id", request.dataset_id))
        try:
            is_new = await self._surroundings.take_chunk(dataset_id, decode_chunk(request.raw))
        except Invalid as error:
            self._blame(connection, error)
            return convert.verdict_to_pb(Verdict(Outcome.INVALID, error.code, str(error)))
        return convert.verdict_to_pb(Verdict(Outcome.ACCEPTED if is_new else Outcome.KNOWN))

    async def _announce_transaction(self, request: pb.RawTransaction, connection: str) -> pb.Verdict:
        self._validate_welcome(connection)
        try:
            identity, is_new = await self._intake.add_transaction(request.raw)
        except Invalid as error:
            self._blame(connection, error)
            return convert.verdict_to_pb(Verdict(Outcome.INVALID, error.code, str(error)))
        outcome = Outcome.ACCEPTED if is_new else Outcome.KNOWN
        return convert.verdict_to_pb(Verdict(outcome, item_id=identity))

    async def _block(self, request: pb.BlockRequest, _connection: str) -> pb.RawBlock:
        identity = convert.read_id("id", request.id)
        raw = await self._intake.read(self._intake.chain.store.block, identity)
        if raw is None:
            raise Unavailable(f"no block {identity.hex()[:16]} here")
        return pb.RawBlock(raw=raw)

    async def _manifest(self, request: pb.ManifestRequest, _connection: str) -> pb.RawManifest:
        dataset_id = DatasetId(convert.read_id("dataset_id", request.dataset_id))
        entry = self._intake.chain.head.datasets.get(dataset_id)
        if entry is None:
            raise Unavailable(f"no data set {dataset_id.hex()[:16]} on this chain")
        return pb.RawManifest(raw=encode_manifest(entry.manifest))

    async def status(self) -> Status:
        """Return how this node is."""
        chain = self._intake.chain
        return Status(
            version=__version__,
            chain_name=chain.spec.name,
            chain_id=chain.spec.chain_id,
            genesis_id=chain.spec.genesis_id,
            node_id=self._identity.node_id,
            role=self._identity.role,
            backend=await self._intake.read(self._intake.reads.backend),
            head=self._intake.head,
            head_timestamp_s=chain.head.timestamp,
            peer_count=self._surroundings.peer_count(),
            mempool_count=len(self._intake.mempool),
            block_count=await self._intake.read(chain.store.block_count),
            is_syncing=self._surroundings.is_syncing(),
            missing_dataset_ids=await self._intake.read(chain.missing_datasets),
            family_count=len(chain.head.families),
            agreement=self._surroundings.agreement(),
            deep_reorg=next(iter(reversed(await self._intake.read(chain.store.alarms))), None),
        )

    async def _status(self, _request: pb.StatusRequest, _connection: str) -> pb.StatusReply:
        return convert.status_to_pb(await self.status())

    async def _transaction_status(
        self, request: pb.TransactionStatusRequest, _connection: str
    ) -> pb.TransactionStatusReply:
        identity = TransactionId(convert.read_id("id", request.id))
        return convert.transaction_status_to_pb(await self._intake.read(self._intake.reads.transaction, identity))

    async def _account(self, request: pb.AccountRequest, _connection: str) -> pb.AccountReply:
        key = PublicKey(convert.read_id("key", request.key))
        return convert.account_to_pb(await self._intake.read(self._intake.reads.account, key))

    # Streams.

    async def _headers(self, request: pb.Range) -> list[pb.RawHeader]:
        headers = await self._read_range(self._intake.reads.headers, request, MAX_RANGE_HEADERS)
        return [pb.RawHeader(raw=raw) for raw in headers]

    async def _blocks(self, request: pb.Range) -> list[pb.RawBlock]:
        blocks = await self._read_range(self._intake.reads.blocks, request, MAX_RANGE_BLOCKS)
        return [pb.RawBlock(raw=raw) for raw in blocks]

    async def _read_range(
        self, read: Callable[[Sequence[BlockId], int, int], list[bytes]], request: pb.Range, limit: int
    ) -> list[bytes]:
        locator = convert.locator_from_pb(request.locator)
        start = convert.read_height("start_height", request.start_height)
        return await self._intake.read(read, locator, start, request.count or limit)

    async def _dataset_chunks(self, request: pb.ChunkRange) -> list[pb.RawChunk]:
        dataset_id = DatasetId(convert.read_id("dataset_id", request.dataset_id))
        chunks = await self._intake.read(self._intake.reads.chunks, dataset_id, request.start, request.count)
        return [pb.RawChunk(raw=raw) for raw in chunks]

    async def _watch_call(self, _request: pb.WatchRequest, context: grpc.aio.ServicerContext) -> None:
        await _guarded(context, self._watch(context))

    async def _watch(self, context: grpc.aio.ServicerContext) -> None:
        if len(self._watching) >= limits.MAX_WATCHERS:
            raise Unavailable("too many watchers")
        node_id = self._sessions.get(context.peer(), bytes(NODE_ID_BYTES))
        self._watching.append(node_id)
        try:
            async with self._intake.events.subscribe() as events:
                await _write_all(context, [convert.event_to_pb(event) for event in await self._snapshot()])
                async for event in events:
                    await _write_all(context, [convert.event_to_pb(event)])
        finally:
            self._watching.remove(node_id)

    async def _snapshot(self) -> list[Event]:
        chain = self._intake.chain
        state = chain.head
        raw = await self._intake.read(chain.store.block, state.head)
        header = decode_header(raw[:HEADER_BYTES]) if raw else chain.spec.genesis_header
        size_bytes = len(raw) if raw else HEADER_BYTES
        new_head = NewHead(state.head, header, state.weight, 0, 0, size_bytes, is_snapshot=True)
        return [new_head, *await self._intake.read(self._intake.reads.waiting_transactions)]

    # Conduct.

    def _validate_welcome(self, connection: str) -> None:
        left_s = self._conduct.ban_left_s(_ban_key(connection))
        if left_s:
            raise Refused(f"banned for {left_s:.0f} s")

    def _blame(self, connection: str, error: Invalid) -> None:
        is_banned = self._conduct.blame(_ban_key(connection), error)
        log.warning("%s sent %s%s", connection, error, "; banned" if is_banned else "")


class Refused(Unavailable):
    """This node does not talk to that peer at present."""


async def _guarded(context: grpc.aio.ServicerContext, work: Awaitable[Reply]) -> Reply:
    """Return the work's result, or end the call with the status that the error's kind maps to."""
    trailer: tuple[tuple[str, str], ...] = ()
    try:
        return await work
    except Invalid as error:
        is_handshake = error.code.startswith("other-")
        status = grpc.StatusCode.FAILED_PRECONDITION if is_handshake else grpc.StatusCode.INVALID_ARGUMENT
        trailer, details = ((limits.CODE_METADATA, error.code),), str(error)
    except Unavailable as error:
        is_refused = isinstance(error, Refused)
        status = grpc.StatusCode.PERMISSION_DENIED if is_refused else grpc.StatusCode.UNAVAILABLE
        details = str(error)
    except grpc.aio.BaseError:
        raise  # the caller has gone away; gRPC knows
    except Exception as error:
        log.exception("a call failed", exc_info=None if isinstance(error, Fault) else error)
        status, details = grpc.StatusCode.INTERNAL, "this node failed"
    try:
        await context.abort(status, convert.printable(details), trailer)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        # An older gRPC cannot send a status while a write hangs: let go of the call.
        raise asyncio.CancelledError from None
    raise AssertionError  # abort always raises


async def _write_all(context: grpc.aio.ServicerContext, messages: Iterable[object]) -> None:
    try:
        for message in messages:
            await within(limits.WRITE_TIMEOUT_S, context.write(message))
    except asyncio.TimeoutError:
        raise Unavailable("the stream was read too slowly") from None


def _id_of(raw: bytes) -> bytes:
    try:
        return block_id(decode_header(raw[:HEADER_BYTES]))
    except Invalid:
        return b""


def _ban_key(connection: str) -> str:
    """Return whom to ban: the host; on loopback, which all local nodes share, the connection alone."""
    kind, _, rest = connection.partition(":")
    host = rest.rpartition(":")[0]
    is_local = kind not in {"ipv4", "ipv6"} or host.startswith("127.") or host in {"[::1]", "%5B::1%5D"}
    return connection if is_local else host
