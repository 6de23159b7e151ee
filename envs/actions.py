"""Actions as callers give them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError


def whole_numbers(actions: Any, count: int) -> NDArray[np.int64]:
    """(count,) actions as the kernel takes them.

    Raises:
        InputError: They are not that many whole numbers.
    """
    try:
        array = np.asarray(actions)
    except ValueError as error:
        raise InputError(f"actions {actions!r}; accepted: {count} whole numbers") from error
    if array.size != count or array.dtype.kind not in "biu":
        raise InputError(
            f"actions of shape {array.shape} and type {array.dtype}; accepted: {count} whole numbers"
        )
    return np.ascontiguousarray(array, np.int64).reshape(count)
