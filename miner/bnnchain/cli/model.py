"""`bnnchain model`: the chain's models as files, files of other tools as models, and what a model says of a picture."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from bnnchain.backends import evaluator_factory
from bnnchain.bnn.encoding import encode_model
from bnnchain.cli import model_reads
from bnnchain.cli.inspect import describe_shape
from bnnchain.cli.options import backend_option, json_option, node_option, say, write_json
from bnnchain.exchange.files import papers_path, write_file, write_model
from bnnchain.exchange.files import read_model as read_model_file
from bnnchain.exchange.images import read_grey, samples_of
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import predict as predict_labels

if TYPE_CHECKING:
    from bnnchain.exchange.provenance import Provenance
    from bnnchain_kernels.model import Model

FORMATS = ("onnx", "keras", "tflite", "c")


def _to_thresholds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(level) for level in value.split(","))
    except ValueError:
        raise click.BadParameter("grey values between commas, such as 3,7,11,15") from None


model_argument = click.argument("model_file", metavar="MODEL", type=click.Path(path_type=Path, dir_okay=False))
which_argument = click.argument("which", default=model_reads.BEST, required=False)
output_option = click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write."
)
thresholds_option = click.option(
    "--thresholds",
    callback=_to_thresholds,
    help="Grey values of the input's planes, such as 128 or 3,7,11,15; by default the model's data set's.",
)


@click.group()
def model() -> None:
    """List, fetch, export, import and use models.

    WHICH is a block's height or id, FAMILY: (a family's best) or FAMILY:GENERATION; by default the chain's best.
    """


@model.command("list")
@node_option
@json_option
def list_models(address: str, json_file: str | None) -> None:
    """List the families of a running node's chain and their models."""
    rows = asyncio.run(model_reads.list_rows(address))
    for family in sorted({row["family"] for row in rows}):
        members = [row for row in rows if row["family"] == family]
        best = max(members, key=lambda row: (row["correct"], row["height"]))
        say(json_file)(f"family {family}: {len(members)} models on data set {best['dataset_id'][:16]}")
        for row in members:
            share, mark = 100 * row["correct"] / max(1, row["total"]), "  best" if row is best else ""
            say(json_file)(
                f"  height {row['height']:>6}  {row['kind']:6}  generation {row['generation']:>4}"
                f"  {row['correct']}/{row['total']} ({share:.2f} %)  {row['block_id'][:16]}{mark}"
            )
    write_json(json_file, {"models": rows})


@model.command()
@which_argument
@node_option
@json_option
def show(which: str, address: str, json_file: str | None) -> None:
    """Show a model of a running node's chain."""
    fetched, provenance = asyncio.run(model_reads.fetch(address, which))
    _describe(fetched, provenance, json_file)


@model.command()
@which_argument
@node_option
@output_option
@json_option
def get(which: str, address: str, output: Path, json_file: str | None) -> None:
    """Write a model of a running node's chain to a file, with its provenance beside it."""
    fetched, provenance = asyncio.run(model_reads.fetch(address, which))
    write_model(output, fetched, provenance)
    _describe(fetched, provenance, json_file)
    say(json_file)(f"written to {output} and {papers_path(output)}")


@model.command()
@model_argument
@output_option
@click.option("--format", "kind", required=True, type=click.Choice(FORMATS), help="What to write.")
@click.option(
    "--input",
    "input_kind",
    type=click.Choice(["pixels", "bits"]),
    default="pixels",
    show_default=True,
    help="Whether the file takes grey values or the bits made of them.",
)
@thresholds_option
def export(model_file: Path, output: Path, kind: str, input_kind: str, thresholds: tuple[int, ...] | None) -> None:
    """Write MODEL as a file that other tools run, with equal labels and scores."""
    chosen, provenance = read_model_file(model_file)
    levels = None if input_kind == "bits" else _levels(provenance, thresholds, str(model_file))
    if kind == "onnx":
        from bnnchain.exchange.onnx_export import export_onnx

        write_file(output, export_onnx(chosen, provenance, levels))
    elif kind == "c":
        from bnnchain.exchange.c_header import export_c

        write_file(output, export_c(chosen, provenance, levels).encode("ascii"))
    elif kind == "tflite":
        from bnnchain.exchange.keras_export import export_tflite

        write_file(output, export_tflite(chosen, provenance, levels))
    else:
        from bnnchain.exchange.keras_export import export_keras

        export_keras(chosen, provenance, levels, output)
    click.echo(f"{output}: {kind}, {output.stat().st_size} bytes, takes {input_kind}")


