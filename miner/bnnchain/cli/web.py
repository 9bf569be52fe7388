"""Options of the explorer page."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, TypeVar

import click

from bnnchain.web.address import parse_web_address

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def web_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command ``--web`` and ``--web-public``, and the address to it as ``web``; raises ``insecure-address``."""

    @click.option(
        "--web",
        "web_text",
        metavar="HOST:PORT",
        help="Serve the explorer page there; needs the extra web.  [default: nowhere]",
    )
    @click.option("--web-public", is_flag=True, help="Let other machines see the page, too: it only reads.")
    @wraps(command)
    def with_page(*, web_text: str | None, web_public: bool, **options: object) -> Result:
        web = None if web_text is None else parse_web_address(web_text, is_public=web_public)
        return command(web=web, **options)

    return with_page
