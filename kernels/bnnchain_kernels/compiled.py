"""How Numba compiles this room's functions: without the GIL, without bounds checks, typed for mypy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba

from bnnchain_kernels.slicing import counter_stride

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = TypeVar("Function", bound=Callable[..., Any])

entry = cast("Callable[[Function], Function]", numba.njit(nogil=True, cache=True, boundscheck=False))
"""Compiled once and kept on disk."""
inlined = cast("Callable[[Function], Function]", numba.njit(nogil=True, boundscheck=False, forceinline=True))
"""Compiled into its callers."""
stride_of = inlined(counter_stride)
