"""The node's gRPC server: checks messages, asks the chain off the event loop, answers with verdicts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar

import grpc

from bnnchain import __version__
from bnnchain.consensus.codec import HEADER_BYTES, decode_header, decode_transaction
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import BlockId, DatasetId, PublicKey, TransactionId
from bnnchain.datasets.chunks import decode_chunk
from bnnchain.datasets.manifest import encode_manifest
from bnnchain.net import convert, limits
from bnnchain.net.address import parse_address
from bnnchain.net.answers import Refused, RequestReader, guarded, write_all
from bnnchain.net.callers import Callers, address_of, conduct_key
from bnnchain.net.door import Door
from bnnchain.net.health import Health
from bnnchain.net.messages import (
    NODE_ID_BYTES,
    NewHead,
    Outcome,
    Status,
    TransactionAccepted,
    Verdict,
    validate_same_chain,
)
from bnnchain.net.readiness import Readiness
from bnnchain.net.reads import MAX_RANGE_BLOCKS, MAX_RANGE_HEADERS
from bnnchain.net.tasks import Completions, within
from bnnchain.rpc.v1 import node_pb2 as pb
from bnnchain.rpc.v1 import node_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from typing import Any

    from bnnchain.datasets.chunks import Chunk
    from bnnchain.net.address import Address
    from bnnchain.net.arrivals import Arrivals
    from bnnchain.net.conduct import Conduct
    from bnnchain.net.intake import Intake
    from bnnchain.net.messages import Agreement, Event, Identity
    from bnnchain.net.security import Security

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
    meet: Callable[[Address, Address], None]
    """Is told of a guest's own address, and of the connection that it came by."""
    addresses: Callable[[Address], list[Address]]
    """Returns what to tell a guest of other nodes."""


