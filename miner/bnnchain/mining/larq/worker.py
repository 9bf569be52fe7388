"""The training process: reads a request from stdin, trains with Larq, writes checkpoints to stdout, ends.

Run as ``python -m bnnchain.mining.larq.worker`` by :mod:`bnnchain.mining.larq.process`.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.mining.larq.messages import (
    GO_ON,
    MAX_REQUEST_BYTES,
    Checkpoint,
    Request,
    decode_request,
    encode_checkpoint,
    read_frame,
    write_frame,
)
from bnnchain.mining.larq.network import build_network, export_network
from bnnchain.mining.straight_through import BATCH_IMAGES, CHECKS_PER_EPOCH, MIN_BATCHES_PER_EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from bnnchain.mining.larq.network import Network
    from bnnchain_kernels.model import UInt8Array

# TensorFlow carries no types.
Tensor = Any

LEARNING_RATE = 1e-2
"""At the first step; it falls along half a cosine to zero at the last."""
SETTLING_BATCHES = 24
"""Seen with still weights before a model is exported: the moving statistics lag behind weights that flip, and a network
of few neurons then loses a tenth of its accuracy."""
SEED_LIMIT = 1 << 32
"""TensorFlow's seeds have 32 bits."""


def main() -> None:
    """Train what stdin asks for, and end this process; any failure is a traceback on stderr and a non-zero exit."""
    code = 0
    try:
        _run()
    except Exception:  # noqa: BLE001  (whatever it is, the founder reads it from stderr)
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    # The interpreter's own end would wait for the thread that reads stdin, and for TensorFlow's.
    os._exit(code)


def _run() -> None:
    # Frames have the pipe for themselves: whatever else prints to stdout goes to stderr.
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    data = read_frame(sys.stdin.buffer, MAX_REQUEST_BYTES)
    if data is None:
        return
    may_train = threading.Event()
    may_train.set()
    threading.Thread(target=_obey, args=(sys.stdin.buffer, may_train), daemon=True).start()
    request = decode_request(data)
    _limit_threads(request.threads)
    for checkpoint in train(request, may_train):
        write_frame(stdout, encode_checkpoint(checkpoint))
    stdout.close()


def _limit_threads(count: int) -> None:
    # Of the process, and before TensorFlow's first operation: it takes no other number later.
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def train(request: Request, may_train: threading.Event) -> Iterator[Checkpoint]:
    """Yield the exact integer model several times an epoch; the same request gives the same models on one machine.

    may_train: waited for before each step.
    """
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(request.seed % SEED_LIMIT)
    tf.config.experimental.enable_op_determinism()
    size = len(request.samples)
    batch = max(1, min(BATCH_IMAGES, size // MIN_BATCHES_PER_EPOCH))
    steps_per_epoch = size // batch
    step_count = steps_per_epoch * request.max_epochs
    check_steps = {steps_per_epoch * check // CHECKS_PER_EPOCH for check in range(1, CHECKS_PER_EPOCH + 1)}

    network = build_network(request.architecture)
    train_step, normalise = _compile(network, step_count)
    images, labels = request.samples.unpack(0, size), request.samples.labels
    rng, losses = np.random.default_rng(request.seed), []
    for step in range(step_count):
        may_train.wait()
        in_epoch = step % steps_per_epoch
        if in_epoch == 0:
            order = rng.permutation(size)
        chosen = order[in_epoch * batch : (in_epoch + 1) * batch]
        losses.append(float(train_step(images[chosen], labels[chosen])))
        if in_epoch + 1 in check_steps:
            for start in range(0, min(size, SETTLING_BATCHES * batch), batch):
                normalise(images[order[start : start + batch]])
            model = export_network(network, request.architecture)
            yield Checkpoint(step + 1, steps_per_epoch, sum(losses) / len(losses), model)
            losses.clear()


def _compile(
    network: Network, step_count: int
) -> tuple[Callable[[UInt8Array, UInt8Array], Tensor], Callable[[UInt8Array], None]]:
    """Return what takes one step on 0/1 images and labels and returns the loss, and what updates statistics alone.

    Each is one graph, which takes half the time of ``train_on_batch`` on a small network.
    """
    import tensorflow as tf
    import tf_keras

    rate = tf_keras.optimizers.schedules.CosineDecay(LEARNING_RATE, step_count)
    optimiser = tf_keras.optimizers.Adam(rate)
    loss_of = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def to_signs(bits: Tensor) -> Tensor:
        return tf.cast(bits, tf.float32) * 2 - 1

    def normalise(bits: Tensor) -> None:
        network(to_signs(bits), training=True)

    def step(bits: Tensor, labels: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, network(to_signs(bits), training=True))
        optimiser.minimize(loss, network.trainable_variables, tape=tape)
        return loss

    return tf.function(step), tf.function(normalise, reduce_retracing=True)


def _obey(stdin: BinaryIO, may_train: threading.Event) -> None:
    while word := stdin.read(1):
        if word == GO_ON:
            may_train.set()
        else:
            may_train.clear()
    os._exit(1)  # the founder's process has gone


if __name__ == "__main__":
    main()
