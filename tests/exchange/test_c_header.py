from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from exchange.papers import papers, wanted_scores, zoo_model, zoo_pixels
from random_networks import random_architecture, random_model, random_samples

from bnnchain.bnn.zoo import ZOO
from bnnchain.exchange.c_header import export_c, stack_bytes
from bnnchain_kernels.evaluator import predict
from bnnchain_kernels.model import Architecture, Dense
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-std=c99")
ARM = shutil.which("arm-linux-gnueabihf-gcc")
READ = "fread(image, 1, sizeof image, stdin) == sizeof image"
READ_PIXELS = "fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels"
PROGRAM = """
#include "model.h"
#include <stdio.h>
int main(void) {
    static uint8_t pixels[BNN_HEIGHT * BNN_WIDTH];
    static uint8_t image[BNN_IMAGE_BYTES];
    int32_t logits[BNN_CLASSES];
    (void)pixels;
    while (%s) {
        int32_t label;
        %s
        label = bnn_predict(image, logits);
        fwrite(&label, sizeof label, 1, stdout);
        fwrite(logits, sizeof *logits, BNN_CLASSES, stdout);
    }
    return 0;
}
"""

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def build(directory: Path, header: str, *, takes_pixels: bool, options: tuple[str, ...] = ("-O2",)) -> Path:
    (directory / "model.h").write_text(header, "ascii")
    pack = "bnn_pack_image(pixels, image);" if takes_pixels else ""
    (directory / "main.c").write_text(PROGRAM % (READ_PIXELS if takes_pixels else READ, pack))
    source, program = str(directory / "main.c"), directory / "main"
    subprocess.run(["gcc", *STRICT, *options, "-o", str(program), source], check=True, timeout=120)
    if ARM:
        target = str(directory / "main.o")
        subprocess.run([ARM, *STRICT, "-O2", "-c", "-o", target, source], check=True, timeout=120)
    return program


def run(program: Path, images: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    done = subprocess.run([str(program)], input=images, capture_output=True, check=True, timeout=300)
    answers = np.frombuffer(done.stdout, "<i4").reshape(-1, 1 + classes)
    return answers[:, 0], answers[:, 1:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_labels_and_logits_are_the_kernels_on_ten_thousand_images(name: str, tmp_path: Path) -> None:
    model, (pixels, thresholds) = zoo_model(name), zoo_pixels(name)
    program = build(tmp_path, export_c(model, papers(model), thresholds), takes_pixels=True)
    labels, logits = run(program, pixels.tobytes(), 10)
    wanted = wanted_scores(model, pixels, thresholds)
    assert len(logits) == 10_000
    assert (logits != wanted).sum() == 0
    assert (labels != predict(wanted)).sum() == 0


@pytest.mark.parametrize("seed", range(6))
def test_random_shapes_under_the_sanitizers(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    model, samples = random_model(rng, shape), random_samples(rng, shape, 150)
    options = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    program = build(tmp_path, export_c(model, papers(model), None), takes_pixels=False, options=options)
    labels, logits = run(program, samples.images.tobytes(), shape.classes)
    wanted = ReferenceEvaluator(samples).logits(model, 0, 150)
    np.testing.assert_array_equal(logits, wanted)
    np.testing.assert_array_equal(labels, predict(wanted))


def test_set_bits_beyond_the_image_change_nothing(tmp_path: Path) -> None:
    shape = Architecture(3, 3, 1, (Dense(5), Dense(4)))
    model = random_model(np.random.default_rng(7), shape)
    program = build(tmp_path, export_c(model, papers(model), None), takes_pixels=False)
    clean, dirty = run(program, b"\x55\x01", 4), run(program, b"\x55\xff", 4)
    np.testing.assert_array_equal(clean[1], dirty[1])


def test_it_says_where_it_comes_from_and_what_it_takes() -> None:
    model = zoo_model("cnn-4k")
    text = export_c(model, papers(model, thresholds=(128,)), (128,))
    assert text.isascii()
    for said in ("accuracy: 54321 of 60000 (90.53 %)", "licence: CC-BY-SA-3.0", "generation: 5", "thresholds: 128"):
        assert f" * {said}\n" in text
    assert f"stack {stack_bytes(model)} bytes" in text
    assert "malloc" not in text
    assert text.index("#ifndef BNNCHAIN_MODEL_H") < text.index("#include") < text.index("#endif")


def test_papers_cannot_end_the_comment(tmp_path: Path) -> None:
    model = zoo_model("cnn-digits")
    evil = papers(model, origin="x */ int evil; /* y")
    text = export_c(model, evil, None)
    assert "x * / int evil; / * y" in text
    assert build(tmp_path, text, takes_pixels=False).exists()
