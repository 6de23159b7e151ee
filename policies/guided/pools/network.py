"""A network over any number of pools, in NumPy: permuting pools permutes what it says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.guided.pools.describe import JOB_NAMES, POOL_NAMES, Described
from simulator.errors import InputError

Float32 = NDArray[np.float32]
LAYERS = ("encode.0", "encode.1", "context", "choice.0", "choice.1", "rest")
"""Dense layers by name; each has a `.weight` (outputs, inputs) and a `.bias`, as torch lays them out."""
MOST_WIDTH = 1024


@dataclass(frozen=True, eq=False)
class PoolNetwork:
    """Corrections to the planner's scores, (N, P + 2), for any P with the same weights.

    Each pool, beside the job, is encoded by two layers. The mean and the maximum of all encodings with
    the job make the context; idle and on-demand are scored from it, each pool from its encoding and it.
    All hidden layers have one width W and end in tanh.

    Attributes:
        layers: (inputs, outputs) weight and bias of each of `LAYERS`.
    """

    layers: Mapping[str, tuple[Float32, Float32]]

    @classmethod
    def of(cls, weights: Mapping[str, NDArray[Any]], where: str = "network") -> PoolNetwork:
        """The network of some named arrays.

        Raises:
            InputError: An array is missing, left over, of the wrong shape or not finite.
        """
        width = weights["context.bias"].size if "context.bias" in weights else 0
        if not 1 <= width <= MOST_WIDTH:
            raise InputError(f"{where}: context.bias is missing or wider than {MOST_WIDTH}")
        job, pool = len(JOB_NAMES), len(POOL_NAMES)
        shapes = {
            "encode.0": (width, job + pool),
            "encode.1": (width, width),
            "context": (width, 2 * width + job),
            "choice.0": (width, 2 * width),
            "choice.1": (1, width),
            "rest": (2, width),
        }
        expected: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in shapes.items()}
        expected |= {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
        if set(weights) != set(expected):
            odd = sorted(set(weights) ^ set(expected))
            raise InputError(f"{where}: arrays missing or left over: {', '.join(odd[:5])}")
        for name, shape in expected.items():
            array = weights[name]
            if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
                raise InputError(f"{where}: {name} must be {shape} finite numbers")
        return cls(
            {
                name: (
                    np.ascontiguousarray(weights[f"{name}.weight"].T, np.float32),
                    np.asarray(weights[f"{name}.bias"], np.float32),
                )
                for name in LAYERS
            }
        )

    def corrections(self, seen: Described) -> Float32:
        """(N, P + 2) what is added to the planner's scores of idle, on-demand and each pool."""
        jobs, pools = seen.pool.shape[:2]
        width = self.layers["context"][1].size
        first, bias = self.layers["encode.0"]
        split = len(JOB_NAMES)
        encoded = seen.pool @ first[split:]
        encoded += (seen.job @ first[:split] + bias)[:, None]
        np.tanh(encoded, out=encoded)
        encoded = np.tanh(self._dense("encode.1", encoded))
        summary: Float32 = np.hstack([encoded.mean(axis=1), encoded.max(axis=1), seen.job])
        context = self._dense("context", summary)
        np.tanh(context, out=context)
        weight, bias = self.layers["choice.0"]
        choice: Float32 = np.matmul(encoded, weight[:width])
        choice += (context @ weight[width:] + bias)[:, None]
        np.tanh(choice, out=choice)
        scores = np.empty((jobs, pools + 2), np.float32)
        scores[:, :2] = self._dense("rest", context)
        scores[:, 2:] = self._dense("choice.1", choice)[:, :, 0]
        return scores

    def _dense(self, name: str, x: Float32) -> Float32:
        weight, bias = self.layers[name]
        output: Float32 = x @ weight
        output += bias
        return output