class NodeServer:
    """Serves one node; ``start`` binds, ``stop`` ends within ``STOP_GRACE_S``."""

    def __init__(
        self,
        intake: Intake,
        identity: Identity,
        conduct: Conduct,
        arrivals: Arrivals,
        surroundings: Surroundings,
        *,
        security: Security | None = None,
        inbound: int = limits.DEFAULT_INBOUND,
    ) -> None:
        """inbound: connections at a time."""
        self._intake = intake
        self._identity = identity
        self._conduct = conduct
        self._arrivals = arrivals
        self._surroundings = surroundings
        self._security = security
        self._inbound = inbound
        self._door = Door(inbound, conduct.is_banned)
        self.readiness = Readiness(intake, surroundings.is_syncing)
        self._health = Health(self.readiness)
        self._callers = Callers()
        self._judging: set[str] = set()
        self._verdicts = Completions()
        self._range_streams = 0
        self._watching: list[bytes] = []
        """Node id of each watcher, all zero for observers."""
        self._server: grpc.aio.Server | None = None

    async def start(self, address: Address) -> int:
        """Listen; return the port.  Raises :class:`Fault` where the address cannot be bound."""
        server = grpc.aio.server(
            options=limits.SERVER_OPTIONS,
            interceptors=(RequestReader(),),
            maximum_concurrent_rpcs=self._inbound * limits.MAX_STREAMS_OF_CONNECTION,
        )
        node_pb2_grpc.add_NodeServicer_to_server(self._servicer(), server)
        server.add_generic_rpc_handlers((self._health.handler(),))
        inner = str(self._door.inner_address(address))
        try:
            if self._security is None:
                port = server.add_insecure_port(inner)
            else:
                port = server.add_secure_port(inner, self._security.server_credentials())
        except RuntimeError as error:
            await server.stop(None)
            raise Fault(f"gRPC cannot listen on {inner}: {error}") from error
        await server.start()
        try:
            port = await self._door.open(address, port)
        except Fault:
            await server.stop(None)
            raise
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
            await self._door.close()
        await self._verdicts.close(0)

    @property
    def guests(self) -> set[bytes]:
        """Node ids of the peers that dialled us and follow our chain."""
        return set(self._watching) - {bytes(NODE_ID_BYTES)}

    @property
    def connection_count(self) -> int:
        """Connections that others have to this node, observers' included."""
        return len(self._door)

    @property
    def evicted_count(self) -> int:
        """Guests that had to go for others since the process began."""
        return self._door.evicted_count

    def _servicer(self) -> SimpleNamespace:
        calls = {
            "Handshake": self._handshake,
            "Peers": self._peers,
            "OfferBlock": self._offer_block,
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

    def _call(self, method: Callable[[Message, str], Awaitable[Reply]]) -> Callable[..., Coroutine[Any, Any, Reply]]:
        async def answer(request: Message, context: grpc.aio.ServicerContext) -> Reply:
            return await guarded(context, self._answer(method, request, context))

        return answer

    async def _answer(
        self, method: Callable[[Message, str], Awaitable[Reply]], request: Message, context: grpc.aio.ServicerContext
    ) -> Reply:
        return await method(request, self._connection(context))

    def _range(
        self, method: Callable[[Message], Awaitable[Iterable[Reply]]]
    ) -> Callable[..., Coroutine[Any, Any, None]]:
        async def stream(request: Message, context: grpc.aio.ServicerContext) -> None:
            await guarded(context, self._send_range(method, request, context))

        return stream

    async def _send_range(
        self,
        method: Callable[[Message], Awaitable[Iterable[Reply]]],
        request: Message,
        context: grpc.aio.ServicerContext,
    ) -> None:
        caller = self._callers.of(self._connection(context))
        is_greedy = caller.range_count >= limits.MAX_RANGES_OF_CONNECTION
        if is_greedy or self._range_streams >= limits.MAX_RANGE_STREAMS:
            raise Unavailable("this node is busy")
        self._range_streams += 1
        caller.range_count += 1
        try:
            await within(limits.RANGE_TIMEOUT_S, write_all(context, await method(request)))
        except asyncio.TimeoutError:
            raise Unavailable("the range was read too slowly") from None
        finally:
            self._range_streams -= 1
            caller.range_count -= 1

    def _connection(self, context: grpc.aio.ServicerContext) -> str:
        """Return gRPC's name of the connection that a call came by; raises :class:`Refused` for none of the door's."""
        inner = context.peer()
        self._door.answered(inner)
        if (name := self._door.name(inner)) is None:
            raise Refused("not by the door")
        return name

    # Calls.

    async def _handshake(self, request: pb.Hello, connection: str) -> pb.Hello:
        theirs = convert.hello_from_pb(request)
        ours = self._identity.hello(self._intake.chain.spec, self._intake.head, self._intake.chain.now())
        validate_same_chain(ours, theirs)
        self._callers.of(connection).node_id = theirs.node_id
        if theirs.listen_address and theirs.node_id != self._identity.node_id:
            self._surroundings.meet(parse_address(theirs.listen_address), address_of(connection))
        return convert.hello_to_pb(ours)

    async def _peers(self, _request: pb.PeersRequest, connection: str) -> pb.PeersReply:
        caller, now_s = self._callers.of(connection), asyncio.get_running_loop().time()
        if now_s - caller.told_peers_s < limits.PEERS_INTERVAL_S:
            return pb.PeersReply()
        caller.told_peers_s = now_s
        return convert.addresses_to_pb(self._surroundings.addresses(address_of(connection)))

    async def _offer_block(self, request: pb.RawHeader, connection: str) -> pb.Verdict:
        """Say whether a block's body is wanted, once the peer that has promised it has had its time."""
        self._validate_welcome(connection)
        try:
            header = convert.header_from_bytes(request.raw)
        except Invalid as error:
            self._blame(connection, error)
            return convert.verdict_to_pb(Verdict(Outcome.INVALID, error.code, str(error)))
        identity = block_id(header)
        known, wanted = (
            convert.verdict_to_pb(Verdict(each, item_id=identity)) for each in (Outcome.KNOWN, Outcome.WANTED)
        )
        if await self._has(identity):
            return known
        await self._arrivals.wait(header.previous_hash)
        if not await self._has(header.previous_hash):
            message = f"unknown parent {header.previous_hash.hex()[:16]}"
            return convert.verdict_to_pb(await self._miss(request.raw, message, self._callers.of(connection).node_id))
        if not self._arrivals.promise(identity):
            await self._arrivals.wait(identity)
            if await self._has(identity):
                return known
        return wanted

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
            if identity := _id_of(raw):
                self._arrivals.finish(BlockId(identity))

    async def _judge(self, raw: bytes, connection: str) -> Verdict:
        try:
            imported = await self._intake.import_block(raw)
        except Invalid as error:
            self._blame(connection, error)
            return Verdict(Outcome.INVALID, error.code, str(error), _id_of(raw))
        except Unavailable as error:
            log.info("a block from %s has to wait: %s", connection, error)
            return await self._miss(raw, str(error), self._callers.of(connection).node_id)
        except Fault as error:
            log.error("a block from %s could not be judged: %s", connection, error)  # noqa: TRY400
            return Verdict(Outcome.FAULT, message="this node failed", item_id=_id_of(raw))
        if imported.is_new:
            self._door.praise(connection)
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
        if await self._has(header.previous_hash):
            return verdict
        return replace(verdict, locator=await self._intake.read(chain.locator))

    async def _has(self, identity: BlockId) -> bool:
        chain = self._intake.chain
        return identity == chain.spec.genesis_id or await self._intake.read(chain.store.has_block, identity)

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
            # Noted before its watchers are told.
            self._callers.of(connection).sent.add(transaction_id(decode_transaction(request.raw)))
            identity, is_new = await self._intake.add_transaction(request.raw)
        except Invalid as error:
            self._blame(connection, error)
            return convert.verdict_to_pb(Verdict(Outcome.INVALID, error.code, str(error)))
        if is_new:
            self._door.praise(connection)
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
        await guarded(context, self._watch(context))

    async def _watch(self, context: grpc.aio.ServicerContext) -> None:
        caller = self._callers.of(self._connection(context))
        if caller.watch_count >= limits.MAX_WATCHES_OF_CONNECTION:
            raise Unavailable("too many watches")
        caller.watch_count += 1
        self._watching.append(node_id := caller.node_id)
        try:
            async with self._intake.events.subscribe() as events:
                await write_all(context, [convert.event_to_pb(event) for event in await self._snapshot()])
                async for event in events:
                    # What came from this guest is not told back to it: it crosses the link once.
                    if not (isinstance(event, TransactionAccepted) and event.transaction_id in caller.sent):
                        await write_all(context, [convert.event_to_pb(event)])
        finally:
            caller.watch_count -= 1
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
        left_s = self._conduct.ban_left_s(conduct_key(connection))
        if left_s:
            raise Refused(f"banned for {left_s:.0f} s")

    def _blame(self, connection: str, error: Invalid) -> None:
        key = conduct_key(connection)
        is_banned = self._conduct.blame(key, error)
        if is_banned:  # it is told why first
            asyncio.get_running_loop().call_later(limits.BAN_GRACE_S, self._door.show_out, key)
        log.warning("%s sent %s%s", connection, error, "; banned" if is_banned else "")


def _id_of(raw: bytes) -> bytes:
    try:
        return block_id(decode_header(raw[:HEADER_BYTES]))
    except Invalid:
        return b""
