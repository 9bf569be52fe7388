"""A data set's families as a tree: founders, the generations that grew from the best of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.consensus.types import BlockKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.web.index import ModelEntry

STEP = 30
"""Pixels between generations and between founders: a node can be hit by a finger."""
RADIUS = 6
MAX_GENERATIONS = 200
"""Drawn of one family at most; the first ones of a longer one are left out."""
ROOT_X = 20


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A model at its place; ``is_parent`` marks the founder from which the family grew."""

    entry: ModelEntry
    x: int
    y: int
    strength: int
    """0 to 4: how accurate it is among the data set's models."""
    is_best: bool
    is_parent: bool


@dataclass(frozen=True, slots=True)
class TreeEdge:
    """A line between two places."""

    from_x: int
    from_y: int
    to_x: int
    to_y: int
    is_faint: bool
    """To a founder from which nothing grew."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes and edges of one data set."""

    width: int
    height: int
    root_y: int
    nodes: tuple[TreeNode, ...]
    edges: tuple[TreeEdge, ...]
    left_out: int


def grow(entries: Sequence[ModelEntry], max_generations: int = MAX_GENERATIONS) -> Tree:
    """Return the tree of one data set's models, given in order of height; families below one another.

    max_generations: drawn of each family, its last ones.
    """
    families: dict[int, list[ModelEntry]] = {}
    for entry in entries:
        families.setdefault(entry.family_id, []).append(entry)
    worst, best = min(entries, key=_correct, default=None), max(entries, key=_correct, default=None)
    low = worst.correct if worst else 0
    span = max(1, (best.correct if best else 0) - low)
    nodes: list[TreeNode] = []
    edges: list[TreeEdge] = []
    top = STEP // 2 + 4
    left_out = 0
    for members in families.values():
        rows = _place_family(members, top, low, span, max_generations)
        nodes += rows.nodes
        edges += rows.edges
        left_out += rows.left_out
        top = rows.bottom + STEP + STEP // 2
    height = max(top - STEP, STEP)
    root_y = (min((node.y for node in nodes), default=0) + max((node.y for node in nodes), default=STEP)) // 2
    roots = [
        TreeEdge(ROOT_X, root_y, node.x, node.y, is_faint=not node.is_parent)
        for node in nodes
        if node.entry.kind == BlockKind.FOUND
    ]
    width = max((node.x for node in nodes), default=ROOT_X) + STEP
    return Tree(width, height, root_y, tuple(nodes), (*roots, *edges), left_out)


@dataclass(frozen=True, slots=True)
class _Rows:
    nodes: list[TreeNode]
    edges: list[TreeEdge]
    bottom: int
    left_out: int


def _place_family(members: Sequence[ModelEntry], top: int, low: int, span: int, max_generations: int) -> _Rows:
    founders = [entry for entry in members if entry.kind == BlockKind.FOUND]
    children = [entry for entry in members if entry.kind == BlockKind.EVOLVE]
    best = max(members, key=lambda entry: (entry.correct, entry.height))
    parent = max(founders, key=lambda entry: (entry.correct, entry.height), default=None) if children else None
    left_out = max(0, len(children) - max_generations)
    middle = top + (max(1, len(founders)) - 1) * STEP // 2
    x = ROOT_X + 3 * STEP
    nodes, edges = [], []
    for index, entry in enumerate(founders):
        nodes.append(_node(entry, x, top + index * STEP, low, span, is_best=entry is best, is_parent=entry is parent))
    source = next(((node.x, node.y) for node in nodes if node.is_parent), None)
    x += STEP
    for entry in children[left_out:]:
        x += STEP
        nodes.append(_node(entry, x, middle, low, span, is_best=entry is best, is_parent=False))
        if source is not None:
            edges.append(TreeEdge(*source, x, middle, is_faint=False))
        source = (x, middle)
    return _Rows(nodes, edges, top + (max(1, len(founders)) - 1) * STEP, left_out)


def _node(entry: ModelEntry, x: int, y: int, low: int, span: int, *, is_best: bool, is_parent: bool) -> TreeNode:
    return TreeNode(entry, x, y, 4 * (entry.correct - low) // span, is_best, is_parent)


def _correct(entry: ModelEntry) -> int:
    return entry.correct
