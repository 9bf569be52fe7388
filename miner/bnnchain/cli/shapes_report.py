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
MAX_LABELS = 5
"""Shapes of a front named in a picture."""
MARGIN_PERCENT = 5
"""Below the worst of a front; what does worse is of no interest."""
COSTS = {"macs": "multiply-accumulates of one image", "bytes": "bytes of a founding model"}


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

    searches: of :func:`describe_search`, a colour each.  marks: shapes trained longer, drawn as stars: ``name``,
    ``accuracy``, ``macs``, ``bytes`` and, where they stand for a search, its number as ``search``.
    Raises :class:`Unavailable` without the extra ``bench``, :class:`Fault` where the files cannot be written.
    """
    matplotlib = load_extra("matplotlib", "bench")
    figure_module, ticker = load_extra("matplotlib.figure", "bench"), load_extra("matplotlib.ticker", "bench")
    matplotlib.rcParams["svg.hashsalt"] = "bnnchain"  # the same figures give the same file
    figure = figure_module.Figure(figsize=(13, 5.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    worst = min(each["accuracy"] for search in searches for each in search["front"])
    lowest = worst - MARGIN_PERCENT / 100
    for place, (cost, title) in zip(axes, COSTS.items(), strict=True):
        for number, search in enumerate(searches):
            _draw_search(place, search, cost, f"C{number}", lowest)
        for mark in marks:
            colour = f"C{mark['search']}" if "search" in mark else "black"
            place.plot(mark[cost], 100 * mark["accuracy"], "*", color=colour, markersize=11, markeredgecolor="black")
            beside = {"xytext": (-6, -2), "textcoords": "offset points", "ha": "right", "fontsize": 6}
            place.annotate(mark["name"], (mark[cost], 100 * mark["accuracy"]), **beside)
        place.set(xlabel=title, xscale="log")
        place.grid(visible=True, linewidth=0.3)
        place.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        place.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _position: f"{value:,.0f}"))
        place.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes[0].set(ylabel="% right on validation images, short trainings" + ("; stars: longer ones" if marks else ""))
    axes[0].legend(fontsize=7, loc="lower right")
    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    try:
        figure.savefig(paths[0], dpi=DPI)
        figure.savefig(paths[1], metadata={"Date": None})
    except OSError as error:
        raise Fault(f"cannot write {stem}: {error.strerror}") from error
    return paths


def _draw_search(axes: Any, search: dict[str, Any], cost: str, colour: str, lowest: float) -> None:  # noqa: ANN401
    tried = [each for each in search["scored"] if each["accuracy"] >= lowest]
    line = _best_line(search["front"], cost)
    axes.scatter([each[cost] for each in tried], [100 * each["accuracy"] for each in tried], 6, colour, alpha=0.3)
    label = f"seed {search['request']['seed']}: shapes tried, and the front"
    axes.plot(
        [each[cost] for each in line], [100 * each["accuracy"] for each in line], f"{colour}o-", ms=4, label=label
    )
    for each in line[:: max(1, -(-len(line) // MAX_LABELS))]:
        name = each["shape"].split("-", 1)[1].rsplit("-", 1)[0]
        place = (each[cost], 100 * each["accuracy"])
        axes.annotate(name, place, (2, 3), textcoords="offset points", fontsize=5, color=colour)


def _best_line(front: Sequence[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    # Of a front in three measures, those that no other beats in accuracy and this one cost.
    line: list[dict[str, Any]] = []
    for each in sorted(front, key=lambda each: (each[cost], -each["accuracy"])):
        if not line or each["accuracy"] > line[-1]["accuracy"]:
            line.append(each)
    return line