@model.command("import")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@output_option
@click.option("--binary-input", is_flag=True, help="You state that the first layer is fed -1 and +1 alone.")
@backend_option
@json_option
def import_model(source: Path, output: Path, binary_input: bool, backend: str, json_file: str | None) -> None:  # noqa: FBT001
    """Turn FILE, a Larq .keras or .h5 or an .onnx, into a chain model, checked against its own framework."""
    factory = evaluator_factory(backend)
    if source.suffix == ".onnx":
        from bnnchain.exchange.onnx_import import import_onnx

        found, provenance = import_onnx(source, factory, binary_input=binary_input)
    elif source.suffix in {".keras", ".h5"}:
        from bnnchain.exchange.keras_import import import_keras

        found, provenance = import_keras(source, factory, binary_input=binary_input)
    else:
        raise Invalid("bad-import", file=source, reason="the name ends in none of .keras, .h5, .onnx")
    write_model(output, found, provenance)
    _describe(found, provenance, json_file)
    say(json_file)(f"written to {output} and {papers_path(output)}")


@model.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--model",
    "model_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Model file; by default a running node's model is asked for.",
)
@click.option("--which", default=model_reads.BEST, help="Which of the node's models; by default the best.")
@node_option
@click.option("--invert", is_flag=True, help="Turn dark on light into light on dark.")
@click.option("--resize", is_flag=True, help="Scale a picture of another size into the frame.")
@thresholds_option
@backend_option
@json_option
def predict(
    images: tuple[Path, ...],
    model_file: Path | None,
    which: str,
    address: str,
    invert: bool,  # noqa: FBT001
    resize: bool,  # noqa: FBT001
    thresholds: tuple[int, ...] | None,
    backend: str,
    json_file: str | None,
) -> None:
    """Classify pictures (PNG or JPEG)."""
    chosen, provenance = read_model_file(model_file) if model_file else asyncio.run(model_reads.fetch(address, which))
    levels = _levels(provenance, thresholds, str(model_file or which))
    shape = chosen.architecture
    pictures = [read_grey(image, shape.height, shape.width, invert=invert, resize=resize) for image in images]
    samples = samples_of(pictures, shape, levels)
    scores = evaluator_factory(backend)(samples).logits(chosen, 0, len(samples))
    rows = []
    for image, label, values in zip(images, predict_labels(scores), scores, strict=True):
        first, second = np.sort(values)[-2:][::-1]
        rows.append({"image": str(image), "label": int(label), "scores": values.tolist()})
        say(json_file)(f"{image}: class {label}, score {first}, next best {second}")
    write_json(json_file, {"model_hash": provenance.model_hash, "predictions": rows})


def _levels(provenance: Provenance, thresholds: tuple[int, ...] | None, source: str) -> tuple[int, ...]:
    levels = thresholds or provenance.thresholds
    if levels is None:
        raise Invalid("bad-model-file", file=source, reason="grey values of its planes unknown; give --thresholds")
    return levels


def _describe(described: Model, provenance: Provenance, json_file: str | None) -> None:
    shape = described.architecture
    figures = {
        "shape": describe_shape(shape),
        "weights": shape.weight_count,
        "macs": shape.mac_count,
        "bytes": len(encode_model(described)),
    }
    for line in [*provenance.lines(), *(f"{name}: {value}" for name, value in figures.items())]:
        name, _, value = line.partition(": ")
        say(json_file)(f"{name:12} {value}")
    write_json(json_file, provenance.to_dict() | figures)
