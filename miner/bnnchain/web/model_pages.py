"""The pages about one model: its layers, its papers, its files, and the drawing that it classifies."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from bnnchain.bnn.encoding import encode_model
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.types import BlockId
from bnnchain.exchange.onnx_export import export_onnx
from bnnchain.home import parse_hash
from bnnchain.net.models import provenance_of
from bnnchain.net.tasks import within
from bnnchain.web.assets import FOR_EVER
from bnnchain.web.drawing import DRAWING_BYTES, DRAWING_SIDE, read_drawing, sample_of
from bnnchain.web.models import changes
from bnnchain.web.pictures import data_uri, sample_png, weights_png
from bnnchain.wire import HASH_BYTES
from bnnchain_kernels.evaluator import predict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from bnnchain.exchange.provenance import Provenance
    from bnnchain.web.explorer import Explorer
    from bnnchain.web.models import ChainModel
    from bnnchain.web.views import Views
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import UInt8Array

MAX_HEAVY = 2
"""Models rebuilt, written as files or asked at once; the rest waits ``HEAVY_WAIT_S``."""
HEAVY_WAIT_S = 5.0
BODY_TIMEOUT_S = 5.0
SHOWN_SAMPLES = 20
"""As many of each class as that allows, and one at least."""
MAX_SHOWN_CLASSES = 32
MAX_SAMPLE_DIGITS = 9


class ModelPages:
    """Endpoints; what takes long runs in threads, off the node's event loop."""

    def __init__(self, explorer: Explorer, views: Views) -> None:
        self._explorer = explorer
        self._views = views
        self._heavy = threading.BoundedSemaphore(MAX_HEAVY)

    def model(self, request: Request) -> Response:
        """Answer with a block's model: figures, layers, provenance, files."""
        found = self._read(request)
        return self._views.page(
            "model.html",
            found=found,
            papers=self._papers(found),
            pictures=[weights_png(found.model, at) for at in range(len(found.model.weights))],
            data_uri=data_uri,
            difference=[] if found.parent is None else changes(found.parent, found.model),
            has_onnx=find_spec("onnx") is not None,
        )

    def file(self, request: Request) -> Response:
        """Answer with the model as a file: ``model.onnx``, ``model.bnn``, or its papers ``model.bnn.json``."""
        found, suffix = self._read(request), request.path_params["suffix"]
        papers = self._papers(found)
        if suffix == "bnn":
            data, media_type = encode_model(found.model), "application/octet-stream"
        elif suffix == "bnn.json" and papers is not None:
            data, media_type = papers.to_json().encode() + b"\n", "application/json"
        elif suffix == "onnx" and papers is not None:
            with self._one_of_few():
                data, media_type = export_onnx(found.model, papers, papers.thresholds), "application/octet-stream"
        else:
            raise HTTPException(404, "A model comes as model.onnx, model.bnn or model.bnn.json.")
        name = f"family-{found.header.family_id}-generation-{found.header.generation}-{found.block_id.hex()[:8]}"
        headers = {"content-disposition": f'attachment; filename="{name}.{suffix}"', "cache-control": FOR_EVER}
        return Response(data, media_type=media_type, headers=headers)

    def draw(self, request: Request) -> Response:
        """Answer with the drawing page of a model, the chain's best unless named; ``sample`` shows a data set's."""
        which = request.path_params.get("which")
        found = self._read(request) if which else self._find(self._explorer.best_model())
        samples: list[tuple[int, int, str]] = []
        chosen = None
        try:
            pool = self._explorer.chain.validator.pool(found.header.dataset_id)
        except Unavailable:
            pool = None
        if pool is not None:
            samples = [(at, int(pool.labels[at]), data_uri(sample_png(pool, at))) for at in _of_each_class(pool)]
            number = request.query_params.get("sample", "")
            if number.isascii() and number.isdigit() and len(number) <= MAX_SAMPLE_DIGITS:
                if int(number) >= len(pool):
                    raise HTTPException(404, f"The pool has {len(pool)} samples, numbered from 0.")
                chosen = {
                    "index": int(number),
                    "label": int(pool.labels[int(number)]),
                    "answer": self._classify(found, pool.take(np.array([int(number)], np.int32))),
                }
        return self._views.page(
            "draw.html",
            found=found,
            samples=samples,
            chosen=chosen,
            side=DRAWING_SIDE,
            is_readable=found.header.dataset_id in self._explorer.chain.head.datasets,
        )

    async def classify(self, request: Request) -> Response:
        """Answer with what a model says of a drawing: 112x112 bytes of ink, rows from the top.  Nothing is kept."""
        try:
            body = await within(BODY_TIMEOUT_S, _read_body(request))
        except asyncio.TimeoutError:
            raise HTTPException(408, "The drawing did not come.") from None
        try:
            return JSONResponse(await run_in_threadpool(self._classify_drawing, request, body))
        except (Invalid, Unavailable) as error:
            return JSONResponse({"error": str(error)}, 400 if isinstance(error, Invalid) else 404)

    def _classify_drawing(self, request: Request, body: bytes) -> dict[str, object]:
        drawing: UInt8Array = read_drawing(body)
        found = self._read(request)
        _, entry = self._explorer.dataset(found.header.dataset_id.hex())
        return self._classify(found, sample_of(drawing, entry.manifest))

    def _classify(self, found: ChainModel, samples: Samples) -> dict[str, object]:
        """Return label, scores and picture of one sample, counted by the node's own kernel."""
        with self._one_of_few():
            evaluator = self._explorer.factory(samples)
            scores = evaluator.logits(found.model, 0, 1)
        return {
            "label": int(predict(scores)[0]),
            "scores": [int(score) for score in scores[0]],
            "backend": evaluator.backend,
            "seen": data_uri(sample_png(samples, 0)),
        }

    def _read(self, request: Request) -> ChainModel:
        return self._find(BlockId(parse_hash(request.path_params["which"][: 2 * HASH_BYTES + 1])))

    def _find(self, block_id: BlockId) -> ChainModel:
        with self._one_of_few():
            return self._explorer.models.read(block_id)

    def _papers(self, found: ChainModel) -> Provenance | None:
        try:
            chain = self._explorer.chain
            entry = chain.head.datasets.get(found.header.dataset_id)
            manifest = entry.manifest if entry else None
            return provenance_of(found.header, found.block_id, chain.spec.name, chain.spec.genesis_id, manifest)
        except Invalid:  # a text that no file may carry
            return None

    @contextmanager
    def _one_of_few(self) -> Iterator[None]:
        if not self._heavy.acquire(timeout=HEAVY_WAIT_S):
            raise HTTPException(503, "The node is busy with other models.", {"retry-after": "5"})
        try:
            yield
        finally:
            self._heavy.release()


def _of_each_class(pool: Samples) -> list[int]:
    classes = min(pool.classes, MAX_SHOWN_CLASSES)
    each = max(1, SHOWN_SAMPLES // classes)
    return [int(at) for label in range(classes) for at in np.flatnonzero(pool.labels == label)[:each]]


async def _read_body(request: Request) -> bytes:
    """Return a request's body, not a byte more than a drawing has."""
    length = request.headers.get("content-length", "")
    if length and length != str(DRAWING_BYTES):
        raise HTTPException(413, f"A drawing has {DRAWING_BYTES} bytes.")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > DRAWING_BYTES:
                raise HTTPException(413, f"A drawing has {DRAWING_BYTES} bytes.")
    except ClientDisconnect:
        raise HTTPException(400, "The drawing broke off.") from None
    return body
