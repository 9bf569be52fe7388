"""The screen of `bnnchain top`: what is observed as tables, as many rows as fit."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bnnchain.cli.status import describe_alarm
from bnnchain.consensus.types import BlockKind
from bnnchain.logs import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from bnnchain.cli.top_follower import Observed
    from bnnchain.net.messages import Status

BARS = " ▁▂▃▄▅▆▇█"
MAX_FAMILIES = 8
MAX_TEXT_CHARS = 120
SHORT_ID = 12
SPARK_WIDTH = 40
VALIDATION_METRIC = "bnnchain_block_validation_seconds"
ACCURACY_WIDTH = 24
FIXED_LINES = 14
"""Everything on the screen that is neither a family nor a block."""
MIN_BLOCKS = 3
KIB = 1024
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


def render(observed: Observed, now_s: float, height: int) -> RenderableType:
    """Return the whole screen.

    now_s: the clock, for ages.  height: lines that there are.
    """
    status = observed.status
    if status is None:
        return Group(_title(observed), Text(observed.problem or "connecting ...", style="yellow"))
    families = sorted(observed.families)[-MAX_FAMILIES:]
    rows = max(MIN_BLOCKS, height - FIXED_LINES - len(families) - len(observed.rates))
    parts: list[RenderableType] = [_title(observed)]
    if observed.problem:
        parts.append(Text(f"away: {escape(observed.problem, MAX_TEXT_CHARS)}; trying again", style="bold red"))
    if status.deep_reorg is not None:
        parts.append(Text(f"ALARM: {describe_alarm(status.deep_reorg)}", style="bold red"))
    parts += [_summary(observed, status, now_s), Text(), _speeds(observed)]
    if families:
        parts += [Text(), _families(observed, families)]
    parts += [Text(), _blocks(observed, now_s, rows)]
    return Group(*parts)


def spark(values: Sequence[float], width: int = SPARK_WIDTH) -> str:
    """Return the last values as a line of bars, the largest full, zero empty."""
    shown = list(values)[-width:]
    top = max(shown, default=0.0)
    if top <= 0:
        return " " * len(shown)
    full = len(BARS) - 1
    # Whatever is above zero is seen.
    return "".join(BARS[max(1, round(full * value / top)) if value > 0 else 0] for value in shown)


def span(seconds: float) -> str:
    """Return a time in words: the largest unit that fits; the past alone, for clocks differ."""
    seconds = max(0.0, seconds)
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < HOUR_S:
        return f"{seconds / MINUTE_S:.0f} min"
    return f"{seconds / HOUR_S:.1f} h" if seconds < DAY_S else f"{seconds / DAY_S:.1f} d"


def size(size_bytes: float) -> str:
    """Return a size in words."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < KIB:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= KIB
    return f"{size_bytes:.1f} TiB"


def number(value: float) -> str:
    """Return a rate or count in three or four digits."""
    for unit in ("", "k", "M", "G"):
        if value < 1_000:  # noqa: PLR2004
            return f"{value:.3g}{unit}"
        value /= 1_000
    return f"{value:.3g}T"


