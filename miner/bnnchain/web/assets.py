"""Style sheet, scripts and icon: read once, named by their hash, kept by browsers for ever."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

FOR_EVER = "public, max-age=31536000, immutable"
_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page."""

    data: bytes
    media_type: str
    digest: str
    url: str


def _read(name: str, media_type: str) -> Asset:
    data = resources.files("bnnchain.web").joinpath("static").joinpath(name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]
    return Asset(data, media_type, digest, f"/static/{name}?{digest}")


ASSETS = {name: _read(name, media_type) for name, media_type in _TYPES.items()}


async def serve_asset(request: Request) -> Response:
    """Answer with a file, or with nothing new where the browser has it."""
    asset = ASSETS.get(request.path_params["name"])
    if asset is None:
        raise HTTPException(404, "There is no such file.")
    tag = f'"{asset.digest}"'
    is_exact = request.url.query == asset.digest
    headers = {"etag": tag, "cache-control": FOR_EVER if is_exact else "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.data, media_type=asset.media_type, headers=headers)
