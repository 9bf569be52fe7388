from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import outcome, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures, models

from bnnchain.bnn.bits import BitWriter
from bnnchain.bnn.encoding import (
    BIAS_BITS,
    MAX_WIRE_BYTES,
    apply_difference,
    apply_flips,
    canonical_bytes,
    decode_model,
    encode_architecture,
    encode_difference,
    encode_model,
    flat_weights,
    flip_positions,
    model_hash,
    read_architecture,
    shape_hash,
    split_weights,
    threshold_bits,
    wire_size_bytes,
)
from bnnchain.bnn.zoo import ZOO
from bnnchain.wire import Reader, tagged_hash
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import MAX_ABS_BIAS, Architecture, Dense, Model, build_model


@st.composite
def model_pairs(draw: st.DrawFn) -> tuple[Model, Model]:
    first = draw(models())
    return first, draw(models(first.architecture))


def code(data: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        decode_model(data)
    return caught.value.code


SMALL = build_model(
    Architecture(1, 3, 1, (Dense(2), Dense(2))),
    [[[True, False, True], [False, False, True]], [[True, True], [False, True]]],
    [[1, 4]],
    [0, 0],
)


@given(architectures())
def test_architectures_come_back(shape: Architecture) -> None:
    reader = Reader(encode_architecture(shape))
    assert read_architecture(reader) == shape
    assert reader.remaining == 0
    assert shape_hash(shape) == tagged_hash("shape", encode_architecture(shape))


@given(st.binary(max_size=40))
def test_any_bytes_are_an_architecture_in_its_one_spelling_or_refused(data: bytes) -> None:
    reader = Reader(data)
    shape = outcome(lambda: read_architecture(reader))
    if isinstance(shape, str):
        assert shape in ("bad-encoding", "bad-architecture")
        return
    assert encode_architecture(shape) == data[: len(data) - reader.remaining]


@given(models())
def test_models_come_back(model: Model) -> None:
    data = encode_model(model)
    again = decode_model(data)
    assert canonical_bytes(again) == canonical_bytes(model)
    assert encode_model(again) == data
    assert len(data) == wire_size_bytes(model.architecture, has_biases=bool(model.biases.any()))
    assert model_hash(again) == tagged_hash("model", canonical_bytes(model))


@given(models(), st.data())
def test_a_changed_wire_form_is_another_model_or_refused(model: Model, data: st.DataObject) -> None:
    wire = bytearray(encode_model(model))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = bytes(wire)
    other = outcome(lambda: decode_model(changed))
    if isinstance(other, str):
        assert other in ("bad-encoding", "bad-architecture", "bad-model")
        return
    assert encode_model(other) == changed
    assert (changed == encode_model(model)) == (model_hash(other) == model_hash(model))


@given(models(), st.integers(1, 60))
def test_a_cut_wire_form_is_refused(model: Model, cut: int) -> None:
    assert code(encode_model(model)[:-cut]) in ("bad-encoding", "bad-architecture")
    assert code(encode_model(model) + bytes(cut)) == "bad-encoding"


def test_the_wire_form_bit_by_bit() -> None:
    shape = encode_architecture(SMALL.architecture)
    assert shape.hex() == "0100" + "0300" + "01" + "02" + "020200" + "020200"
    # weights 101 001 11 01, thresholds 1 and 4 in 3 bits each (LSB first), no biases
    bits = [1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0]
    assert encode_model(SMALL) == shape + np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()
    assert encode_model(SMALL).hex().endswith("e58600")


def test_biases_take_one_bit_if_zero_and_22_each_otherwise() -> None:
    biased = replace(SMALL, biases=np.array([-MAX_ABS_BIAS, MAX_ABS_BIAS], np.int32))
    assert (2 * MAX_ABS_BIAS).bit_length() == BIAS_BITS
    assert len(encode_model(biased)) - len(encode_model(SMALL)) == -(-(17 + 44) // 8) - -(-17 // 8)
    assert (decode_model(encode_model(biased)).biases == biased.biases).all()


def with_bits(model: Model, positions: dict[int, int]) -> bytes:
    """Return a wire form with bits behind the shape set by hand."""
    size = len(encode_architecture(model.architecture))
    bits = np.unpackbits(np.frombuffer(encode_model(model)[size:], np.uint8), bitorder="little")
    for position, bit in positions.items():
        bits[position] = bit
    return encode_model(model)[:size] + np.packbits(bits, bitorder="little").tobytes()


def test_what_is_not_canonical_is_refused() -> None:
    biased = replace(SMALL, biases=np.array([1, 0], np.int32))
    assert code(with_bits(SMALL, {23: 1})) == "bad-encoding", "padding"
    assert code(with_bits(SMALL, {16: 1})) == "bad-encoding", "biases announced and not there"
    assert code(with_bits(biased, {16: 0})) == "bad-encoding", "biases there and not announced"
    assert code(with_bits(biased, {17: 0})) == "bad-encoding", "zero biases spelt out"
    assert code(with_bits(SMALL, {10: 1, 11: 0, 12: 1})) == "bad-model", "threshold 5 with fan-in 3"
    assert code(with_bits(biased, {17 + 21: 1, 17 + 20: 1})) == "bad-model", "bias above the limit"


def test_the_size_is_known_before_anything_is_read() -> None:
    huge = Architecture(256, 256, 16, (Dense(4096), Dense(2)))
    assert wire_size_bytes(huge, has_biases=False) > MAX_WIRE_BYTES
    assert code(encode_architecture(huge)) == "bad-encoding"
    assert code(encode_architecture(huge) + bytes(MAX_WIRE_BYTES)) == "bad-encoding"


@pytest.mark.parametrize(("fan_in", "bits"), [(1, 2), (2, 2), (3, 3), (6, 3), (7, 4), (9, 4), (36, 6), (144, 8)])
def test_threshold_bits_hold_zero_to_fan_in_plus_one(fan_in: int, bits: int) -> None:
    assert threshold_bits(fan_in) == bits == int(np.ceil(np.log2(fan_in + 2)))


@given(model_pairs())
def test_differences_come_back(pair: tuple[Model, Model]) -> None:
    parent, child = pair
    again = apply_difference(parent, encode_difference(parent, child))
    assert canonical_bytes(again) == canonical_bytes(child)
    assert encode_difference(parent, again) == encode_difference(parent, child)


@given(models(), st.data())
@settings(max_examples=200)
def test_a_changed_difference_is_another_child_or_refused(parent: Model, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, min(9, parent.architecture.weight_count)))
    flips = np.random.default_rng(count).choice(parent.architecture.weight_count, count, replace=False)
    difference = bytearray(encode_difference(parent, apply_flips(parent, flips.astype(np.int64))))
    for _ in range(data.draw(st.integers(1, 3))):
        difference[data.draw(st.integers(0, len(difference) - 1))] = data.draw(st.integers(0, 255))
    child = outcome(lambda: apply_difference(parent, bytes(difference)))
    if isinstance(child, str):
        assert child in ("bad-encoding", "bad-model")
        return
    assert encode_difference(parent, child) == bytes(difference)


def bits(text: str) -> bytes:
    """Return bytes of bits that stand in ``text`` in their order; anything else in it is for the eye."""
    return np.packbits([letter == "1" for letter in text if letter in "01"], bitorder="little").tobytes()


def test_a_difference_bit_by_bit() -> None:
    child = replace(apply_flips(SMALL, np.array([9, 0, 2])), biases=np.array([0, -5], np.int32))
    child = replace(child, thresholds=(np.array([1, 0], np.int32),))
    flips = "001 00, 10000, 1 1 0001, 0 1 0"  # three; parameter 1; gaps 0, 1, 6 as 0, 0, 3 and 0, 1, 0
    thresholds = "01 0, 00000, 01, 01000, 01, 11"  # one; parameter 0; gap 1; parameter 2; -4 is 7, as 1 and 3
    biases = "01 0, 00000, 01, 01000, 001, 10"  # one; parameter 0; gap 1; parameter 2; -5 is 9, as 2 and 1
    assert SMALL.thresholds[0].tolist() == [1, 4]
    assert encode_difference(SMALL, child) == bits(flips + thresholds + biases)
    assert encode_difference(SMALL, SMALL) == bits("1 1 1")


def refused(difference: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        apply_difference(SMALL, difference)
    return caught.value.code


NO_FLIPS, NO_THRESHOLDS, NO_BIASES = "1", "1", "1"


def test_what_a_difference_may_not_say() -> None:
    """Unsorted or doubled positions and changes of nothing cannot be said at all."""
    for what, text in {
        "a flip past the end": "01 0, 11000, 01, 010" + NO_THRESHOLDS + NO_BIASES,
        "more flips than weights": "0001 001" + "0" * 40,
        "a count of 2**32": "0" * 32 + "1" * 40,
        "a count without an end": "0" * 64,
        "flips without an end": "01 0, 00000, 00000000",
        "low parts cut off": "01 0, 11111, 1, 000",
        "a parameter too small": "01 0, 10000, 0001, 0" + NO_THRESHOLDS + NO_BIASES,
        "a parameter too large": "01 0, 11000, 1, 100" + NO_THRESHOLDS + NO_BIASES,
        "the larger of two equal parameters": "01 0, 10000, 1, 1" + NO_THRESHOLDS + NO_BIASES,
        "a threshold past the end": NO_FLIPS + "01 0, 10000, 01, 0, 00000, 1" + NO_BIASES,
        "more thresholds than there are": NO_FLIPS + "001 00, 00000, 1 1 1, 00000, 1 1 1" + NO_BIASES,
        "a threshold without its change": NO_FLIPS + "01 0, 00000, 1",
        "a bias past the end": NO_FLIPS + NO_THRESHOLDS + "01 0, 10000, 01, 0, 00000, 1",
        "a bias of more than 32 bits": NO_FLIPS + NO_THRESHOLDS + "01 0, 00000, 1, 11111, 001" + "0" * 31,
        "a padding bit": NO_FLIPS + NO_THRESHOLDS + NO_BIASES + "0 1",
    }.items():
        assert refused(bits(text)) == "bad-encoding", what
    whole = NO_FLIPS + NO_THRESHOLDS + NO_BIASES
    assert refused(b"") == "bad-encoding", "nothing"
    assert refused(bits(whole) + b"\0") == "bad-encoding", "trailing byte"
    assert refused(bits(whole) + bytes(MAX_WIRE_BYTES)) == "bad-encoding", "too large to be looked at"


def test_what_no_model_can_be() -> None:
    raised = BitWriter().count(0).count(1).rice(np.array([1])).rice(np.array([2])).count(0)
    lowered = BitWriter().count(0).count(1).rice(np.array([0])).rice(np.array([3])).count(0)
    assert refused(raised.bytes()) == "bad-model", "threshold over K + 1"
    assert refused(lowered.bytes()) == "bad-model", "threshold -1"
    biased = BitWriter().count(0).count(0).count(1).rice(np.array([0])).rice(np.array([2 * MAX_ABS_BIAS]))
    assert refused(biased.bytes()) == "bad-model", "bias above the limit"


def test_every_short_string_is_one_child_or_refused() -> None:
    """All strings of up to thirteen bits: those accepted are what the encoder writes, so no child has two spellings."""
    accepted = 0
    for data in [bytes([low]) for low in range(256)] + [bytes([low, high]) for high in range(32) for low in range(256)]:
        child = outcome(lambda data=data: apply_difference(SMALL, data))
        if isinstance(child, str):
            assert child in ("bad-encoding", "bad-model"), data
        else:
            assert encode_difference(SMALL, child) == data
            accepted += 1
    assert accepted == 8


@pytest.mark.parametrize(("flips", "entropy_bytes"), [(22, 24), (60, 56), (300, 195), (700, 344), (1_500, 501)])
def test_a_difference_is_nearly_as_short_as_can_be(flips: int, entropy_bytes: int) -> None:
    """Within 4 % and 4 bytes of log2 of the number of ways to choose the flips of a cnn-4k."""
    parent = random_model(ZOO["cnn-4k"], 1)
    chosen = np.random.default_rng(flips).permutation(parent.architecture.weight_count)[:flips]
    size = len(encode_difference(parent, apply_flips(parent, np.sort(chosen))))
    assert entropy_bytes == int(math.log2(math.comb(4_308, flips)) / 8)
    assert entropy_bytes <= size <= entropy_bytes * 1.04 + 4


@given(models(), st.data())
def test_flips_are_their_own_inverse(model: Model, data: st.DataObject) -> None:
    weights = model.architecture.weight_count
    flips = data.draw(st.lists(st.integers(0, weights - 1), unique=True, max_size=30))
    child = apply_flips(model, np.array(flips, np.int64))
    assert flip_positions(model, child).tolist() == sorted(flips)
    assert canonical_bytes(apply_flips(child, np.array(flips, np.int64))) == canonical_bytes(model)


@given(models())
def test_flat_weights_and_packed_rows_are_the_same_bits(model: Model) -> None:
    again = split_weights(model.architecture, flat_weights(model))
    assert all((new == old).all() for new, old in zip(again, model.weights, strict=True))
