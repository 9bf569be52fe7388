"""Blocks that break one rule each: one function per way to break it, registered with the code it must earn.

``tests/chain/test_refusals.py`` imports each into a chain; ``tests/vectors/`` keeps the bytes of some.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from builders import Builder

from bnnchain.bnn.bits import BitWriter
from bnnchain.bnn.encoding import apply_flips, model_hash, shape_hash

if TYPE_CHECKING:
    from bnnchain.consensus.types import Block
    from bnnchain_kernels.model import Model

FOUNDED = 2
"""Blocks after which the first family is complete and evolves."""


@dataclass(frozen=True)
class Refusal:
    code: str
    make: Callable[[Builder], bytes]
    blocks: int
    params: dict[str, int]
    target: int

    def __str__(self) -> str:
        return f"{self.code}-{self.make.__name__}"


_REFUSALS: list[Refusal] = []
Maker = Callable[[Builder], bytes]


def all_refusals() -> list[Refusal]:
    """Return every refusal of the modules beside this one, in order."""
    for name in ("bad_bytes", "bad_headers", "bad_models", "bad_transactions", "bad_datasets", "bad_evidence"):
        import_module(f"refusals.{name}")
    return _REFUSALS


def refused(code: str, *, blocks: int = 0, target: int = (1 << 256) - 1, **params: int) -> Callable[[Maker], Maker]:
    """Register a maker of a bad block on a chain of ``blocks`` good ones; it is refused with ``code``."""

    def register(make: Maker) -> Maker:
        _REFUSALS.append(Refusal(code, make, blocks, params, target))
        return make

    return register


def founding(builder: Builder) -> Block:
    return builder.found(builder.place())


def evolved(builder: Builder) -> Block:
    return builder.evolve(builder.place())


def fields(code: str, block: str, *, blocks: int = 0, **changes: object) -> None:
    """Register one refusal: the named block with header fields replaced, sealed again."""

    def make(builder: Builder) -> bytes:
        good = {"found": founding, "evolve": evolved, "idle": Builder.idle}[block](builder)
        return builder.tamper(good, **changes)

    make.__name__ = f"{block}_" + "_".join(changes)
    refused(code, blocks=blocks)(make)


def body(builder: Builder, block: Block, model: Model, data: bytes, **claims: int) -> bytes:
    """Return the block with another model and hashes to suit."""
    hashes = {"model_hash": model_hash(model), "shape_hash": shape_hash(model.architecture)}
    return builder.tamper(block, model=data, **hashes, **claims)


def best_model(builder: Builder) -> Model:
    """Return the best model of the first family."""
    return builder.state.families[0].best.model


def difference_tail(builder: Builder, tail: BitWriter) -> bytes:
    """Return an EVOLVE block whose flips are fine and whose thresholds and biases are ``tail``."""
    block = evolved(builder)
    bits = np.unpackbits(np.frombuffer(block.model, np.uint8), bitorder="little").astype(np.bool_)
    last = int(np.flatnonzero(bits)[-1])
    assert bits[last - 1], "no thresholds and no biases: a one each, then padding"
    return builder.tamper(block, model=BitWriter().raw(bits[: last - 1]).raw(tail.bits()).bytes())


def random_child(builder: Builder) -> Model:
    """Return the best model with three weights flipped."""
    return apply_flips(best_model(builder), np.array([1, 2, 3], np.int64))
