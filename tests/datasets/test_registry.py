from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bnnchain.datasets.registry import KNOWN_NAMES, load
from bnnchain_kernels.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def test_digits_need_no_directory(tmp_path: Path) -> None:
    assert load("digits", None, tmp_path / "nothing").manifest.name == "digits"
    with pytest.raises(Invalid, match=r"bad-dataset .*embedded"):
        load("digits", tmp_path, tmp_path)


def test_mnist_comes_from_the_fetched_files_or_the_given_directory(tmp_path: Path, mnist_directory: Path) -> None:
    (tmp_path / "mnist").symlink_to(mnist_directory.resolve())
    fetched = load("mnist", None, tmp_path)
    given = load("mnist", mnist_directory, tmp_path / "nothing")
    assert fetched.manifest == given.manifest


def test_mnist_that_is_not_here_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"run: bnnchain dataset fetch mnist$"):
        load("mnist", None, tmp_path)


def test_other_names_want_a_directory(tmp_path: Path, idx_set: Any) -> None:
    with pytest.raises(Unavailable, match=r"'fashion' is not digits or mnist; give its IDX files with --data DIR"):
        load("fashion", None, tmp_path)
    assert load("fashion", idx_set.write(tmp_path), tmp_path).manifest.name == "fashion"


def test_known_names() -> None:
    assert KNOWN_NAMES == ("digits", "mnist")


def test_loading_imports_no_optional_or_heavy_package() -> None:
    code = (
        "import sys; from pathlib import Path; from bnnchain.datasets.registry import load; "
        "load('digits', None, Path()); "
        "print([m for m in ('numba', 'grpc', 'rich', 'sklearn', 'tensorflow', 'onnx', 'dask') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
