"""``--architecture``: a shape by its name, in writing, or as a model file has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnchain.bnn.notation import format_architecture, parse_architecture
from bnnchain.bnn.zoo import ZOO
from bnnchain.exchange.files import read_model
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from bnnchain_kernels.model import Architecture

METAVAR = f"[{'|'.join(ZOO)}|SHAPE|FILE]"
"""SHAPE is like ``28x28x1-conv4p-conv16p-dense10``, FILE a model of the chain's own form."""


def to_architecture(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Architecture | None:
    """Return the shape of an option's value, None where there is none."""
    try:
        return None if value is None else find_architecture(value)
    except Invalid as error:
        raise click.BadParameter(str(error)) from None


def to_architectures(
    _context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[Architecture, ...]:
    """Return the shapes of an option that may be repeated."""
    try:
        return tuple(find_architecture(each) for each in value)
    except Invalid as error:
        raise click.BadParameter(str(error)) from None


def find_architecture(text: str) -> Architecture:
    """Return a shape of the zoo by its name, of a notation, or of a model file.

    Raises ``unknown-architecture`` with what there is, or what :func:`~bnnchain.exchange.files.read_model` and
    :func:`~bnnchain.bnn.notation.parse_architecture` raise.
    """
    if text in ZOO:
        return ZOO[text]
    if Path(text).suffix and Path(text).exists():
        return read_model(Path(text))[0].architecture
    if "-conv" in text or "-dense" in text:
        return parse_architecture(text)
    raise Invalid("unknown-architecture", name=ascii(text[:64]), known=f"{', '.join(ZOO)}, a shape or a model file")


def name_architecture(architecture: Architecture) -> str:
    """Return a shape's name in the zoo, or its notation."""
    return next((name for name, shape in ZOO.items() if shape == architecture), format_architecture(architecture))
