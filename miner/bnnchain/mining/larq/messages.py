"""What a founder and its training process say to each other: frames of plain bytes over a pipe.

The founder sends one request, then single bytes that let the training rest and go on.  The process sends a checkpoint
now and then, and ends.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import MAX_WIRE_BYTES, decode_model, encode_architecture, encode_model, read_architecture
from bnnchain.wire import Reader, Writer
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples

if TYPE_CHECKING:
    from typing import BinaryIO

    from bnnchain_kernels.model import Architecture, Model

MAX_REQUEST_BYTES = 1 << 34
"""A request carries the whole pool: 2**24 images of 1,000 bytes at most."""

REST = b"r"
GO_ON = b"g"

_LENGTH_BYTES = 8
_CHECKPOINT = struct.Struct("<QQd")
MAX_CHECKPOINT_BYTES = _CHECKPOINT.size + MAX_WIRE_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What to train, on what, and for how long."""

    architecture: Architecture
    samples: Samples
    seed: int
    """0..2**64-1."""
    max_epochs: int
    threads: int


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The exact integer model of a network in training."""

    step: int
    """Batches trained in all."""
    steps_per_epoch: int
    loss: float
    """Mean training loss since the last checkpoint."""
    model: Model


def encode_request(request: Request) -> bytes:
    """Return the request as bytes; its size depends on the pool alone."""
    samples = request.samples
    writer = Writer().u64(request.seed).u32(request.max_epochs).u16(request.threads)
    writer.raw(encode_architecture(request.architecture))
    writer.u32(len(samples)).raw(samples.images.tobytes()).raw(samples.labels.tobytes())
    return writer.bytes()


def decode_request(data: bytes) -> Request:
    """Return the request of its bytes; raises :class:`Invalid` where they are not one."""
    reader = Reader(data)
    seed, max_epochs, threads = reader.u64(), reader.u32(), reader.u16()
    shape = read_architecture(reader)
    count, row_bytes = reader.u32(), -(-shape.input_bits // 8)
    images = np.frombuffer(reader.raw(count * row_bytes), np.uint8).reshape(count, row_bytes)
    labels = np.frombuffer(reader.raw(count), np.uint8)
    reader.finish()
    samples = Samples(shape.height, shape.width, shape.planes, shape.classes, images, labels)
    return Request(shape, samples, seed, max_epochs, threads)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the checkpoint as bytes, the model in its wire form."""
    head = _CHECKPOINT.pack(checkpoint.step, checkpoint.steps_per_epoch, checkpoint.loss)
    return head + encode_model(checkpoint.model)


def decode_checkpoint(data: bytes) -> Checkpoint:
    """Return the checkpoint of its bytes; raises :class:`Invalid` where they are not one."""
    step, steps_per_epoch, loss = _CHECKPOINT.unpack(Reader(data).raw(_CHECKPOINT.size))
    return Checkpoint(step, steps_per_epoch, loss, decode_model(data[_CHECKPOINT.size :]))


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """Write the length and the bytes, and flush."""
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "little"))
    stream.write(data)
    stream.flush()


def read_frame(stream: BinaryIO, limit_bytes: int) -> bytes | None:
    """Return the next frame, or None at a clean end; raises ``bad-encoding`` where it is cut off or over its limit."""
    prefix = stream.read(_LENGTH_BYTES)
    if not prefix:
        return None
    size = int.from_bytes(prefix, "little")
    if len(prefix) < _LENGTH_BYTES or size > limit_bytes:
        raise Invalid("bad-encoding", reason="frame length", size=size, limit_bytes=limit_bytes)
    data = stream.read(size)
    if len(data) < size:
        raise Invalid("bad-encoding", reason="truncated frame", wanted=size, got=len(data))
    return data
