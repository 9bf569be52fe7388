"""The pages about the chain: overview, blocks, families, data sets, peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.params import BP
from bnnchain.consensus.types import BlockKind
from bnnchain.web.explorer import (
    MAX_HEIGHT_DIGITS,
    MAX_SHOWN_TRANSACTIONS,
    MAX_SHOWN_WAITING,
    PAGE_BLOCKS,
    describe_transaction,
)
from bnnchain.web.pictures import data_uri, sample_png
from bnnchain.web.plots import MAX_LINES, Line, plot
from bnnchain.web.tree import MAX_GENERATIONS, grow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from bnnchain.consensus.types import DatasetId
    from bnnchain.web.explorer import Around, Explorer
    from bnnchain.web.index import ModelEntry
    from bnnchain.web.live import Live
    from bnnchain.web.views import Views

PAGE_SAMPLES = 60
MAX_SHOWN_MODELS = 500
"""Rows of a table of models, the latest."""
MAX_SHOWN_FAMILIES = 200
MAX_TREE_NODES = 4_000
"""On one page, founders apart: of long families the last generations are drawn."""
PERCENT_BP = BP / 100


class ChainPages:
    """Endpoints; what reads the store runs in threads, off the node's event loop."""

    def __init__(self, explorer: Explorer, views: Views, live: Live) -> None:
        self._explorer = explorer
        self._views = views
        self._live = live

    async def overview(self, _request: Request) -> Response:
        """Answer with the first page."""
        return await run_in_threadpool(self._overview, "overview.html", self._explorer.around())

    async def now(self, _request: Request) -> Response:
        """Answer with the part of the first page that changes."""
        return await run_in_threadpool(self._overview, "_now.html", self._explorer.around())

    def blocks(self, request: Request) -> Response:
        """Answer with a page of the chain's blocks, newest first, from ``top`` downwards."""
        height = self._explorer.chain.head.height
        top = min(_number(request.query_params.get("top", "")) or height, height)
        rows = self._explorer.blocks(top, PAGE_BLOCKS)
        older = rows[-1].header.height - 1 if rows else 0
        newer = min(top + PAGE_BLOCKS, height) if top < height else 0
        return self._views.page("blocks.html", rows=rows, older=older, newer=newer, height=height)

    def block(self, request: Request) -> Response:
        """Answer with everything of one block, by height or id."""
        detail = self._explorer.block(request.path_params["which"])
        shown = [describe_transaction(each) for each in detail.block.transactions[:MAX_SHOWN_TRANSACTIONS]]
        return self._views.page("block.html", detail=detail, transactions=shown)

    def families(self, _request: Request) -> Response:
        """Answer with the tree of every data set's families, and their accuracy against generation."""
        groups: dict[DatasetId, list[ModelEntry]] = {}
        for entry in self._explorer.index.entries():
            groups.setdefault(entry.dataset_id, []).append(entry)
        latest = {dataset_id: _of_latest_families(entries) for dataset_id, entries in groups.items()}
        drawn = sum(len({entry.family_id for entry in entries}) for entries in latest.values())
        generations = min(MAX_GENERATIONS, MAX_TREE_NODES // max(1, drawn))
        shown = [
            {
                "dataset_id": dataset_id,
                "tree": grow(entries, generations),
                "plot": _plot_families(f"Accuracy in percent against generation on {self._name(dataset_id)}", entries),
                "drawn": sorted({entry.family_id for entry in entries}),
                "families": _summaries(groups[dataset_id])[-MAX_SHOWN_FAMILIES:],
            }
            for dataset_id, entries in latest.items()
        ]
        return self._views.page("families.html", groups=shown)

    def family(self, request: Request) -> Response:
        """Answer with one family: its shape, its plot, its models."""
        family = self._explorer.family(request.path_params["number"])
        entries = [each for each in self._explorer.index.entries() if each.family_id == family.family_id]
        drawn = _plot_families(f"Accuracy of family {family.family_id} in percent against generation", entries)
        shown = entries[-MAX_SHOWN_MODELS:]
        return self._views.page("family.html", family=family, entries=shown[::-1], plot=drawn, total=len(entries))

    def datasets(self, _request: Request) -> Response:
        """Answer with the chain's data sets."""
        datasets = self._explorer.chain.head.datasets
        missing = set(self._explorer.chain.missing_datasets())
        return self._views.page("datasets.html", datasets=datasets, missing=missing)

    def dataset(self, request: Request) -> Response:
        """Answer with one data set and a page of its samples."""
        dataset_id, entry = self._explorer.dataset(request.path_params["which"])
        start = min(_number(request.query_params.get("start", "")), entry.manifest.pool_size - 1)
        start -= start % PAGE_SAMPLES
        try:
            pool = self._explorer.chain.validator.pool(dataset_id)
        except Unavailable:
            samples = []
        else:
            stop = min(len(pool), start + PAGE_SAMPLES)
            samples = [(at, int(pool.labels[at]), data_uri(sample_png(pool, at))) for at in range(start, stop)]
        families = [each for each in self._explorer.chain.head.families if each.dataset_id == dataset_id]
        return self._views.page(
            "dataset.html",
            dataset_id=dataset_id,
            entry=entry,
            samples=samples,
            start=start,
            page_samples=PAGE_SAMPLES,
            families=families,
        )

    async def peers(self, _request: Request) -> Response:
        """Answer with the peers, what they agree on, and what waits for a block."""
        return await run_in_threadpool(self._peers, self._explorer.around())

    def _peers(self, around: Around) -> Response:
        waiting = [describe_transaction(each) for each in self._explorer.mempool.waiting()[:MAX_SHOWN_WAITING]]
        count = len(self._explorer.mempool)
        return self._views.page("peers.html", around=around, waiting=waiting, waiting_count=count)

    def _overview(self, template: str, around: Around) -> Response:
        records = _records(self._explorer.index.entries())
        lines = [Line(f"on {self._name(dataset_id)}", points) for dataset_id, points in records.items()]
        drawn = plot("Accuracy of the best model in percent against height", lines) if lines else None
        now = self._explorer.overview(self._live.verdicts())
        return self._views.page(template, now=now, around=around, plot=drawn, plotted=[line.name for line in lines])

    def _name(self, dataset_id: DatasetId) -> str:
        return self._explorer.dataset_name(dataset_id)


def _of_latest_families(entries: Sequence[ModelEntry]) -> list[ModelEntry]:
    """Return the models of the families founded last, of as many as a plot has lines."""
    latest = set(sorted({entry.family_id for entry in entries})[-MAX_LINES:])
    return [entry for entry in entries if entry.family_id in latest]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_HEIGHT_DIGITS else 0


def _summaries(entries: Sequence[ModelEntry]) -> list[tuple[int, int, int, ModelEntry]]:
    """Return (family, models, generation, best) of every family."""
    numbers = sorted({entry.family_id for entry in entries})
    members = [[entry for entry in entries if entry.family_id == number] for number in numbers]
    return [
        (number, len(each), max(one.generation for one in each), max(each, key=lambda one: (one.correct, one.height)))
        for number, each in zip(numbers, members, strict=True)
    ]


def _plot_families(title: str, entries: Sequence[ModelEntry]) -> str:
    """Return the plot of the paper's figures: a line a family, founders at generation 0."""
    lines = []
    for number in sorted({entry.family_id for entry in entries}):
        members = [entry for entry in entries if entry.family_id == number]
        founders = [entry for entry in members if entry.kind == BlockKind.FOUND]
        best = max(founders, key=lambda entry: (entry.correct, entry.height))
        line = [best, *(entry for entry in members if entry.kind == BlockKind.EVOLVE)]
        lines.append(Line(f"family {number}", [(each.generation, each.accuracy_bp / PERCENT_BP) for each in line]))
    return plot(title, lines)


def _records(entries: Sequence[ModelEntry]) -> dict[DatasetId, list[tuple[int, float]]]:
    """Return (height, percent) of the most accurate model so far, by data set."""
    records: dict[DatasetId, list[tuple[int, float]]] = {}
    for entry in entries:
        points = records.setdefault(entry.dataset_id, [])
        best = max(entry.accuracy_bp / PERCENT_BP, points[-1][1] if points else 0)
        points.append((entry.height, best))
    return records
