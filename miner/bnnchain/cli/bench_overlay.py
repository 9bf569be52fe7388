"""What the overlay's cycle model says of a network: modelled, not measured; the tests hold it to the simulated RTL."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from bnnchain.bnn.zoo import ZOO
from bnnchain_fpga.compile import Capabilities, DoesNotFit, plan_architecture
from bnnchain_fpga.cycles import NOMINAL_CLOCK_HZ, model_throughput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain_fpga.cycles import Throughput

LABEL = f"modelled at {NOMINAL_CLOCK_HZ // 1_000_000} MHz; nothing was run on hardware"


@dataclass(frozen=True, slots=True)
class OverlayRow:
    """One network on the overlay of a PYNQ-Z2; figures are 0 where it does not fit."""

    model: str
    layer_cycles: tuple[int, ...]
    """Of a batch of 16 images, layer by layer."""
    batch_cycles: int
    cycles_per_image: float
    images_per_s: float
    refused: str = ""
    """Why it does not fit; the CPU runs it then."""


def overlay_rows(models: Sequence[str]) -> list[OverlayRow]:
    """Return a row for each network of the zoo named in ``models``."""
    return [_overlay_row(name) for name in models]


def overlay_report(rows: Sequence[OverlayRow]) -> dict[str, object]:
    """Return what `--json` writes."""
    return {"backend": "fpga-sim", "label": LABEL, "clock_hz": NOMINAL_CLOCK_HZ, "rows": [asdict(row) for row in rows]}


def overlay_table(rows: Sequence[OverlayRow]) -> Table:
    """Return the rows for people."""
    title = f"The overlay, {LABEL}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("model", "images/s", "cycles/image", "cycles/batch"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    table.add_column("of its layers")
    for row in rows:
        if row.refused:
            table.add_row(row.model, "", "", "", row.refused)
            continue
        layers = " ".join(f"{cycles:,}" for cycles in row.layer_cycles)
        figures = (f"{row.images_per_s:,.0f}", f"{row.cycles_per_image:,.1f}", f"{row.batch_cycles:,}")
        table.add_row(row.model, *figures, layers)
    return table


def _overlay_row(name: str) -> OverlayRow:
    capabilities = Capabilities()
    try:
        speed: Throughput = model_throughput(plan_architecture(ZOO[name], capabilities), capabilities)
    except DoesNotFit as reason:
        return OverlayRow(name, (), 0, 0.0, 0.0, str(reason))
    layers = tuple(layer.modelled for layer in speed.layers)
    return OverlayRow(name, layers, speed.batch_cycles, speed.cycles_per_image, speed.images_per_s)
