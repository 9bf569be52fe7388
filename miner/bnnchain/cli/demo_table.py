"""The demo's live table and its last words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from typing_extensions import Self

from bnnchain.consensus.types import BlockKind

if TYPE_CHECKING:
    from types import TracebackType

    from bnnchain.cli.demo_follower import Follower, Row

COLUMNS = ("#", "kind", "fam", "gen", "parent %", "model %", "held out %", "flips", "sec", "bytes", "peer")


class DemoTable:
    """A table of blocks that grows in place on a terminal, and is printed once elsewhere."""

    def __init__(self, follower: Follower, *, to_stderr: bool) -> None:
        self._follower = follower
        self._activity = ""
        self._console = Console(stderr=to_stderr)
        self._live = Live(console=self._console, auto_refresh=False, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)
        if not self._console.is_terminal:
            self._console.print()

    def refresh(self) -> None:
        """Show what the follower has now."""
        self._activity = ""
        self._live.refresh()

    def tell(self, activity: str) -> None:
        """Show what the miner is at, below the table, until the next block."""
        self._activity = activity
        self._live.refresh()

    def _render(self) -> Table:
        spec = self._follower.spec
        title = f"chain {spec.name}: {spec.dataset.name}, {spec.dataset.pool_size} images count"
        table = Table(
            title=title,
            title_justify="left",
            caption=self._activity,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for column in COLUMNS:
            table.add_column(column, justify="left" if column in {"kind", "peer"} else "right", no_wrap=True)
        for row in self._follower.rows:
            table.add_row(*_cells(row))
        return table


def summarise(follower: Follower, preset: str) -> str:
    """Return the last words of a demo: what was mined, how it grew, who checked it."""
    evolved = [row for row in follower.rows if row.kind == BlockKind.EVOLVE]
    founded = [row for row in follower.rows if row.kind == BlockKind.FOUND]
    seconds = sorted(row.seconds for row in evolved)
    validated = sum(row.validated_by_peer for row in follower.rows)
    best, last = max(row.correct_new for row in founded), evolved[-1]
    return (
        f"{len(founded)} founding models and {len(evolved)} generations under {preset} in {follower.elapsed_s:.1f} s; "
        f"{validated} of {len(follower.rows)} blocks judged again by the second process\n"
        f"pool {_percent(best, last.eval_total)} -> {_percent(last.correct_new, last.eval_total)} %, "
        f"held out {_percent(last.correct_heldout, last.heldout_total)} %; "
        f"median {seconds[len(seconds) // 2]:.2f} s for an evolved block of {last.size_bytes} bytes"
    )


def _cells(row: Row) -> list[str]:
    if row.kind == BlockKind.IDLE:
        figures = ["", "", "", "", "", ""]
    else:
        is_evolved = row.kind == BlockKind.EVOLVE
        figures = [
            str(row.family),
            str(row.generation),
            _percent(row.correct_parent, row.eval_total) if is_evolved else "",
            _percent(row.correct_new, row.eval_total),
            _percent(row.correct_heldout, row.heldout_total),
            str(row.weights_changed) if is_evolved else "",
        ]
    judged = "valid" if row.validated_by_peer else "..."
    return [str(row.height), row.kind.name, *figures, f"{row.seconds:.2f}", str(row.size_bytes), judged]


def _percent(correct: int, total: int) -> str:
    return f"{100 * correct / total:.2f}" if total else ""
