import json
from pathlib import Path

import numpy as np
import pytest
from kernels.oracle import oracle_class, oracle_logits

from bnnchain_kernels.golden import GoldenCase, find_difference, hash_logits, parse_case, self_check_cases
from bnnchain_kernels.reference import ReferenceEvaluator

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "kernels.json"
CASES = [parse_case(fields) for fields in json.loads(VECTORS.read_text(encoding="ascii"))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_naive_oracle_gives_the_golden_answers(case: GoldenCase) -> None:
    images = len(case.samples)
    logits = [oracle_logits(case.model, case.samples, image) for image in range(images)]
    right = [oracle_class(row) == label for row, label in zip(logits, case.samples.labels, strict=True)]
    assert [sum(right[block : block + 512]) for block in range(0, images, 512)] == list(case.correct)
    assert hash_logits(np.array(logits, np.int32).reshape(images, case.samples.classes)) == case.logits_sha256


def test_the_reference_gives_the_golden_answers() -> None:
    assert find_difference(ReferenceEvaluator, CASES) is None


def test_cases_survive_json() -> None:
    for case in CASES:
        assert parse_case(case.to_json()).to_json() == case.to_json()


def test_the_self_check_ships_the_first_golden_cases() -> None:
    shipped = [case.to_json() for case in self_check_cases()]
    assert shipped == [case.to_json() for case in CASES[: len(shipped)]]
    assert len(shipped) >= 8


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_depend_on_the_parameters(case: GoldenCase) -> None:
    """A vector that any model would satisfy checks nothing: flip one weight bit per layer, some logit must change."""
    if not len(case.samples):
        pytest.skip("no images, no logits")
    fields = case.to_json()
    rows = fields["weights"][-1]
    fields["weights"][-1] = f"{int(rows[:2], 16) ^ 1:02x}" + rows[2:]
    flipped = parse_case(fields)
    assert find_difference(ReferenceEvaluator, [flipped]) is not None
