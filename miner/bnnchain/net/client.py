"""A typed client of a node: what peers, the command line and tests use.

Every call has a deadline.  Errors are of the three kinds: :class:`Invalid` with the code that the node gave, or where
its answer breaks a rule; :class:`Unavailable` where it cannot be reached, has not got the thing, or refuses to talk;
:class:`Fault` where it failed.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import grpc

from bnnchain.consensus.codec import HEADER_BYTES, decode_header
from bnnchain.consensus.errors import BnnchainError, Fault, Invalid, Unavailable
from bnnchain.consensus.params import MAX_BLOCK_BYTES
from bnnchain.consensus.types import Height, TransactionId
from bnnchain.datasets.chunks import Chunk, decode_chunk, encode_chunk
from bnnchain.datasets.manifest import decode_manifest
from bnnchain.net import convert, limits
from bnnchain.net.address import parse_address, validate_plain
from bnnchain.net.failures import explain
from bnnchain.net.messages import NODE_ID_BYTES, Head, Identity, Outcome, Role, validate_same_chain
from bnnchain.net.reads import MAX_RANGE_BLOCKS, MAX_RANGE_BYTES, MAX_RANGE_CHUNKS, MAX_RANGE_HEADERS
from bnnchain.rpc.v1 import node_pb2 as pb
from bnnchain.rpc.v1 import node_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
    from typing import Any

    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.consensus.types import BlockId, DatasetId, Header, PublicKey
    from bnnchain.datasets.manifest import Manifest
    from bnnchain.net.address import Address
    from bnnchain.net.messages import AccountStatus, Event, Hello, Status, TransactionStatus, Verdict
    from bnnchain.net.security import Security

OBSERVER = Identity(bytes(NODE_ID_BYTES), Role.OBSERVER)

_OUR_FAULT = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
_THEIR_FAULT = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


@final
class NodeClient:
    """One connection to a node, made on the first call; used from one event loop.

    In ``async with`` and with a ``spec``, it starts with an observer's handshake: a node of another chain is refused.
    """

    def __init__(
        self,
        address: str,
        spec: ChainSpec | None = None,
        *,
        security: Security | None = None,
        allow_plain: bool = False,
        timeout_s: float = limits.CALL_TIMEOUT_S,
    ) -> None:
        """Raises :class:`Invalid` ``bad-address`` or ``insecure-address``."""
        target = parse_address(address)
        if security is None:
            validate_plain(target, allow_plain=allow_plain)
        self.address = address
        self._spec = spec
        self._timeout_s = timeout_s
        self._is_secure = security is not None
        if security is None:
            self._channel = grpc.aio.insecure_channel(str(target), options=limits.CLIENT_OPTIONS)
        else:
            self._channel = security.channel(str(target), limits.CLIENT_OPTIONS)
        self._stub = node_pb2_grpc.NodeStub(self._channel)

    async def __aenter__(self) -> NodeClient:
        if self._spec is not None:
            genesis = Head(self._spec.genesis_id, Height(0), 0)
            try:
                await self.handshake(OBSERVER.hello(self._spec, genesis))
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way end."""
        await self._channel.close()

    async def handshake(self, ours: Hello) -> Hello:
        """Return the node's Hello; raises ``other-version``, ``other-chain`` or ``other-genesis``, whoever sees it."""
        theirs = convert.hello_from_pb(await self._call(self._stub.Handshake, convert.hello_to_pb(ours)))
        validate_same_chain(ours, theirs)
        return theirs

    async def peers(self) -> list[Address]:
        """Return addresses of other nodes that this one knows; none where it was asked a short while ago."""
        return convert.addresses_from_pb(await self._call(self._stub.Peers, pb.PeersRequest()))

    async def offer_block(self, header: bytes) -> Verdict:
        """Return what the node says of a block, given its header: WANTED asks for :meth:`announce_block`."""
        request = pb.RawHeader(raw=header)
        return convert.verdict_from_pb(await self._call(self._stub.OfferBlock, request, limits.OFFER_TIMEOUT_S))

    async def announce_block(self, raw: bytes) -> Verdict:
        """Return the node's verdict on a block."""
        reply = await self._call(self._stub.AnnounceBlock, pb.RawBlock(raw=raw), limits.VERDICT_TIMEOUT_S)
        return convert.verdict_from_pb(reply)

    async def announce_transaction(self, raw: bytes) -> Verdict:
        """Return the node's verdict on a transaction of a peer."""
        return convert.verdict_from_pb(await self._call(self._stub.AnnounceTransaction, pb.RawTransaction(raw=raw)))

    async def submit_transaction(self, raw: bytes) -> TransactionId:
        """Hand a wallet's transaction in; return its id, or raise what the node's verdict says."""
        reply = await self._call(self._stub.SubmitTransaction, pb.RawTransaction(raw=raw))
        return TransactionId(_accepted_id(convert.verdict_from_pb(reply)))

    async def headers(
        self,
        locator: Iterable[BlockId] = (),
        *,
        start_height: int = 0,
        count: int = MAX_RANGE_HEADERS,
        timeout_s: float = limits.RANGE_TIMEOUT_S,
    ) -> list[Header]:
        """Return up to ``count`` headers above the fork with ``locator``, or from ``start_height``."""
        request = pb.Range(locator=list(locator), start_height=start_height, count=count)
        replies = await self._collect(self._stub.Headers, request, count, count * HEADER_BYTES, timeout_s)
        return [decode_header(reply.raw) for reply in replies]

    async def blocks(
        self,
        locator: Iterable[BlockId] = (),
        *,
        start_height: int = 0,
        count: int = MAX_RANGE_BLOCKS,
        timeout_s: float = limits.RANGE_TIMEOUT_S,
    ) -> list[bytes]:
        """Return up to ``count`` blocks of such a range, as bytes not yet judged; the node may send fewer."""
        request = pb.Range(locator=list(locator), start_height=start_height, count=count)
        replies = await self._collect(self._stub.Blocks, request, count, MAX_RANGE_BYTES + MAX_BLOCK_BYTES, timeout_s)
        return [bytes(reply.raw) for reply in replies]

    async def block(self, block_id: BlockId) -> bytes:
        """Return a block's bytes, not yet judged; :class:`Unavailable` where the node has not got it."""
        reply = await self._call(self._stub.Block, pb.BlockRequest(id=block_id))
        return bytes(reply.raw)

    async def manifest(self, dataset_id: DatasetId) -> Manifest:
        """Return a data set's manifest; :class:`Unavailable` where the node's chain has no such data set."""
        reply = await self._call(self._stub.Manifest, pb.ManifestRequest(dataset_id=dataset_id))
        manifest = decode_manifest(reply.raw)
        if manifest.dataset_id != dataset_id:
            raise Invalid("bad-manifest", reason="another data set's", node=self.address)
        return manifest

    async def dataset_chunks(self, dataset_id: DatasetId, start: int, count: int) -> list[Chunk]:
        """Return chunks of a data set's pool from number ``start`` on, not yet checked against its root."""
        count = min(count, MAX_RANGE_CHUNKS)
        request = pb.ChunkRange(dataset_id=dataset_id, start=start, count=count)
        replies = await self._collect(self._stub.DatasetChunks, request, count, count * limits.MAX_MESSAGE_BYTES)
        return [decode_chunk(reply.raw) for reply in replies]

    async def offer_chunk(self, dataset_id: DatasetId, chunk: Chunk) -> Verdict:
        """Return the node's verdict on a chunk of a data set that it misses."""
        request = pb.DatasetChunk(dataset_id=dataset_id, raw=encode_chunk(chunk))
        return convert.verdict_from_pb(await self._call(self._stub.OfferChunk, request))

    async def status(self) -> Status:
        """Return how the node is."""
        return convert.status_from_pb(await self._call(self._stub.Status, pb.StatusRequest()))

    async def transaction_status(self, identity: TransactionId) -> TransactionStatus:
        """Return where a transaction is."""
        request = pb.TransactionStatusRequest(id=identity)
        return convert.transaction_status_from_pb(await self._call(self._stub.TransactionStatus, request))

    async def account(self, key: PublicKey) -> AccountStatus:
        """Return an account as of the node's head."""
        return convert.account_from_pb(key, await self._call(self._stub.Account, pb.AccountRequest(key=key)))

    async def watch(self) -> AsyncGenerator[Event, None]:
        """Yield the present head (``is_snapshot``) and the waiting transactions, then everything new.

        No deadline: keepalive finds out where the node is gone.  Close it (``contextlib.aclosing``) when done.
        """
        with self._translating():
            call = self._stub.Watch(pb.WatchRequest())
            try:
                while (reply := await call.read()) is not grpc.aio.EOF:
                    yield convert.event_from_pb(reply)
            finally:
                call.cancel()

    async def _call(self, method: Callable[..., Any], request: object, timeout_s: float | None = None) -> Any:  # noqa: ANN401
        with self._translating():
            return await method(request, timeout=timeout_s or self._timeout_s)

    async def _collect(
        self,
        method: Callable[..., Any],
        request: object,
        count: int,
        size_bytes: int,
        timeout_s: float = limits.RANGE_TIMEOUT_S,
    ) -> list[Any]:
        replies: list[Any] = []
        with self._translating():
            call = method(request, timeout=timeout_s)
            try:
                while (reply := await call.read()) is not grpc.aio.EOF:
                    replies.append(reply)
                    size_bytes -= len(reply.raw)
                    if len(replies) > count or size_bytes < 0:
                        raise Invalid("bad-range", reason="more than was asked for", count=len(replies), wanted=count)
            except grpc.aio.AioRpcError as error:
                # What came before the stream broke is as good as a shorter answer, and is not asked for again.
                if not replies or error.code() in _OUR_FAULT:
                    raise
            finally:
                call.cancel()
        return replies

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        except (grpc.aio.UsageError, asyncio.InvalidStateError):
            raise Unavailable(f"the connection to {self.address} is closed") from None

    def _error(self, error: grpc.aio.AioRpcError) -> BnnchainError:
        status, details = error.code(), convert.printable(error.details() or "")
        if status in _OUR_FAULT:
            # Iterated, because not every version of grpcio's Metadata makes a dict.
            codes = [value for key, value in error.trailing_metadata() or () if key == limits.CODE_METADATA]
            return Invalid(str(codes[0]) if codes else "bad-message", node=self.address, reason=details)
        if status in _THEIR_FAULT:
            return Fault(f"{self.address} failed: {details}")
        if status == grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"{self.address} did not answer in time")
        if status == grpc.StatusCode.UNIMPLEMENTED:
            return Unavailable(f"{self.address} is not a bnnchain node of this version")
        why = explain(error.details() or "", is_secure=self._is_secure)
        return Unavailable(f"{self.address}: {convert.printable(why)}")


def _accepted_id(verdict: Verdict) -> bytes:
    if verdict.outcome == Outcome.INVALID:
        raise Invalid(verdict.code, reason=verdict.message)
    if verdict.outcome == Outcome.UNAVAILABLE:
        raise Unavailable(verdict.message)
    if verdict.outcome == Outcome.FAULT:
        raise Fault(verdict.message)
    return verdict.item_id
