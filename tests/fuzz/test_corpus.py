"""The kept corpus and seeded changes of it on every Python: what fuzzing once reached stays well."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz.target import REFUSED, Target, canonical, mutate_bytes, refusals
from fuzz.targets import TARGETS

from bnnchain_kernels.errors import Fault, Invalid, Unavailable

CORPUS = Path(__file__).parent / "corpus"
MAX_CORPUS_BYTES = 1 << 20
ROUNDS = {"judge": 40, "rpc": 30, "onnx": 40}
"""Changed inputs by target; these judge whole blocks or run a node, the others take ``DEFAULT_ROUNDS``."""
DEFAULT_ROUNDS = 200
SLOW_INPUTS = 40
"""Kept inputs of those targets that are replayed here; the fuzzer itself replays all."""


def inputs(target: Target) -> list[bytes]:
    """Return the target's seeds and its kept corpus, smallest inputs first."""
    kept = sorted((path.read_bytes() for path in (CORPUS / target.name).iterdir()), key=lambda data: (len(data), data))
    return [*target.seeds(), *kept]


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    found = TARGETS[request.param]
    if found.needs and find_spec(found.needs) is None:
        pytest.skip(f"{found.needs} is not installed")
    return found


def test_seeds_are_accepted(target: Target) -> None:
    """At least one of them wholly, so that the fuzzer starts behind every check."""
    clean = 0
    for data in target.seeds():
        before = REFUSED.total()
        target.run(data)
        clean += REFUSED.total() == before
    assert clean or target.name in {"text", "idx"}  # these read each input in several ways: one at least refuses it


def test_the_kept_corpus_is_well(target: Target) -> None:
    made = inputs(target)
    if target.name in ROUNDS:
        made = made[: len(target.seeds())] + random.Random(0).sample(made, min(SLOW_INPUTS, len(made)))
    for data in made:
        target.run(data)


@pytest.mark.parametrize("seed", range(2))
def test_changed_inputs_are_well(target: Target, seed: int) -> None:
    rng = random.Random(f"{target.name} {seed}")
    made, mutate = inputs(target), target.mutate or mutate_bytes
    for number in range(ROUNDS.get(target.name, DEFAULT_ROUNDS)):
        data = mutate(rng.choice(made), rng)
        try:
            target.run(data)
        except Exception as error:
            message = f"{target.name}, seed {seed}, number {number}: {data.hex()}"
            raise AssertionError(message) from error


def test_the_corpus_is_small_and_every_target_has_one() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) <= MAX_CORPUS_BYTES


# The oracles can fail.


def test_a_second_spelling_is_found() -> None:
    run = canonical(lambda data: data.rstrip(b"\0"), lambda value: value)
    run(b"a")
    with pytest.raises(AssertionError, match="6100 is accepted and written as 61"):
        run(b"a\0")


@pytest.mark.parametrize(
    "error",
    [
        Fault("disk"),
        ValueError("x"),
        MemoryError(),
        Unavailable("\x1b[2J"),
        Unavailable("x" * 9_999),
    ],
)
def test_other_errors_and_texts_that_reach_a_terminal_are_found(error: Exception) -> None:
    with pytest.raises(AssertionError if isinstance(error, Unavailable) else type(error)), refusals():
        raise error


def test_a_code_that_the_decoder_does_not_own_is_found() -> None:
    with pytest.raises(AssertionError, match="bad-claim"), refusals("bad-encoding"):
        raise Invalid("bad-claim")
