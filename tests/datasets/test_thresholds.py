from __future__ import annotations

import numpy as np
import pytest

from bnnchain.datasets.thresholds import histogram, otsu, quantiles
from bnnchain_kernels.errors import Invalid


def refused(counts: np.ndarray, planes: int) -> str:
    with pytest.raises(Invalid, match="bad-thresholds") as caught:
        quantiles(counts, planes) if planes > 1 else otsu(counts)
    return str(caught.value.values["reason"])


@pytest.mark.parametrize("seed", range(20))
def test_otsu_is_the_threshold_of_the_largest_variance_between(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.choice(rng.integers(0, 256, 12), (3, 8, 8)).astype(np.uint8)
    counts = histogram(pixels)
    assert counts.tolist() == np.bincount(pixels.reshape(-1), minlength=256).tolist()

    def spread(threshold: int) -> float:
        bright = pixels[pixels >= threshold].astype(float)
        dark = pixels[pixels < threshold].astype(float)
        if not len(bright) or not len(dark):
            return 0.0
        return len(bright) * len(dark) * (bright.mean() - dark.mean()) ** 2

    best = max(spread(threshold) for threshold in range(1, 256))
    assert spread(otsu(counts)[0]) == pytest.approx(best, rel=1e-12)


def test_two_grey_values_are_parted_in_the_middle() -> None:
    assert otsu(histogram(np.array([[[0, 255, 255, 0]]], np.uint8))) == bytes([128])
    assert otsu(histogram(np.array([[[7, 8]]], np.uint8))) == bytes([8])


def test_one_grey_value_cannot_be_parted() -> None:
    assert "same grey value" in refused(histogram(np.full((2, 3, 3), 9, np.uint8)), 1)


def test_quantiles_part_the_foreground_evenly() -> None:
    ramp = np.arange(1, 256, dtype=np.uint8)
    pixels = np.concatenate([np.zeros(5_000, np.uint8), ramp, ramp])[None, None]
    assert list(quantiles(histogram(pixels), 3)) == [64, 128, 192]


def test_quantiles_rise_strictly_and_start_at_one() -> None:
    pixels = np.array([[[200] * 50 + [0] * 10 + [1] * 2 + [3]]], np.uint8)
    thresholds = list(quantiles(histogram(pixels), 3))
    assert thresholds == sorted(set(thresholds))
    assert thresholds[0] >= 1


@pytest.mark.parametrize("seed", range(20))
def test_quantiles_of_any_picture_are_a_manifests_thresholds_or_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, int(rng.integers(1, 20)))
    counts = histogram(rng.choice(values, (2, 9, 9)).astype(np.uint8))
    planes = int(rng.integers(2, 8))
    if len(np.flatnonzero(counts)) <= planes:
        assert refused(counts, planes) == "too few grey values"
        return
    try:
        thresholds = list(quantiles(counts, planes))
    except Invalid:
        # Many values crowded at the bright end leave no room to rise.
        assert np.flatnonzero(counts)[-1] >= 255 - planes
        return
    assert len(thresholds) == planes
    assert thresholds == sorted(set(thresholds))
    assert 1 <= thresholds[0] <= thresholds[-1] <= 255


def test_more_planes_than_grey_values_are_refused() -> None:
    counts = histogram(np.array([[[0, 128, 255]]], np.uint8))
    assert len(quantiles(counts, 2)) == 2
    assert refused(counts, 3) == "too few grey values"
    assert refused(counts, 65) == "planes"
