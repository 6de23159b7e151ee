"""Inference of small neural networks in NumPy: learned policies decide without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError

Float32 = NDArray[np.float32]


def _relu(x: Float32) -> Float32:
    return np.maximum(x, np.float32(0.0), out=x)


def _tanh(x: Float32) -> Float32:
    return np.tanh(x, out=x)


def _identity(x: Float32) -> Float32:
    return x


ACTIVATIONS: Mapping[str, Callable[[Float32], Float32]] = {
    "identity": _identity,
    "relu": _relu,
    "tanh": _tanh,
}


@dataclass(frozen=True, eq=False)
class Network:
    """A multi-layer perceptron with one trunk and any number of linear heads.

    Inputs are normalised as (x - mean) / std, clipped to ± `clip`, if there is a normalisation; each layer of
    the trunk is followed by the activation, heads by none.

    Attributes:
        trunk: Layers as (weight (inputs, outputs), bias (outputs,)), float32.
        heads: Layer of each head by name.
        activation: One of `ACTIVATIONS`.
        normalisation: (mean (inputs,), 1 / std (inputs,), clip), or None.
    """

    trunk: tuple[tuple[Float32, Float32], ...]
    heads: Mapping[str, tuple[Float32, Float32]]
    activation: str
    normalisation: tuple[Float32, Float32, float] | None

    @classmethod
    def of(
        cls,
        weights: Mapping[str, NDArray[Any]],
        *,
        activation: str,
        heads: Sequence[str] = ("policy",),
        clip: float = 10.0,
        where: str = "network",
    ) -> Network:
        """Build a network from named arrays, laid out as torch does: weights are (outputs, inputs).

        Args:
            weights: `trunk.0.weight`, `trunk.0.bias`, `trunk.1.weight`, ... (a trunk may be absent),
                `head.NAME.weight`, `head.NAME.bias` for each head and, if inputs are normalised,
                `normalisation.mean` and `normalisation.std`. Other names are an error.
            activation: `tanh`, `relu` or `identity`.
            heads: Names of the heads, at least one.
            clip: Highest absolute value of a normalised input.
            where: What to call the network in an error, such as the file that it came from.

        Raises:
            InputError: An array is missing, left over, of the wrong shape or not finite in float32.
        """
        if activation not in ACTIVATIONS:
            raise InputError(f"{where}: activation {activation!r}; accepted: {', '.join(ACTIVATIONS)}")
        if not heads:
            raise InputError(f"{where}: no head; accepted: at least one")
        arrays = {name: _finite(where, name, array) for name, array in weights.items()}
        trunk: list[tuple[Float32, Float32]] = []
        while f"trunk.{len(trunk)}.weight" in arrays:
            trunk.append(_layer(where, arrays, f"trunk.{len(trunk)}", trunk[-1][1].size if trunk else None))
        width = trunk[-1][1].size if trunk else None
        built = {}
        for head in heads:
            built[head] = _layer(where, arrays, f"head.{head}", width)
            width = built[head][0].shape[0]
        inputs = trunk[0][0].shape[0] if trunk else width
        normalisation = None
        if "normalisation.mean" in arrays or "normalisation.std" in arrays:
            mean = _vector(where, arrays, "normalisation.mean", inputs)
            std = _vector(where, arrays, "normalisation.std", inputs)
            if not (std >= np.finfo(np.float32).tiny).all() or not clip > 0:
                raise InputError(f"{where}: normalisation.std and clip must be more than 0")
            normalisation = (mean, np.reciprocal(std), float(clip))
        if arrays:
            raise InputError(f"{where}: arrays that belong to no layer: {', '.join(sorted(arrays))}")
        return cls(tuple(trunk), built, activation, normalisation)

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        first = self.trunk[0] if self.trunk else next(iter(self.heads.values()))
        return int(first[0].shape[0])

    def hidden(self, inputs: NDArray[Any]) -> Float32:
        """(N, width) output of the trunk for (N, inputs) inputs."""
        x = inputs.astype(np.float32)  # a copy: activations work in place
        if self.normalisation is not None:
            mean, scale, clip = self.normalisation
            x -= mean
            x *= scale
            np.clip(x, -clip, clip, out=x)
        activate = ACTIVATIONS[self.activation]
        for weight, bias in self.trunk:
            x = x @ weight
            x += bias
            x = activate(x)
        return x

    def head(self, name: str, hidden: Float32) -> Float32:
        """(N, outputs) of one head on the trunk's output."""
        weight, bias = self.heads[name]
        output: Float32 = hidden @ weight
        output += bias
        return output

    def outputs(self, inputs: NDArray[Any], head: str = "policy") -> Float32:
        """(N, outputs) of one head for (N, inputs) inputs."""
        return self.head(head, self.hidden(inputs))


def masked_argmax(scores: Float32, legal: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) best legal action; the first of equals, and of a row without any legal action the first.

    Args:
        scores: (N, A).
        legal: (N, A).
    """
    best: NDArray[np.int64] = np.where(legal, scores, -np.inf).argmax(axis=1)
    return best


def _finite(where: str, name: str, array: NDArray[Any]) -> Float32:
    if array.dtype.kind not in "fiu":
        raise InputError(f"{where}: {name} is of type {array.dtype}; accepted: numbers")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(
            f"{where}: {name} has values that are not finite; training diverged or the file is bad"
        )
    return values


def _layer(where: str, arrays: dict[str, Float32], name: str, inputs: int | None) -> tuple[Float32, Float32]:
    """Take a layer out of `arrays`, transposed to (inputs, outputs) and contiguous."""
    weight = arrays.pop(f"{name}.weight", None)
    if weight is None:
        raise InputError(f"{where}: {name}.weight is missing")
    if weight.ndim != 2 or 0 in weight.shape or inputs not in (None, weight.shape[1]):
        expected = "(outputs, inputs)" if inputs is None else f"(outputs, {inputs})"
        raise InputError(f"{where}: {name}.weight has shape {weight.shape}; accepted: {expected}")
    return np.ascontiguousarray(weight.T), _vector(where, arrays, f"{name}.bias", weight.shape[0])


def _vector(where: str, arrays: dict[str, Float32], name: str, size: int | None) -> Float32:
    vector = arrays.pop(name, None)
    if vector is None:
        raise InputError(f"{where}: {name} is missing")
    if vector.shape != (size,):
        raise InputError(f"{where}: {name} has shape {vector.shape}; accepted: ({size},)")
    return vector
