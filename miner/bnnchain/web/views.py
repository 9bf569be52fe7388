"""Templates, and how values are written in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from bnnchain.consensus.params import BP
from bnnchain.web.assets import ASSETS
from bnnchain_kernels.model import Conv3x3

if TYPE_CHECKING:
    from bnnchain.web.explorer import Explorer
    from bnnchain_kernels.model import Architecture, Layer

SHORT_HEX = 12
PERCENT = 100
UNIT_DIGITS = 8
"""Of one coin: the paper's chain counts 10**8 units."""
KILO = 1_000


class Views:
    """Renders pages around one explorer; every text is escaped unless it was made by :mod:`bnnchain.web.plots`."""

    def __init__(self, explorer: Explorer) -> None:
        self._environment = Environment(
            loader=PackageLoader("bnnchain.web"),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "hex": bytes.hex,
            "short": lambda data: data.hex()[:SHORT_HEX],
            "percent": percent,
            "count": lambda number: f"{number:,}",
            "coins": coins,
            "utc": lambda seconds: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(min(seconds, 1 << 36))),
            "iso": lambda seconds: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(seconds, 1 << 36))),
            "bytes": size,
            "si": si,
            "layer": describe_layer,
            "shape": describe_shape,
        }
        self._environment.globals |= {"explorer": explorer, "asset": {name: each.url for name, each in ASSETS.items()}}

    def page(self, template: str, status: int = 200, **values: object) -> HTMLResponse:
        """Return a rendered page."""
        text = self._environment.get_template(template).render(values)
        return HTMLResponse(text, status, {"cache-control": "no-cache"})


def percent(accuracy_bp: float) -> str:
    """Return basis points as percent, such as ``91.36 %``."""
    return f"{PERCENT * accuracy_bp / BP:.2f}\u00a0%"


def coins(units: int) -> str:
    """Return an amount in coins."""
    whole, rest = divmod(units, 10**UNIT_DIGITS)
    return f"{whole:,}.{rest:0{UNIT_DIGITS}d}".rstrip("0").rstrip(".")


def size(count: int) -> str:
    """Return a number of bytes, such as ``1.3 kB``."""
    return f"{si(count)}B"


def si(number: float) -> str:
    """Return a number to three figures with its SI prefix and a space, such as ``4.31 k``."""
    for prefix in ("", "k", "M", "G"):
        if number < KILO:
            return f"{number:.3g}\u00a0{prefix}"
        number /= KILO
    return f"{number:.3g}\u00a0T"


def describe_layer(layer: Layer) -> str:
    """Return a layer in words."""
    if isinstance(layer, Conv3x3):
        return f"3\u00d73 convolution, {layer.filters} filters" + (", 2\u00d72 pool" if layer.pool else "")
    return f"dense, {layer.units} units"


def describe_shape(shape: Architecture) -> str:
    """Return a shape in short, such as ``8x8x4 conv16+pool conv24 dense10``."""
    layers = [
        f"conv{layer.filters}{'+pool' if layer.pool else ''}" if isinstance(layer, Conv3x3) else f"dense{layer.units}"
        for layer in shape.layers
    ]
    return " ".join([f"{shape.height}\u00d7{shape.width}\u00d7{shape.planes}", *layers])
