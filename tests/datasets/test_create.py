from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bnnchain.datasets import create as create_module
from bnnchain.datasets.create import CreatedDataset, CreateRequest, create_dataset
from bnnchain.datasets.dataset import dataset_from_payloads
from bnnchain.datasets.labelled import LabelledImages, Source
from bnnchain.datasets.manifest import decode_manifest, encode_manifest
from bnnchain.datasets.payload import encode_payload
from bnnchain_kernels.errors import Invalid

REQUEST = CreateRequest("mine", "CC0-1.0", "tests", b"s" * 32, seed=3)


def draw(counts: tuple[int, ...], seed: int = 1, **fields: Any) -> LabelledImages:
    """Distinct random images, ``counts[c]`` of class c."""
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 8, 9)).astype(np.uint8)
    names = tuple(f"class {number}" for number in range(len(counts)))
    return LabelledImages(pixels, labels, names, **fields)


def refused(images: LabelledImages, hidden: LabelledImages | None = None, **changes: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        create_dataset(Source(images, hidden), replace(REQUEST, **changes))
    return caught.value


def per_class(created: CreatedDataset) -> tuple[list[int], list[int]]:
    samples = created.dataset.pool, created.dataset.heldout
    return tuple(np.bincount(each.labels, minlength=each.classes).tolist() for each in samples)  # type: ignore[return-value]


def test_every_class_is_split_by_itself() -> None:
    created = create_dataset(Source(draw((50, 20, 7))), replace(REQUEST, hidden_bp=2_000))
    assert per_class(created) == ([40, 16, 6], [10, 4, 1])
    assert created.dropped == ()
    assert created.dataset.manifest.hidden_size == 15


def test_every_image_is_there_once_with_its_label() -> None:
    images = draw((30, 30))
    created = create_dataset(Source(images), replace(REQUEST, thresholds=b"\x20\x80\xe0"))
    got = [
        (part.unpack(index, index + 1)[0].sum(axis=2).astype(np.uint8).tobytes(), int(part.labels[index]))
        for part in (created.dataset.pool, created.dataset.heldout)
        for index in range(len(part))
    ]
    levels = (images.pixels[..., None] >= np.array([0x20, 0x80, 0xE0])).sum(axis=3).astype(np.uint8)
    wanted = [(each.tobytes(), int(label)) for each, label in zip(levels, images.labels, strict=True)]
    assert sorted(got) == sorted(wanted)


def test_the_order_is_shuffled_so_that_any_beginning_is_a_sample() -> None:
    labels = create_dataset(Source(draw((200, 200))), REQUEST).dataset.pool.labels
    assert 30 < int(labels[:100].sum()) < 70


def test_the_same_request_gives_the_same_data_set_and_another_seed_another() -> None:
    source = Source(draw((40, 40)))
    first, again = create_dataset(source, REQUEST), create_dataset(source, REQUEST)
    assert first.dataset.manifest == again.dataset.manifest
    assert first.dataset.manifest != create_dataset(source, replace(REQUEST, seed=4)).dataset.manifest


def test_manifest_and_payloads_are_read_back_with_the_salt_alone() -> None:
    created = create_dataset(Source(draw((40, 40))), REQUEST)
    manifest = decode_manifest(encode_manifest(created.dataset.manifest))
    pool, hidden = encode_payload(created.dataset.pool), encode_payload(created.dataset.heldout)
    assert len(dataset_from_payloads(manifest, pool, hidden, salt=created.salt).heldout) == 8
    with pytest.raises(Invalid, match="bad-samples"):
        dataset_from_payloads(manifest, pool, hidden)
    other = create_dataset(Source(draw((40, 40))), replace(REQUEST, secret=b"t" * 32)).dataset.manifest
    assert (other.pool_root, other.hidden_root == manifest.hidden_root) == (manifest.pool_root, False)


def test_nothing_may_be_held_out() -> None:
    created = create_dataset(Source(draw((9, 9))), replace(REQUEST, hidden_bp=0))
    assert per_class(created) == ([9, 9], [0, 0])


def test_a_small_class_gives_one_image_and_keeps_the_rest() -> None:
    created = create_dataset(Source(draw((100, 6))), REQUEST)
    assert per_class(created) == ([90, 5], [10, 1])
    assert created.warnings == ("class 'class 1' is 18 times rarer than the commonest",)


def test_a_split_of_the_sources_own_is_kept() -> None:
    created = create_dataset(Source(draw((10, 10)), draw((4, 4), seed=2)), REQUEST)
    assert per_class(created) == ([10, 10], [4, 4])


def test_thresholds_do_not_look_at_held_out_pixels() -> None:
    pool, hidden = draw((10, 10)), draw((4, 4), seed=2)
    dark = LabelledImages(np.maximum(hidden.pixels, 60), hidden.labels, hidden.class_names)
    first, second = (create_dataset(Source(pool, each), REQUEST).dataset.manifest for each in (hidden, dark))
    assert first.thresholds == second.thresholds


def test_duplicates_go_the_pools_first_one_stays() -> None:
    pool, hidden = draw((10, 10)), draw((4, 4), seed=2)
    pool.pixels[3], hidden.pixels[1] = pool.pixels[2], pool.pixels[7]
    created = create_dataset(Source(pool, hidden), REQUEST)
    assert per_class(created) == ([9, 10], [3, 4])
    assert sorted(created.dropped, key=len) in (
        [f"image {a} equals image {b}", "held-out image 1 equals image 7 across the split"] for a, b in ((2, 3), (3, 2))
    )


def test_images_that_only_thresholds_make_equal_are_duplicates_too() -> None:
    images = draw((10, 10))
    images.pixels[5] = np.where(images.pixels[4] >= 100, 255, 0)
    assert len(create_dataset(Source(images), replace(REQUEST, thresholds=b"\x64")).dropped) == 1
    assert len(create_dataset(Source(images), replace(REQUEST, thresholds=b"\x64\xc8")).dropped) == 0


def test_equal_images_of_different_classes_are_refused_by_name_or_all_dropped() -> None:
    images = draw((10, 10), names=tuple(f"{number}.png" for number in range(20)))
    images.pixels[15] = images.pixels[2]
    error = refused(images)
    assert (error.code, error.values["conflicts"]) == ("bad-dataset", 1)
    assert {"2.png ('class 0')", "15.png ('class 1')"} == set(str(error.values["reason"]).split(": ")[1].split(", "))
    created = create_dataset(Source(images), replace(REQUEST, drop_conflicts=True))
    assert sum(map(sum, per_class(created))) == 18
    assert len(created.dropped) == 1


def test_too_few_images_of_a_class_are_refused_by_name() -> None:
    assert refused(draw((20, 1))).values["name"] == "'class 1'"
    assert refused(draw((20, 0, 9))).values["images"] == 0
    assert refused(draw((20, 5, 9))).values["classes"] == ["'class 1': 4"]


def test_duplicates_may_leave_too_few_of_a_class() -> None:
    images = draw((20, 20))
    images.pixels[20:36] = images.pixels[20]
    assert refused(images).values["classes"] == ["'class 1': 4"]


def test_a_class_that_is_not_held_out_is_warned_of() -> None:
    created = create_dataset(Source(draw((10, 10)), draw((4, 0), seed=2)), REQUEST)
    assert created.warnings == ("no held-out image of 'class 1'",)


def test_the_majority_says_what_to_state_when_uploading() -> None:
    created = create_dataset(Source(draw((61, 38, 5))), replace(REQUEST, hidden_bp=0))
    assert (created.majority, created.least_accuracy_bp) == (61, 5_866 + 1_000)
    alike = create_dataset(Source(draw((95, 5))), replace(REQUEST, hidden_bp=0))
    assert alike.least_accuracy_bp == 10_000


def test_limits_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create_module, "MAX_PAYLOAD_BYTES", 200)
    error = refused(draw((20, 20)))
    assert (error.values["reason"], error.values["images"], error.values["fit"]) == ("payload too large", 36, 20)


