from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_networks import random_samples

from bnnchain_kernels import native, slicing
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.model import Architecture, Dense

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "kernels" / "native"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")


def test_a_machine_with_a_compiler_has_the_c_kernel() -> None:
    assert native.instruction_sets()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 only")
def test_x86_has_its_instruction_sets_fastest_first() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    expected = [name for name, flag in (("avx512f", "avx512f"), ("avx2", "avx2"), ("sse2", "sse2")) if flag in flags]
    assert list(native.instruction_sets()) == [*expected, "portable"]


def test_the_fastest_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.ISA_VARIABLE, raising=False)
    assert native.choose_isa() == next(iter(native.instruction_sets()))


def test_the_environment_forces_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.ISA_VARIABLE, "portable")
    samples = random_samples(np.random.default_rng(0), Architecture(3, 3, 1, (Dense(2),)), 5)
    assert native.NativeEvaluator(samples).isa == "portable"


@pytest.mark.parametrize("name", ["avx1024", "", " "])
def test_a_missing_instruction_set_is_unavailable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.ISA_VARIABLE, name)
    if not name:
        assert native.choose_isa()
        return
    with pytest.raises(Unavailable, match="no instruction set"):
        native.choose_isa()


def test_a_library_that_was_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    native.load_library.cache_clear()
    monkeypatch.setattr(native, "LIBRARY_FILE", "absent.so")
    with pytest.raises(Unavailable, match="not built"):
        native.load_library()
    monkeypatch.setattr(native, "LIBRARY_FILE", "py.typed")
    with pytest.raises(Unavailable, match="does not load"):
        native.load_library()
    native.load_library.cache_clear()


def test_the_plan_has_the_same_columns_in_c() -> None:
    header = (SOURCES / "bnn_kernel.h").read_text(encoding="utf-8")
    body = re.search(r"enum \{\s*DENSE,(.*?)PLAN_COLUMNS", header, re.DOTALL)
    assert body is not None
    names = ["DENSE", *re.findall(r"[A-Z_]+", body[1])]
    assert [getattr(slicing, name) for name in names] == list(range(len(names)))
    for name in ("TRIPLE", "TRIPLE_VECTORS", "REGISTER_BITS", "LABEL_BITS", "LABEL_PLANES", "BLOCK_WORDS"):
        assert re.search(rf"\b{name} = {getattr(slicing, name)}\b", header), name
    assert f"PLAN_COLUMNS = {slicing.PLAN_COLUMNS}" in header


def test_the_declarations_are_those_of_the_header() -> None:
    def words(text: str) -> str:
        text = re.sub(r"/\*.*?\*/|BNN_EXPORT", " ", text, flags=re.DOTALL)
        return " ".join(text.split())

    header = words((SOURCES / "bnn_kernel.h").read_text(encoding="utf-8"))
    for declaration in words(native.DECLARATIONS).replace("} bnn_network;", "} bnn_network#").split(";"):
        wanted = declaration.replace("#", ";").strip()
        assert wanted in header, wanted


SANITIZED = """
import sys
import numpy as np
from bnnchain_kernels import native
from bnnchain_kernels.mutants import RaceRules, pack_mutants
from bnnchain_kernels.native_mutants import NativeMutants
from random_networks import random_architecture, random_model, random_samples
from bnnchain_kernels.reference import ReferenceEvaluator

native.load_library = lambda: native.ffi.dlopen(sys.argv[1])
for seed in range(30):
    rng = np.random.default_rng(seed)
    architecture = random_architecture(rng)
    model = random_model(rng, architecture)
    images = int(rng.choice([1, 65, 300, 513]))
    samples = random_samples(rng, architecture, images)
    expected = ReferenceEvaluator(samples).logits(model, 0, images)
    for isa in native.instruction_sets():
        evaluator = native.NativeEvaluator(samples, threads=1, isa=isa)
        evaluator.correct(model, 0, images)
        assert (evaluator.logits(model, 0, images) == expected).all(), (seed, isa)
        mutants = pack_mutants([(rng.integers(0, architecture.weight_count, 3), []) for _ in range(4)])
        racer = NativeMutants(evaluator, model, images)
        racer.race(mutants, np.zeros(4, np.int64), RaceRules(0))
        racer.logits(mutants)
print("clean")
"""


TOO_SMALL = """
import numpy as np
from bnnchain_kernels import slicing
native.NativeEvaluator.workspace = lambda self, prepared: slicing.aligned_words(4096)
"""


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library built with the address and undefined-behaviour sanitizers; any finding aborts the process."""
    library = tmp_path_factory.mktemp("sanitized") / "libbnn_kernel.so"
    flags = ["-std=c11", "-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fPIC", "-shared"]
    sources = [str(source) for source in sorted(SOURCES.glob("*.c"))]
    subprocess.run(["gcc", *flags, "-o", str(library), *sources], check=True, timeout=240)
    return library


def run_sanitized(library: Path, code: str) -> subprocess.CompletedProcess[str]:
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",  # every array its own allocation, so that an overrun is seen
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "kernels")]),
    }
    environment.pop(native.ISA_VARIABLE, None)
    command = [sys.executable, "-c", code, str(library)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=280)


needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="the sanitizers' runtime is asked of gcc")


@needs_gcc
@pytest.mark.slow
def test_no_sanitizer_complains(sanitized: Path) -> None:
    answer = run_sanitized(sanitized, SANITIZED)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert answer.stdout.strip().endswith("clean")


@needs_gcc
@pytest.mark.slow
def test_the_sanitizers_would_see_an_overrun(sanitized: Path) -> None:
    head, loop = SANITIZED.split("for seed", 1)
    answer = run_sanitized(sanitized, head + TOO_SMALL + "for seed" + loop)
    assert answer.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in answer.stderr
