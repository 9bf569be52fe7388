"""Every compiled backend equals the reference bit for bit, on every count and every logit."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from kernels.backends import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain_kernels.evaluator import Evaluator, EvaluatorFactory
    from bnnchain_kernels.model import Layer, Model
from random_networks import TAIL_IMAGES, random_architecture, random_model, random_samples

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples, count_correct, predict
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, build_model
from bnnchain_kernels.reference import ReferenceEvaluator

ARCHITECTURES = 240
MORE_ARCHITECTURES = 1000
ARCHITECTURES_PER_TEST = 20
FIRST_GROUPS = ARCHITECTURES // ARCHITECTURES_PER_TEST


@pytest.fixture(params=sorted(BACKENDS))
def factory(request: pytest.FixtureRequest) -> EvaluatorFactory:
    return BACKENDS[request.param]


def assert_equal(factory: EvaluatorFactory, samples: Samples, model: Model) -> None:
    reference, evaluator = ReferenceEvaluator(samples), factory(samples)
    images = len(samples)
    counts, logits = evaluator.correct(model, 0, images), evaluator.logits(model, 0, images)
    assert counts.dtype == logits.dtype == np.int32
    np.testing.assert_array_equal(counts, reference.correct(model, 0, images))
    np.testing.assert_array_equal(logits, reference.logits(model, 0, images))


def test_some_backend_is_compared() -> None:
    assert BACKENDS


@pytest.mark.parametrize("group", range(FIRST_GROUPS))
def test_random_architectures(factory: EvaluatorFactory, group: int) -> None:
    for seed in range(group * ARCHITECTURES_PER_TEST, (group + 1) * ARCHITECTURES_PER_TEST):
        rng = np.random.default_rng(seed)
        architecture = random_architecture(rng)
        model = random_model(rng, architecture)
        samples = random_samples(rng, architecture, int(rng.choice(TAIL_IMAGES)), model)
        try:
            assert_equal(factory, samples, model)
        except AssertionError as error:
            pytest.fail(f"seed {seed}, {architecture}: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("group", range(FIRST_GROUPS, MORE_ARCHITECTURES // ARCHITECTURES_PER_TEST))
def test_more_random_architectures(group: int) -> None:
    """Up to a thousand for every backend and instruction set; the reference, the slow one, answers each once."""
    for seed in range(group * ARCHITECTURES_PER_TEST, (group + 1) * ARCHITECTURES_PER_TEST):
        rng = np.random.default_rng(seed)
        architecture = random_architecture(rng)
        model = random_model(rng, architecture)
        images = int(rng.choice(TAIL_IMAGES))
        samples = random_samples(rng, architecture, images, model)
        reference = ReferenceEvaluator(samples)
        counts, logits = reference.correct(model, 0, images), reference.logits(model, 0, images)
        for name, factory in BACKENDS.items():
            evaluator = factory(samples)
            context = f"seed {seed}, {name}, {architecture}"
            np.testing.assert_array_equal(evaluator.correct(model, 0, images), counts, context)
            np.testing.assert_array_equal(evaluator.logits(model, 0, images), logits, context)


def test_every_tail(factory: EvaluatorFactory) -> None:
    rng = np.random.default_rng(7)
    architecture = Architecture(4, 3, 1, (Conv3x3(2), Dense(3)))
    model = random_model(rng, architecture)
    whole = random_samples(rng, architecture, 1024, model)
    counts = ReferenceEvaluator(whole).logits(model, 0, 1024).argmax(axis=1) == whole.labels
    for images in range(1, 512):
        samples = whole.take(np.arange(512 + images, dtype=np.int32))
        got = factory(samples).correct(model, 0, 512 + images)
        assert got.tolist() == [counts[:512].sum(), counts[512 : 512 + images].sum()], f"tail of {images}"


@pytest.mark.parametrize(
    ("size", "layers", "images"),
    [
        pytest.param((28, 28, 1), (Conv3x3(4, True), Conv3x3(16, True), Conv3x3(24, True), Dense(10)), 600, id="4k"),
        pytest.param((5, 5, 64), (Conv3x3(130), Conv3x3(3), Dense(2)), 70, id="many channels"),
        pytest.param((64, 48, 2), (Dense(3), Dense(4)), 5, id="several chunks of a dense layer"),
        pytest.param((256, 256, 16), (Dense(2),), 2, id="largest fan-in"),
        pytest.param((256, 3, 1), (Conv3x3(1, False), Dense(256)), 9, id="tall and 256 classes"),
        pytest.param((3, 256, 1), (Conv3x3(4096), Dense(2)), 2, id="most channels"),
        pytest.param((6, 6, 3), (Conv3x3(2),) * 2 + (Dense(5),) * 14, 40, id="sixteen layers"),
    ],
)
def test_extreme_architectures(
    factory: EvaluatorFactory, size: tuple[int, int, int], layers: tuple[Layer, ...], images: int
) -> None:
    rng = np.random.default_rng(images)
    architecture = Architecture(*size, layers)
    model = random_model(rng, architecture)
    assert_equal(factory, random_samples(rng, architecture, images, model), model)


@pytest.mark.parametrize("limit", [0, 1])
def test_thresholds_at_their_bounds(factory: EvaluatorFactory, limit: int) -> None:
    """A threshold of 0 always fires, one of K+1 never does."""
    rng = np.random.default_rng(3)
    architecture = Architecture(6, 6, 2, (Conv3x3(3), Conv3x3(2, True), Dense(3), Dense(4)))
    weights = [rng.random((place.out_channels, place.fan_in)) < 0.5 for place in architecture.geometry]
    limits = [np.full(place.out_channels, limit * (place.fan_in + 1)) for place in architecture.geometry[:-1]]
    model = build_model(architecture, weights, limits, [0, 1, 0, 1])
    samples = random_samples(rng, architecture, 100)
    assert_equal(factory, samples, model)
    logits = factory(samples).logits(model, 0, 100)
    assert (logits == logits[0]).all(), "constant activations must give the same logits for every image"


def test_ties_go_to_the_lowest_class(factory: EvaluatorFactory) -> None:
    rng = np.random.default_rng(4)
    architecture = Architecture(3, 3, 1, (Dense(7),))
    row = rng.random((1, 9)) < 0.5
    samples = random_samples(rng, architecture, 700)
    for biases, winner in (([0] * 7, 0), ([-5, 2, 2, 1, 2, 0, 2], 1), ([0, 0, 0, 0, 0, 0, 1], 6)):
        model = build_model(architecture, [np.repeat(row, 7, axis=0)], [], biases)
        assert_equal(factory, samples, model)
        assert set(predict(factory(samples).logits(model, 0, 700)).tolist()) == {winner}


def test_ranges_are_parts_of_the_whole(factory: EvaluatorFactory) -> None:
    rng = np.random.default_rng(5)
    architecture = Architecture(6, 5, 1, (Conv3x3(3), Dense(4)))
    model = random_model(rng, architecture)
    samples = random_samples(rng, architecture, 1500, model)
    evaluator = factory(samples)
    counts, logits = evaluator.correct(model, 0, 1500), evaluator.logits(model, 0, 1500)
    assert evaluator.correct(model, 512, 1024).tolist() == counts[1:2].tolist()
    assert evaluator.correct(model, 1024, 1500).tolist() == counts[2:].tolist()
    assert evaluator.correct(model, 512, 512).tolist() == []
    assert evaluator.logits(model, 700, 700).shape == (0, 4)
    for start, stop in ((0, 1), (511, 513), (63, 65), (1499, 1500), (100, 1400), (512, 1024)):
        np.testing.assert_array_equal(evaluator.logits(model, start, stop), logits[start:stop])
    assert count_correct(evaluator, model, 1500) == counts.sum()


def test_no_samples(factory: EvaluatorFactory) -> None:
    architecture = Architecture(3, 3, 1, (Dense(2),))
    rng = np.random.default_rng(6)
    evaluator = factory(random_samples(rng, architecture, 0))
    model = random_model(rng, architecture)
    assert evaluator.correct(model, 0, 0).tolist() == []
    assert evaluator.logits(model, 0, 0).shape == (0, 2)


def test_many_models_alternate_on_one_evaluator(factory: EvaluatorFactory) -> None:
    """Prepared models are remembered; a stale one, or one's scratch memory in another's, must never show."""
    rng = np.random.default_rng(8)
    shapes = [(Conv3x3(3), Dense(3)), (Dense(40), Dense(3)), (Conv3x3(2, True), Dense(9), Dense(3))]
    models = [random_model(rng, Architecture(7, 7, 1, shapes[turn % 3])) for turn in range(24)]
    samples = random_samples(rng, models[0].architecture, 520, models[0])
    reference, evaluator = ReferenceEvaluator(samples), factory(samples)
    expected = [reference.correct(model, 0, 520).tolist() for model in models]
    for turn in rng.integers(0, 24, 120):
        assert evaluator.correct(models[turn], 0, 520).tolist() == expected[turn]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(factory: EvaluatorFactory, threads: int) -> None:
    rng = np.random.default_rng(9)
    architecture = Architecture(8, 8, 1, (Conv3x3(5, True), Dense(10)))
    model = random_model(rng, architecture)
    samples = random_samples(rng, architecture, 512 * 13 + 77, model)
    reference = ReferenceEvaluator(samples)
    evaluator = factory(samples, threads=threads)
    np.testing.assert_array_equal(evaluator.correct(model, 0, len(samples)), reference.correct(model, 0, len(samples)))
    np.testing.assert_array_equal(evaluator.logits(model, 3, 6000), reference.logits(model, 3, 6000))


def test_one_evaluator_from_many_threads(factory: EvaluatorFactory) -> None:
    rng = np.random.default_rng(10)
    shapes = [(Conv3x3(6, True), Conv3x3(4), Dense(5)), (Dense(30), Dense(5))]
    models = [random_model(rng, Architecture(9, 9, 1, shapes[turn % 2])) for turn in range(12)]
    samples = random_samples(rng, models[0].architecture, 1300, models[0])
    reference, evaluator = ReferenceEvaluator(samples), factory(samples, threads=2)
    expected = [reference.correct(model, 0, 1300).tolist() for model in models]
    wrong = []

    def work(order: Sequence[int]) -> None:
        wrong.extend(turn for turn in order if evaluator.correct(models[turn], 0, 1300).tolist() != expected[turn])

    workers = [threading.Thread(target=work, args=(rng.permutation(12).repeat(4),)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize("name", ["reference", *sorted(BACKENDS)])
class TestInvalid:
    def evaluator(self, name: str) -> Evaluator:
        rng = np.random.default_rng(11)
        samples = random_samples(rng, Architecture(5, 4, 2, (Dense(3),)), 600)
        return (BACKENDS.get(name) or ReferenceEvaluator)(samples)

    @pytest.mark.parametrize("size", [(4, 5, 2, 3), (5, 4, 1, 3), (5, 4, 2, 4), (6, 4, 2, 3)])
    def test_a_network_that_does_not_fit(self, name: str, size: tuple[int, ...]) -> None:
        height, width, planes, classes = size
        model = random_model(np.random.default_rng(0), Architecture(height, width, planes, (Dense(classes),)))
        for call in (self.evaluator(name).correct, self.evaluator(name).logits):
            with pytest.raises(Invalid) as caught:
                call(model, 0, 512)
            assert caught.value.code == "bad-architecture"

    @pytest.mark.parametrize("bounds", [(-512, 0), (0, 601), (512, 0), (1024, 1024), (0, 511), (1, 512), (100, 600)])
    def test_a_range_that_is_not_whole_blocks(self, name: str, bounds: tuple[int, int]) -> None:
        model = random_model(np.random.default_rng(0), Architecture(5, 4, 2, (Dense(3),)))
        with pytest.raises(ValueError, match="range"):
            self.evaluator(name).correct(model, *bounds)

    @pytest.mark.parametrize("bounds", [(-1, 0), (0, 601), (5, 4)])
    def test_a_range_outside_the_samples(self, name: str, bounds: tuple[int, int]) -> None:
        model = random_model(np.random.default_rng(0), Architecture(5, 4, 2, (Dense(3),)))
        with pytest.raises(ValueError, match="range"):
            self.evaluator(name).logits(model, *bounds)


def test_counts_are_of_labels_not_of_images(factory: EvaluatorFactory) -> None:
    """All labels right, then all wrong: the extremes of the count."""
    rng = np.random.default_rng(12)
    architecture = Architecture(5, 5, 1, (Conv3x3(4), Dense(6)))
    model = random_model(rng, architecture)
    samples = random_samples(rng, architecture, 777)
    answers = predict(ReferenceEvaluator(samples).logits(model, 0, 777))
    right = Samples(5, 5, 1, 6, samples.images, answers)
    wrong = Samples(5, 5, 1, 6, samples.images, ((answers + 1) % 6).astype(np.uint8))
    assert factory(right).correct(model, 0, 777).tolist() == [512, 265]
    assert factory(wrong).correct(model, 0, 777).tolist() == [0, 0]