@pytest.mark.parametrize(
    "changes",
    [{"name": "Not a name"}, {"licence": ""}, {"origin": ""}, {"origin": "\x1b[2J"}, {"licence": "x" * 65}]
    + [{"thresholds": levels} for levels in (b"\x00", b"\x05\x05", b"\x05\x04", bytes(range(1, 66)))],
)
def test_what_the_manifest_would_refuse_is_refused_before_anything_is_read(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="bad-manifest"):
        replace(REQUEST, **changes)


def test_a_short_secret_and_an_empty_pool_are_refused() -> None:
    for changes in ({"secret": b"short"}, {"hidden_bp": 10_000}, {"hidden_bp": -1}):
        with pytest.raises(Invalid, match="bad-dataset"):
            replace(REQUEST, **changes)


@pytest.mark.parametrize(
    "fields",
    [
        {"pixels": np.zeros((2, 3), np.uint8)},
        {"pixels": np.zeros((2, 3, 3), np.int64)},
        {"pixels": np.zeros((2, 257, 3), np.uint8)},
        {"pixels": np.zeros((2, 0, 3), np.uint8)},
        {"pixels": np.zeros((3, 3, 3), np.uint8)},
        {"labels": np.array([0, 2], np.uint8)},
        {"class_names": ("one",)},
        {"class_names": tuple(map(str, range(257)))},
        {"names": ("one",)},
    ],
)
def test_images_that_do_not_fit_each_other_are_refused(fields: dict[str, Any]) -> None:
    whole = {"pixels": np.zeros((2, 3, 3), np.uint8), "labels": np.array([0, 1], np.uint8), "class_names": ("a", "b")}
    LabelledImages(**whole)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="bad-source"):
        LabelledImages(**{**whole, **fields})  # type: ignore[arg-type]
