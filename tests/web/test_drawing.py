"""A drawing becomes the bits that the data set's own images would be, and the node's kernel says what it sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from web.page import ORIGIN

from bnnchain.datasets.digits import load_digits
from bnnchain.datasets.manifest import Manifest
from bnnchain.web.drawing import DRAWING_BYTES, DRAWING_SIDE, fit, full_ink, read_drawing, sample_of
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from web.page import Page

    from bnnchain_kernels.model import UInt8Array


def stroke() -> UInt8Array:
    drawing = np.zeros((DRAWING_SIDE, DRAWING_SIDE), np.uint8)
    drawing[20:90, 30:42] = 255
    return drawing


def enlarge(picture: UInt8Array) -> UInt8Array:
    size = (DRAWING_SIDE, DRAWING_SIDE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST), np.uint8)


@pytest.mark.parametrize("size", [0, 1, 784, DRAWING_BYTES - 1, DRAWING_BYTES + 1])
def test_drawing_has_its_size(size: int) -> None:
    with pytest.raises(Invalid, match="bad-drawing"):
        read_drawing(b"\xff" * size)


@pytest.mark.parametrize("ink", [0, 15])
def test_nothing_drawn_is_refused(ink: int) -> None:
    with pytest.raises(Invalid, match="nothing is drawn"):
        read_drawing(bytes([ink]) * DRAWING_BYTES)


def test_place_on_the_pad_does_not_matter() -> None:
    drawing = stroke()
    for rows, columns in ((-20, -30), (20, 60), (5, -7)):
        moved = np.roll(drawing, (rows, columns), (0, 1))
        assert np.array_equal(fit(moved, 28, 28), fit(drawing, 28, 28))
        assert np.array_equal(fit(moved, 8, 8), fit(drawing, 8, 8))


def test_large_frame_is_scaled_and_centred_as_mnist() -> None:
    ink = fit(stroke(), 28, 28)
    rows, columns = np.nonzero(ink)
    assert np.ptp(rows) + 1 == 20
    weights = ink.astype(float)
    assert abs((np.arange(28) @ weights.sum(axis=1)) / weights.sum() - 13.5) <= 0.5
    assert abs((np.arange(28) @ weights.sum(axis=0)) / weights.sum() - 13.5) <= 0.5
    assert set(rows) == set(range(rows.min(), rows.max() + 1))
    assert len(set(columns)) <= 4


def test_small_frame_is_filled() -> None:
    assert set(np.nonzero(fit(stroke(), 8, 8))[0]) == set(range(8))


@pytest.mark.parametrize("seed", range(20))
def test_any_drawing_fits_any_frame(seed: int) -> None:
    random = np.random.default_rng(seed)
    drawing = np.zeros((DRAWING_SIDE, DRAWING_SIDE), np.uint8)
    top, left = random.integers(0, DRAWING_SIDE, 2)
    bottom, right = random.integers(top, DRAWING_SIDE) + 1, random.integers(left, DRAWING_SIDE) + 1
    drawing[top:bottom, left:right] = random.integers(16, 256)
    height, width = int(random.integers(1, 257)), int(random.integers(1, 257))
    ink = fit(drawing, height, width)
    assert (ink.shape, ink.dtype) == ((height, width), np.uint8)
    assert ink.any(), seed


def test_scale_of_grey() -> None:
    digits = load_digits().manifest
    assert full_ink(digits) == 16
    fields = ("name", "width", "classes", "pool_size", "hidden_size", "pool_root", "hidden_root", "licence", "origin")
    other = Manifest(height=8, thresholds=bytes([128]), **{name: getattr(digits, name) for name in fields})
    assert full_ink(other) == 255


def test_drawn_digits_are_the_data_sets_own() -> None:
    """Enlarged to the pad and made small again, the images of the data set keep nearly all their bits."""
    digits = load_digits()
    levels = digits.pool.unpack(0, 200).sum(axis=-1)
    agreeing = []
    for index in range(200):
        sample = sample_of(enlarge((levels[index] * 63).astype(np.uint8)), digits.manifest)
        agreeing.append(np.mean(sample.unpack(0, 1)[0] == digits.pool.unpack(index, index + 1)[0]))
    assert np.mean(agreeing) > 0.9


def test_classification_is_the_kernels(page: Page) -> None:
    identity = page.model_ids()[-1]
    answer = page.draw(identity, stroke().tobytes())
    assert answer.status_code == 200, answer.text
    said = answer.json()
    manifest = next(iter(page.chain.head.datasets.values())).manifest
    scores = ReferenceEvaluator(sample_of(stroke(), manifest)).logits(page.explorer.models.read(identity).model, 0, 1)
    assert said["scores"] == scores[0].tolist()
    assert said["label"] == int(scores[0].argmax())
    assert said["backend"] == "reference"
    assert said["seen"].startswith("data:image/png;base64,")


def test_sample_is_classified_without_a_script(page: Page) -> None:
    identity = page.model_ids()[-1]
    pool = page.chain.validator.pool(next(iter(page.chain.head.datasets)))
    scores = ReferenceEvaluator(pool).logits(page.explorer.models.read(identity).model, 2, 3)[0]
    text = page.get(f"/draw/{identity.hex()}?sample=2").text
    for label, score in enumerate(scores.tolist()):
        row = text[text.index(f'<th scope="row">{label}</th>') :]
        assert f'<td class="number">{score}</td>' in row[: row.index("</tr>")]


def test_classifying_changes_nothing(page: Page) -> None:
    before = (page.chain.head, page.chain.store.block_count(), len(page.explorer.mempool))
    for identity in page.model_ids():
        assert page.draw(identity, stroke().tobytes()).status_code == 200
    assert (page.chain.head, page.chain.store.block_count(), len(page.explorer.mempool)) == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": f"{ORIGIN}.evil.example"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": ORIGIN, "sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_cannot_ask(page: Page, headers: dict[str, str]) -> None:
    assert page.draw(page.model_ids()[0], stroke().tobytes(), headers).status_code == 403


def test_own_page_can_ask(page: Page) -> None:
    headers = {"origin": ORIGIN, "sec-fetch-site": "same-origin"}
    assert page.draw(page.model_ids()[0], stroke().tobytes(), headers).status_code == 200


@pytest.mark.parametrize(("size", "status"), [(0, 413), (784, 413), (DRAWING_BYTES + 1, 413), (10**7, 413)])
def test_body_is_bounded(page: Page, size: int, status: int) -> None:
    assert page.draw(page.model_ids()[0], b"\xff" * size).status_code == status


def test_chunked_body_is_bounded(page: Page) -> None:
    def parts() -> object:
        for _ in range(10_000):
            yield b"\xff" * 4_096

    answer = page.client.post(f"/classify/{page.model_ids()[0].hex()}", content=parts(), headers={"origin": ORIGIN})
    assert answer.status_code == 413


def test_empty_drawing_is_said(page: Page) -> None:
    answer = page.draw(page.model_ids()[0], bytes(DRAWING_BYTES))
    assert answer.status_code == 400
    assert "bad-drawing" in answer.json()["error"]


def test_unknown_model_is_said(page: Page) -> None:
    answer = page.client.post("/classify/" + "00" * 32, content=stroke().tobytes(), headers={"origin": ORIGIN})
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_busy_node_says_so(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnchain.web.model_pages.HEAVY_WAIT_S", 0.01)
    monkeypatch.setattr("threading.BoundedSemaphore.acquire", lambda *_arguments, **_options: False)
    answer = page.draw(page.model_ids()[0], stroke().tobytes())
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
