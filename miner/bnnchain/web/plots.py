"""Plots as SVG that stands in the page: pygal places everything, the page's own style sheet colours it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pygal
from markupsafe import Markup
from pygal.style import Style

if TYPE_CHECKING:
    from collections.abc import Sequence

# pygal leaves a finder for its map plug-ins, which we have none of; Python 3.11 warns of it on every failed import.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]

WIDTH, HEIGHT = 720, 280
MAX_POINTS = 240
"""Of a longer line every second, fourth, ... point is drawn, and the last."""
MAX_LINES = 12
FONT_SIZE = 24
"""What room is left for; the style sheet draws texts smaller where the screen is wide."""
MAX_TICKS = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot: (x, y) points in order of x."""

    name: str
    points: Sequence[tuple[int, float]]


def plot(title: str, lines: Sequence[Line]) -> Markup:
    """Return the plot of at most ``MAX_LINES`` lines as an inline SVG without style, script or links.

    Its text alternative is the title with where each line begins and ends.
    """
    chart = pygal.XY(
        width=WIDTH,
        height=HEIGHT,
        js=(),
        no_prefix=True,
        show_legend=False,
        dots_size=2.5,
        margin=8,
        style=Style(label_font_size=FONT_SIZE, major_label_font_size=FONT_SIZE),
        y_labels_major_count=3,
        max_scale=6,
        value_formatter=_number,
        x_value_formatter=_number,
    )
    shown = lines[:MAX_LINES]
    chart.x_labels = _ticks([x for line in shown for x, _ in line.points])
    for line in shown:
        chart.add(line.name, thinned(line.points))
    return _inline(chart.render_tree(), f"{title}: {'; '.join(map(_summary, shown))}")


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most ``MAX_POINTS`` of the points and the last one."""
    step = -(-len(points) // MAX_POINTS)
    return list(points) if step <= 1 else [*points[:-1:step], points[-1]]


def _ticks(values: Sequence[int]) -> list[int]:
    low, high = min(values, default=0), max(values, default=0)
    step = next(
        size * factor
        for size in (10**power for power in range(19))
        for factor in (1, 2, 5)
        if (high - low) <= size * factor * MAX_TICKS
    )
    first = -(-low // step) * step
    return list(range(first, high + 1, step)) or [low]


def _summary(line: Line) -> str:
    if not line.points:
        return f"{line.name} has no point"
    (first_x, first_y), (last_x, last_y) = line.points[0], line.points[-1]
    return f"{line.name} from {first_y:.2f} at {first_x} to {last_y:.2f} at {last_x}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _inline(svg: ET.Element, title: str) -> Markup:
    """Return what is left without what a strict content-security policy forbids or only pygal's script uses."""
    for parent in list(svg.iter()):
        for child in list(parent):
            classes = str(child.get("class", "")).split()
            is_comment = not isinstance(child.tag, str)
            if is_comment or child.tag in {"defs", "title", "desc"} or "tooltip-overlay" in classes:
                parent.remove(child)
    svg.attrib.pop("id", None)
    svg.set("role", "img")
    svg.set("aria-label", title)
    svg.set("focusable", "false")
    return Markup(ET.tostring(svg, encoding="unicode"))  # noqa: S704  (ElementTree escapes all texts)
