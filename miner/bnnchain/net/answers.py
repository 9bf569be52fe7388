"""How a call is read and how its answer or error leaves: with deadlines both ways, so that nobody's drip holds a call.

gRPC hands a call over as soon as its first bytes are there and waits for the message without end.  The interceptor
reads it under a deadline instead, whatever the method.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import grpc

from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.net import convert, limits
from bnnchain.net.bodies import Bodies
from bnnchain.net.tasks import within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

log = logging.getLogger(__name__)

BODY_METHOD = "/bnnchain.rpc.v1.Node/AnnounceBlock"

Reply = TypeVar("Reply")


class Refused(Unavailable):
    """This node does not talk to that peer at present."""


class RequestReader(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Reads every call's message within a deadline; blocks by :class:`Bodies`."""

    def __init__(self) -> None:
        self._bodies = Bodies()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the method's handler with the reading of the message in it."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        is_body = handler_call_details.method == BODY_METHOD

        async def answer(_requests: object, context: grpc.aio.ServicerContext) -> None:
            if is_body:
                read = partial(_read, context, limits.BODY_TIMEOUT_S)
                request = await guarded(context, self._bodies.read(context.peer(), read))
            else:
                request = await guarded(context, _read(context, limits.MESSAGE_TIMEOUT_S))
            if handler.unary_unary is not None:
                await context.write(await handler.unary_unary(request, context))
                return
            replies = handler.unary_stream(request, context)
            if inspect.isasyncgen(replies):
                async for reply in replies:
                    await context.write(reply)
            else:
                await replies

        return grpc.stream_stream_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


async def _read(context: grpc.aio.ServicerContext, timeout_s: float) -> Any:  # noqa: ANN401
    try:
        request = await within(timeout_s, context.read())
    except asyncio.TimeoutError:
        raise Unavailable("the message was sent too slowly") from None
    except grpc.aio.BaseError:
        raise
    except Exception as error:  # noqa: BLE001  (what protobuf raises differs between its versions)
        raise Invalid("bad-message", reason=f"not one that this method takes: {type(error).__name__}") from None
    if request is grpc.aio.EOF:
        raise Invalid("bad-message", reason="a call without a message")
    return request


async def guarded(context: grpc.aio.ServicerContext, work: Awaitable[Reply]) -> Reply:
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


async def write_all(context: grpc.aio.ServicerContext, messages: Iterable[object]) -> None:
    """Write messages, each within ``WRITE_TIMEOUT_S``; raises :class:`Unavailable` where nobody reads them."""
    try:
        for message in messages:
            await within(limits.WRITE_TIMEOUT_S, context.write(message))
    except asyncio.TimeoutError:
        raise Unavailable("the stream was read too slowly") from None
