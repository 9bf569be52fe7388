"""What an evolution of shapes found, as JSON and as a picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnchain.bnn.notation import format_architecture
from bnnchain.exchange.extras import load_extra
from bnnchain_kernels.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.mining.shape_search import ScoredShape, ShapeRequest, ShapeResult

DPI = 144
MAX_LABELS = 6
"""Shapes named in a picture, spread over the front."""


def describe_search(request: ShapeRequest, result: ShapeResult) -> dict[str, Any]:
    """Return a search as JSON values: what was asked, every shape tried, and the front."""
    asked = asdict(request)
    asked["start"] = [format_architecture(shape) for shape in request.start]
    return {
        "request": asked,
        "trials": result.trials,
        "scored": [describe_shape(each) for each in result.scored.values()],
        "front": [describe_shape(each) for each in result.front],
    }


def describe_shape(scored: ScoredShape) -> dict[str, Any]:
    """Return one shape with its costs and its mean accuracy on the validation samples."""
    return {
        "shape": format_architecture(scored.architecture),
        "accuracy": round(scored.accuracy, 6),
        "trials": len(scored.correct),
        "weights": scored.architecture.weight_count,
        "macs": scored.architecture.mac_count,
        "bytes": scored.size_bytes,
        "generation": scored.generation + 1,
    }


def draw_pareto(searches: Sequence[dict[str, Any]], stem: str, marks: Sequence[dict[str, Any]] = ()) -> list[Path]:
    """Draw accuracy against work and against bytes; write ``stem`` + .png and .svg and return their paths.

    searches: of :func:`describe_search`; marks: further shapes of the same form, named by ``name``.  Raises
    :class:`Unavailable` without the extra ``bench``.
    """
    matplotlib = load_extra("matplotlib", "bench")
    figure_module = load_extra("matplotlib.figure", "bench")
    matplotlib.rcParams["svg.hashsalt"] = "bnnchain"  # the same figures give the same file
    figure = figure_module.Figure(figsize=(13, 5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for place, (cost, title) in enumerate(
        (("macs", "multiply-accumulates an image"), ("bytes", "bytes of a founding model"))
    ):
        for number, search in enumerate(searches):
            _draw_search(axes[place], search, cost, f"C{number}")
        for mark in marks:
            axes[place].plot(mark[cost], 100 * mark["accuracy"], "k*", markersize=11)
            axes[place].annotate(mark["name"], (mark[cost], 100 * mark["accuracy"]), fontsize=8, va="top")
        axes[place].set(xlabel=title, xscale="log")
        axes[place].grid(visible=True, linewidth=0.3)
    axes[0].set(ylabel="% right on validation images, short training")
    axes[0].legend(fontsize=7, loc="lower right")
    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    try:
        figure.savefig(paths[0], dpi=DPI)
        figure.savefig(paths[1], metadata={"Date": None})
    except OSError as error:
        raise Fault(f"cannot write {stem}: {error.strerror}") from error
    return paths


def _draw_search(axes: Any, search: dict[str, Any], cost: str, colour: str) -> None:  # noqa: ANN401
    seed = search["request"]["seed"]
    tried = search["scored"]
    axes.scatter([each[cost] for each in tried], [100 * each["accuracy"] for each in tried], 6, colour, alpha=0.3)
    line = _best_line(search["front"], cost)
    points = [100 * each["accuracy"] for each in line]
    axes.step([each[cost] for each in line], points, colour, where="post", label=f"front, seed {seed}")
    axes.scatter([each[cost] for each in line], points, 22, colour)
    for each in line[:: max(1, -(-len(line) // MAX_LABELS))] if cost == "macs" else ():
        name = each["shape"].split("-", 1)[1]
        axes.annotate(name, (each[cost], 100 * each["accuracy"]), fontsize=5, color=colour, ha="right", va="bottom")


def _best_line(front: Sequence[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    # Of a front in three measures, those that no other beats in accuracy and this one cost.
    line: list[dict[str, Any]] = []
    for each in sorted(front, key=lambda each: (each[cost], -each["accuracy"])):
        if not line or each["accuracy"] > line[-1]["accuracy"]:
            line.append(each)
    return line
