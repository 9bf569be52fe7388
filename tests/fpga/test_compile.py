from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
from fpga.nets import CNN_4K, CNN_94K, CNN_DIGITS, draw_architecture, make_model, make_samples

from bnnchain_fpga.compile import Capabilities, DoesNotFit, compile_model, encode_thresholds, plan_architecture
from bnnchain_fpga.cycles import LAYER_ALLOWANCE, model_throughput
from bnnchain_fpga.images import pack_images
from bnnchain_fpga.registers import Operation
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, build_model

SIZE = Capabilities()


def test_a_packet_word_by_word() -> None:
    architecture = Architecture(3, 4, 1, (Conv3x3(2), Dense(2)))
    rows = np.zeros((2, 9), bool)
    rows[0, 0] = rows[1, 8] = True
    dense = np.array([[True, False, True, True], [False, False, False, False]])
    model = build_model(architecture, [rows, dense], [[3, 10]], [-1, 5])
    packet = compile_model(model, SIZE).packet
    assert packet[0] == int.from_bytes(b"BNNM", "little")
    assert packet[1] == 2 | 2 << 16
    assert packet[2] == 3 | 1 << 16  # one word for the convolution, two for two pixels of two channels
    assert packet[3:10].tolist() == [3, 4 | 3 << 16, 1 | 1 << 16, 0 | 6 << 16, 0, 9, 0]
    assert packet[10] == zlib.crc32(packet[3:10].tobytes())
    assert packet[11:18].tolist() == [2 | 1 << 5, 1 | 1 << 16, 2 | 1 << 16, 6, 1, 4, 0]
    weights = packet[19 : 19 + 3 * 16].reshape(3, 16)
    assert weights[0, :3].tolist() == [0xFFFFFE01, 0xFFFFFF00, 0xFFFFFFFF]
    assert weights[1, :2].tolist() == [0xFFFFFFFD, 0xFFFFFFFC]
    assert weights[2, :2].tolist() == [0xFFFFFFFF, 0xFFFFFFFC]
    starts = packet[19 + 48 : 19 + 64].view(np.int32)
    assert starts.tolist() == [-3, -10] + [-10] * 14
    assert packet[83:85].view(np.int32).tolist() == [-1, 5]
    assert packet[85] == zlib.crc32(packet[:85].tobytes())
    assert len(packet) == 86


def test_padding_outputs_never_fire() -> None:
    plan = plan_architecture(CNN_4K, SIZE)
    starts = encode_thresholds(plan.layers[0], np.zeros(4, np.int32), 16).view(np.int32)
    assert starts.tolist() == [0] * 4 + [-10] * 12


def test_layers_never_overlap_what_they_read() -> None:
    for seed in range(300):
        rng = np.random.default_rng(seed)
        try:
            plan = plan_architecture(draw_architecture(rng, max_side=24, max_channels=128), SIZE)
        except DoesNotFit:
            continue
        previous = range(2 * plan.image_words)
        for layer in plan.layers[:-1]:
            output = range(layer.output_base, layer.output_base + layer.output_words)
            assert output.stop <= SIZE.activation_depth, f"seed {seed}"
            for other in (previous, range(2 * plan.image_words)):
                assert output.start >= other.stop or output.stop <= other.start, f"seed {seed}"
            previous = output


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        (Architecture(8, 8, 1, (Dense(2048), Dense(1024), Dense(10))), "weight words of a bank: 4384, at most 3072"),
        (Architecture(64, 64, 1, (Conv3x3(4), Dense(10))), "words of two input images: 8192, at most 4096"),
        (Architecture(28, 28, 1, (Conv3x3(200), Dense(10))), "activation words at layer 0: 4788, at most 4096"),
        (Architecture(3, 3, 1, (Dense(4096), Dense(16), Dense(10))), "threshold groups: 257, at most 256"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(architecture: Architecture, reason: str) -> None:
    with pytest.raises(DoesNotFit, match=reason) as caught:
        plan_architecture(architecture, SIZE)
    assert isinstance(caught.value, Unavailable)


def test_a_smaller_overlay_refuses_more() -> None:
    for name, size in (("layers", 3), ("classes", 8)):
        with pytest.raises(DoesNotFit, match=name):
            plan_architecture(CNN_4K, dataclasses.replace(SIZE, **{name: size}))


def test_operations() -> None:
    def first(architecture: Architecture) -> Operation:
        return plan_architecture(architecture, SIZE).layers[0].operation

    assert first(CNN_4K) is Operation.CONV_ROWS
    assert first(CNN_DIGITS) is Operation.CONV
    assert first(Architecture(8, 32, 1, (Conv3x3(1), Dense(2)))) is Operation.CONV_ROWS
    assert first(Architecture(8, 33, 1, (Conv3x3(1), Dense(2)))) is Operation.CONV
    assert first(Architecture(8, 8, 1, (Dense(2),))) is Operation.DENSE


def test_image_words() -> None:
    rng = np.random.default_rng(1)
    for architecture, words in ((CNN_4K, 28), (CNN_DIGITS, 64), (Architecture(5, 9, 2, (Dense(2),)), 3)):
        samples = make_samples(rng, architecture, 3)
        packed = pack_images(samples, plan_architecture(architecture, SIZE), SIZE)
        assert packed.shape == (3, 1 + words)
        assert np.array_equal(packed[:, 0], samples.labels)
        ones = np.unpackbits(packed[:, 1:].copy().view(np.uint8), axis=1).sum()
        assert ones == samples.unpack(0, 3).sum()


@pytest.mark.parametrize(
    ("architecture", "ideal", "skipped"), [(CNN_4K, 1928, 1649), (CNN_94K, 6430, 5674)], ids=["cnn-4k", "cnn-94k"]
)
def test_cycles_meet_the_target(architecture: Architecture, ideal: int, skipped: int) -> None:
    layers = model_throughput(plan_architecture(architecture, SIZE), SIZE).layers
    assert sum(layer.ideal for layer in layers) == ideal
    for layer in layers:
        assert layer.modelled <= layer.ideal + LAYER_ALLOWANCE
    assert sum(layer.modelled for layer in layers) < skipped + len(layers) * LAYER_ALLOWANCE


def test_throughput_names_the_slower_of_stream_and_array() -> None:
    digits = model_throughput(plan_architecture(CNN_DIGITS, SIZE), SIZE)
    assert digits.batch_cycles == 16 * 65 > sum(layer.modelled for layer in digits.layers)
    small = model_throughput(plan_architecture(CNN_4K, SIZE), SIZE)
    assert small.batch_cycles == sum(layer.modelled for layer in small.layers)
    assert small.images_per_s == pytest.approx(16 * 100e6 / small.batch_cycles)


def test_model_bits_are_all_in_the_packet() -> None:
    rng = np.random.default_rng(2)
    model = make_model(rng, CNN_94K)
    base = compile_model(model, SIZE).packet
    weights = [rows.copy() for rows in model.weights]
    weights[2][5, 3] ^= np.uint64(1 << 17)
    changed = compile_model(dataclasses.replace(model, weights=tuple(weights)), SIZE).packet
    differing = np.flatnonzero(base != changed)
    assert len(differing) == 2  # the weight word and the CRC
    assert (int(base[differing[0]]) ^ int(changed[differing[0]])).bit_count() == 1
