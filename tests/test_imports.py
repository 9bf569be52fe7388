"""What importing costs: no optional package, no kernel compiler, until something needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPTIONAL = ("numba", "onnx", "tensorflow", "larq", "pynq", "dask", "grpc")


@pytest.mark.parametrize("module", ["bnnchain", "bnnchain_kernels", "bnnchain_fpga", "bnnchain.consensus.transition"])
def test_import_loads_no_optional_package(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {OPTIONAL!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