def _title(observed: Observed) -> RenderableType:
    status = observed.status
    grid = Table.grid(expand=True)
    grid.add_column(justify="left", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    left = Text("bnnchain top", style="bold")
    if status is not None:
        kernel = f"kernel {escape(status.backend, 16)}" if status.backend else "no kernel yet"
        left.append(f"  {escape(status.chain_name, 32)} · {status.role.name.lower()} · {kernel}", style="default")
    right = observed.address if status is None else f"{observed.address} · version {escape(status.version, 16)}"
    grid.add_row(left, Text(right, style="dim"))
    return grid


def _summary(observed: Observed, status: Status, now_s: float) -> RenderableType:
    grid = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(4):
        grid.add_column(no_wrap=True)
    is_well = not status.is_syncing and not status.missing_dataset_ids
    state = "syncing" if status.is_syncing else "data set missing" if status.missing_dataset_ids else "following"
    figures = observed.figures
    grid.add_row(
        _fact("height", f"{status.height:,}", "bold green"),
        _fact("head", status.head.block_id.hex()[:SHORT_ID]),
        _fact("age", span(now_s - status.head_timestamp_s)),
        _fact("state", state, "green" if is_well else "yellow"),
    )
    grid.add_row(
        _fact("peers", str(status.peer_count), "default" if status.peer_count else "yellow"),
        _agreement(status),
        _fact("waiting", f"{status.mempool_count:,} tx"),
        _fact("weight", number(float(status.head.weight))),
    )
    if figures:
        grid.add_row(
            _fact("memory", size(figures.get("process_resident_memory_bytes", 0))),
            _fact("store", size(figures.get("bnnchain_store_bytes", 0))),
            _fact("bans", number(figures.get("bnnchain_bans_total", 0))),
            _fact("refused", f"{number(figures.get('bnnchain_refused_blocks_total', 0))} blocks"),
        )
    return grid


def _agreement(status: Status) -> Text:
    agreement = status.agreement
    where = "on one tip" if agreement.block_id is None else "here"
    is_elsewhere = agreement.block_id not in {None, status.head.block_id}
    where = "elsewhere" if is_elsewhere else where
    return _fact("agree", f"{agreement.votes}/{agreement.voters} {where}", "yellow" if is_elsewhere else "default")


def _fact(name: str, value: str, style: str = "default") -> Text:
    return Text.assemble((f"{name} ", "dim"), (value, style))


def _speeds(observed: Observed) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=12, no_wrap=True)
    grid.add_column(width=SPARK_WIDTH, no_wrap=True)
    grid.add_column(no_wrap=True)
    verdicts = observed.verdicts_ms
    grid.add_row(Text("validation", style="dim"), Text(spark(verdicts), style="cyan"), Text(_verdicts(observed)))
    for name, points in observed.rates.items():
        grid.add_row(Text(name, style="dim"), Text(spark(points), style="cyan"), Text(number(points[-1])))
    if observed.metrics_problem:
        grid.add_row(Text("metrics", style="dim"), Text(), Text(escape(observed.metrics_problem, 60), style="yellow"))
    return grid


def _verdicts(observed: Observed) -> str:
    verdicts = observed.verdicts_ms
    if verdicts:
        return f"{verdicts[-1]:.1f} ms, median {median(verdicts):.1f}"
    count = observed.figures.get(f"{VALIDATION_METRIC}_count", 0)
    if count:
        return f"mean {1000 * observed.figures.get(f'{VALIDATION_METRIC}_sum', 0) / count:.1f} ms"
    return "no new block yet"


def _families(observed: Observed, families: Sequence[int]) -> RenderableType:
    table = _table(("family", "right"), ("accuracy", "right"), ("", "left"), ("gen", "right"), ("block", "right"))
    for family in families:
        best = observed.families[family]
        share = best.correct_new / max(1, best.eval_total)
        bar = ProgressBar(total=1.0, completed=share, width=ACCURACY_WIDTH, complete_style="green")
        table.add_row(str(family), f"{100 * share:.2f} %", bar, str(best.generation), f"{best.height:,}")
    return table


def _blocks(observed: Observed, now_s: float, rows: int) -> RenderableType:
    table = _table(
        ("height", "right"),
        ("id", "left"),
        ("kind", "left"),
        ("fam", "right"),
        ("gen", "right"),
        ("accuracy", "right"),
        ("gain", "right"),
        ("bytes", "right"),
        ("judged", "right"),
        ("age", "right"),
    )
    for row in list(observed.blocks)[-rows:][::-1]:
        header, has_model = row.header, row.header.kind != BlockKind.IDLE
        share = 100 / max(1, header.eval_total)
        gain = header.correct_new - header.correct_parent
        table.add_row(
            f"{header.height:,}",
            row.block_id.hex()[:SHORT_ID],
            header.kind.name,
            str(header.family_id) if has_model else "",
            str(header.generation) if has_model else "",
            f"{share * header.correct_new:.2f} %" if has_model else "",
            f"{share * gain:+.2f} %" if header.kind == BlockKind.EVOLVE else "",
            f"{row.size_bytes:,}" if row.size_bytes else "",
            f"{row.verdict_us / 1000:.1f} ms" if row.verdict_us else "",
            span(now_s - header.timestamp),
        )
    return table


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table
