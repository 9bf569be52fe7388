"""Optional packages: imported where they are needed, or named in one line."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from types import ModuleType

TENSORFLOW_ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
"""Larq needs the Keras before version 3; read when TensorFlow is first imported.  Checking needs no GPU."""


def load_extra(name: str, extra: str) -> ModuleType:
    """Return an optional package; raises :class:`Unavailable` naming the extra that installs it."""
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise Fault(f"{name} is installed but does not work: {error}") from error
        raise Unavailable(f"{package} is not installed: pip install 'bnnchain[{extra}]'") from None
    except ImportError as error:
        raise Fault(f"{name} is installed but does not work: {str(error).splitlines()[0]}") from error


def load_larq() -> tuple[ModuleType, ModuleType]:
    """Return (tf_keras, larq), on the processor alone; raises :class:`Unavailable` without the extra ``train``."""
    _prepare_tensorflow()
    load_extra("tensorflow", "train")
    keras = load_extra("tf_keras", "train")
    return keras, load_extra("larq", "train")


def load_compute_engine() -> ModuleType:
    """Return Larq Compute Engine; raises :class:`Unavailable` without the extra ``tflite``."""
    _prepare_tensorflow()
    return load_extra("larq_compute_engine", "tflite")


def _prepare_tensorflow() -> None:
    for variable, value in TENSORFLOW_ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
