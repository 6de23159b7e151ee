"""How long spot capacity stays: a survival curve by age, read with what is known of the age."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from simulator.errors import InputError

FloatArray = NDArray[np.float64]
UNKNOWN = 1e12
"""Seconds since a refusal that never happened."""


@dataclass(frozen=True, eq=False)
class Survival:
    """Up runs with a hazard that is constant between edges of age.

    Attributes:
        edges: (B,) seconds, from 0 upwards.
        rates: (B,) ends per second from each edge on, more than 0.

    Raises:
        InputError: The shapes differ, the edges do not ascend from 0, or a rate is not positive.
    """

    edges: FloatArray
    rates: FloatArray
    curve: FloatArray = field(init=False)
    """(4, B): edges, rates, survival at each edge, expected up seconds before it."""

    @classmethod
    def of(cls, edges: ArrayLike, rates: ArrayLike) -> Survival:
        """Make a curve from anything like arrays."""
        return cls(np.asarray(edges, np.float64), np.asarray(rates, np.float64))

    def __post_init__(self) -> None:
        """Check, and tabulate survival and its integral at the edges."""
        edges, rates = self.edges, self.rates
        if edges.ndim != 1 or edges.shape != rates.shape or edges.size == 0:
            raise InputError(
                f"survival with edges {edges.shape} and rates {rates.shape}; accepted: equal, 1-D"
            )
        ascending = edges[0] == 0 and np.isfinite(edges).all() and (np.diff(edges) > 0).all()
        if not ascending or not (np.isfinite(rates) & (rates > 0)).all():
            raise InputError("survival: accepted are edges that ascend from 0 and rates above 0")
        hazard = np.concatenate([[0.0], np.cumsum(np.diff(edges) * rates[:-1])])
        alive = np.exp(-hazard)
        parts = (alive[:-1] - alive[1:]) / rates[:-1]
        before = np.concatenate([[0.0], np.cumsum(parts)])
        object.__setattr__(self, "curve", np.ascontiguousarray([edges, rates, alive, before]))

    def scaled(self, factor: float) -> Survival:
        """The curve with every rate times a factor, for example 2 for twice the interruptions."""
        return Survival.of(self.edges, self.rates * factor)


@njit(cache=True, nogil=True)
def hazard(curve: FloatArray, held: float, refused: float) -> float:
    """Ends per second of an up run that has been seen up for `held` s and was down `refused` s ago.

    The run began at some moment between the two. With begins spread evenly over that span, the hazard
    is (S(held) - S(refused)) / integral of S over the span (renewal theory; length-biased sampling).

    Args:
        curve: `Survival.curve`.
        held: Seconds for which the pool is known to have been up, 0 or more.
        refused: Seconds since it was known to be down; `UNKNOWN` if never.
    """
    low = _edge(curve, held)
    alive, before = _at(curve, low, held)
    if refused - held < 1.0:
        return float(curve[1, low])
    if refused >= UNKNOWN:
        last = curve.shape[1] - 1
        whole = curve[3, last] + curve[2, last] / curve[1, last]
        return float(alive / max(whole - before, 1e-9))
    alive_then, before_then = _at(curve, _edge(curve, refused), refused)
    span = before_then - before
    return float((alive - alive_then) / span) if span > 1e-9 else float(curve[1, low])


@njit(cache=True, nogil=True)
def _edge(curve: FloatArray, age: float) -> int:
    bucket = curve.shape[1] - 1
    while bucket > 0 and age < curve[0, bucket]:
        bucket -= 1
    return int(bucket)


@njit(cache=True, nogil=True)
def _at(curve: FloatArray, bucket: int, age: float) -> tuple[float, float]:
    since = np.exp(-curve[1, bucket] * (age - curve[0, bucket]))
    alive = curve[2, bucket] * since
    return alive, curve[3, bucket] + curve[2, bucket] * (1.0 - since) / curve[1, bucket]
