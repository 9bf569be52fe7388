"""Draw what `bench/xnor.py` or `bnnchain bench` measured: throughput under the roofs, and beside the peers.

    python bench/chart.py FILE.json STEM

Writes STEM.png and STEM.svg; needs matplotlib (``pip install 'bnnchain[bench]'``).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

DPI = 144
BAR_SPAN = 0.8
"""Of the room that a model has on the axis, the rest is the gap to the next."""


def draw_chart(report: dict[str, Any], stem: str) -> list[Path]:
    """Write the chart as PNG and SVG and return their paths; ends with a clear line where matplotlib is missing."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        sys.exit("the chart needs matplotlib: pip install 'bnnchain[bench]'")
    mpl.rcParams["svg.hashsalt"] = "bnnchain"  # the same figures give the same file
    peers = [row for row in report.get("peers", []) if "times_faster" in row]
    figure = Figure(figsize=(13 if peers else 8, 5), layout="constrained")
    axes = figure.subplots(1, 2 if peers else 1, squeeze=False)[0]
    draw_roofline(axes[0], report)
    if peers:
        draw_peers(axes[1], peers)
    machine = report["machine"]
    figure.suptitle(f"{machine['processor']}, {machine['cpus']} processors, load {machine.get('load', 'unknown')}")
    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    figure.savefig(paths[0], dpi=DPI)
    figure.savefig(paths[1], metadata={"Date": None})
    return paths


def draw_roofline(axes: Any, report: dict[str, Any]) -> None:  # noqa: ANN401
    """Draw one bar per model and kernel on one thread, and a line per roof."""
    rows = [row for row in report["rows"] if row["threads"] == 1]
    kernels = [name for name in dict.fromkeys(map(kernel_name, rows)) if not name.startswith("reference")]
    models = list(dict.fromkeys(row["model"] for row in rows))
    values = {(row["model"], kernel_name(row)): row["gmac_per_s_per_core"] for row in rows}
    draw_groups(axes, models, kernels, values)
    for name, gmac_per_s in report["roofs"].items():
        axes.axhline(gmac_per_s, linestyle="--", linewidth=0.8, color="0.3")
        axes.annotate(name, (1, gmac_per_s), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7)
    axes.set(title="Kernels and roofs", ylabel="GMAC/s per core", xlim=(-0.6, len(models) + 0.4))


def draw_peers(axes: Any, peers: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401
    """Draw images per second, ours (the lowest of its runs beside a peer) and every exact peer's best batch."""
    models = list(dict.fromkeys(row["model"] for row in peers))
    values = {(row["model"], row["peer"]): row["images_per_s_per_core"] for row in peers}
    for model in models:
        values[model, "bnnchain"] = min(row["ours_images_per_s_per_core"] for row in peers if row["model"] == model)
    draw_groups(axes, models, ["bnnchain", *dict.fromkeys(row["peer"] for row in peers)], values)
    axes.set(title="Exact peers on one thread, best batch", ylabel="images/s per core", yscale="log")


def draw_groups(axes: Any, groups: Sequence[str], bars: Sequence[str], values: dict[tuple[str, str], float]) -> None:  # noqa: ANN401
    """Draw grouped bars; a bar without a value is left out."""
    width = BAR_SPAN / max(1, len(bars))
    for index, bar in enumerate(bars):
        places = [place for place, group in enumerate(groups) if (group, bar) in values]
        shifted = [place + (index - (len(bars) - 1) / 2) * width for place in places]
        axes.bar(shifted, [values[groups[place], bar] for place in places], width, label=bar)
    axes.set_xticks(range(len(groups)), groups)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=3)


def kernel_name(row: dict[str, Any]) -> str:
    """Return a row's backend and instructions."""
    return f"{row['backend']} {row['isa']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="JSON of bench/xnor.py or bnnchain bench")
    parser.add_argument("stem", help="where to write, without .png and .svg")
    options = parser.parse_args()
    for path in draw_chart(json.loads(options.report.read_text(encoding="utf-8")), options.stem):
        print(path)


if __name__ == "__main__":
    main()
