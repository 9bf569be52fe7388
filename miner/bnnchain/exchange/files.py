"""A chain model as a file: the canonical wire form, and its provenance beside it as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import MAX_WIRE_BYTES, decode_model, encode_model, model_hash
from bnnchain.exchange.provenance import MAX_JSON_BYTES, Provenance, provenance_from_json
from bnnchain_kernels.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain_kernels.model import Model


def papers_path(path: Path) -> Path:
    """Return where a model file's provenance lies: ``x.bnn`` has ``x.bnn.json``."""
    return path.with_name(path.name + ".json")


def write_model(path: Path, model: Model, provenance: Provenance | None = None) -> None:
    """Write the model's wire form, and its provenance beside it."""
    provenance = provenance or describe_unknown(model)
    provenance.validate_describes(model)
    write_file(path, encode_model(model))
    write_file(papers_path(path), provenance.to_json().encode() + b"\n")


def read_model(path: Path) -> tuple[Model, Provenance]:
    """Return the model of a file with its provenance, which knows the hash alone where there is none beside it.

    Raises :class:`Invalid` ``bad-model-file``, ``bad-encoding``, ``bad-architecture`` or ``bad-model``.
    """
    model = decode_model(read_file(path, MAX_WIRE_BYTES))
    papers = papers_path(path)
    if not papers.exists():
        return model, describe_unknown(model)
    provenance = provenance_from_json(read_file(papers, MAX_JSON_BYTES))
    provenance.validate_describes(model)
    return model, provenance


def describe_unknown(model: Model) -> Provenance:
    """Return the provenance of a model of which nothing else is known."""
    return Provenance(model_hash(model).hex())


def read_file(path: Path, limit_bytes: int) -> bytes:
    """Return a file's bytes; raises :class:`Unavailable`, or ``bad-model-file`` where it is over its limit."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise Invalid("bad-model-file", reason="file too large", file=path, limit_bytes=limit_bytes)
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole; raises :class:`Fault`."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Fault(f"cannot write {path}: {error.strerror}") from error
