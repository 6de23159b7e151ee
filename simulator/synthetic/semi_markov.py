"""Availability as alternating up and down runs: hazards by age of the run, for a few latent types of zone.

The model and its settings come from the prototype of this project (six types, chunks of 46 h, hazards
smoothed towards the pooled one); the planner and the synthetic markets use the same object.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from simulator.errors import InputError

FORMAT = "spotwise-semi-markov"
FORMAT_VERSION = 1
AGE_EDGES = (1, 2, 4, 8, 20, 60)
"""First age, in ticks, of each age bucket: a run is 1 tick old in its first tick."""
LOWEST_HAZARD, HIGHEST_HAZARD = 1e-4, 0.95
DOWN, UP = 0, 1


@dataclass(frozen=True, eq=False)
class SemiMarkovModel:
    """Hazards of up and down runs for K latent types of zone. Immutable.

    Attributes:
        hazard: (K, 2, B) float64, probability that a run ends at the next tick, by
            [type, state (0 down, 1 up), age bucket]; in (0, 1). Types go from least to most available.
        prior: (K,) float64, share of chunks that are of each type; sums to 1.
        age_edges: B first ages of the buckets in ticks, increasing, the first is 1.
        tick_seconds: Length of the tick that ages and hazards are counted in.
        chunk_ticks: Ticks for which a zone keeps its type at least.
        persistence: Probability in [0, 1] that a zone keeps its type at the end of a chunk instead of
            drawing a new one from `prior`.
        source: What it was fitted to; free text.

    Raises:
        InputError: A shape does not fit or a value is out of range.
    """

    hazard: NDArray[np.float64]
    prior: NDArray[np.float64]
    age_edges: tuple[int, ...] = AGE_EDGES
    tick_seconds: int = 600
    chunk_ticks: int = 276
    persistence: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        """Check every invariant and freeze the arrays."""
        for name in ("hazard", "prior"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        edges = tuple(int(edge) for edge in self.age_edges)
        object.__setattr__(self, "age_edges", edges)
        if not edges or edges[0] != 1 or any(b <= a for a, b in pairwise(edges)):
            raise InputError(f"age buckets start at {edges}; accepted: increasing ticks, the first 1")
        types = self.prior.shape[0] if self.prior.ndim == 1 else 0
        if types == 0 or self.hazard.shape != (types, 2, len(edges)):
            raise InputError(
                f"hazard of shape {self.hazard.shape} for prior of shape {self.prior.shape} and {len(edges)} "
                "age buckets; accepted: (types, 2, buckets) and (types,)"
            )
        if not ((self.hazard > 0) & (self.hazard < 1)).all():
            raise InputError("a hazard is out of range; accepted: more than 0, less than 1")
        if not ((self.prior >= 0).all() and abs(self.prior.sum() - 1) < 1e-6):
            raise InputError("the prior over types is no distribution; accepted: shares that sum to 1")
        if self.tick_seconds < 1 or self.chunk_ticks < 1 or not 0 <= self.persistence <= 1:
            raise InputError(
                f"tick of {self.tick_seconds} s, chunk of {self.chunk_ticks} ticks, persistence "
                f"{self.persistence}; accepted: at least 1, at least 1, 0 to 1"
            )

    @property
    def types(self) -> int:
        """Number of types K."""
        return int(self.prior.shape[0])

    def bucket(self, age_ticks: ArrayLike) -> NDArray[np.int64]:
        """Age bucket of each age; ages in ticks, 1 or more, any shape."""
        return np.searchsorted(np.array(self.age_edges), np.asarray(age_ticks), side="right") - 1

    def mean_run_ticks(self) -> NDArray[np.float64]:
        """Expected length of a run in ticks, (K, 2) by [type, state]."""
        widths = np.diff(self.age_edges)
        stay = (1 - self.hazard[:, :, :-1]) ** widths
        reach = np.concatenate([np.ones((self.types, 2, 1)), np.cumprod(stay, axis=2)], axis=2)
        # A run that reaches a bucket spends (1 - (1 - h)^w) / h ticks in it, 1 / h in the last one.
        spent = np.concatenate([1 - stay, np.ones((self.types, 2, 1))], axis=2) / self.hazard
        return np.asarray((reach * spent).sum(axis=2))

    def availability(self) -> NDArray[np.float64]:
        """Long-run share of ticks that are up, (K,) by type."""
        runs = self.mean_run_ticks()
        return np.asarray(runs[:, UP] / runs.sum(axis=1))

    def to_json(self) -> str:
        """The model as JSON text that `from_json` reads back exactly."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "source": self.source,
                "tick_seconds": self.tick_seconds,
                "chunk_ticks": self.chunk_ticks,
                "persistence": self.persistence,
                "age_edges": list(self.age_edges),
                "prior": self.prior.tolist(),
                "hazard": self.hazard.tolist(),
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> SemiMarkovModel:
        """Read a model from JSON text.

        Raises:
            InputError: The text is not what `to_json` wrote.
        """
        try:
            content: Any = json.loads(text)
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                raise InputError(
                    "not a semi-Markov model; accepted: what `python -m simulator.synthetic.fit` wrote"
                )
            if content.get("version") != FORMAT_VERSION:
                version = content.get("version")
                raise InputError(f"semi-Markov model of version {version}; accepted: {FORMAT_VERSION}")
            return cls(
                np.array(content["hazard"], dtype=np.float64),
                np.array(content["prior"], dtype=np.float64),
                tuple(content["age_edges"]),
                int(content["tick_seconds"]),
                int(content["chunk_ticks"]),
                float(content["persistence"]),
                str(content["source"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"damaged semi-Markov model ({error!r})") from error


def load_model(path: Path | None = None) -> SemiMarkovModel:
    """Read a fitted model; without a path, the one shipped with Spotwise.

    Raises:
        InputError: The file is missing or damaged.
    """
    path = path or Path(__file__).with_name("v100_2023.json")
    try:
        return SemiMarkovModel.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def fit_semi_markov(
    series: Sequence[NDArray[Any]],
    *,
    types: int = 6,
    chunk_ticks: int = 276,
    age_edges: tuple[int, ...] = AGE_EDGES,
    smoothing_ticks: float = 20.0,
    iterations: int = 60,
    tick_seconds: int = 600,
    source: str = "",
) -> SemiMarkovModel:
    """Fit the model to availability series by expectation maximisation over chunks.

    Every chunk belongs to one type. Starting from equal groups by mean availability, each iteration sets,
    per type, state and age bucket, hazard = (expected ends + w · pooled hazard) / (expected ticks + w) with
    w = `smoothing_ticks`, clipped to [1e-4, 0.95], and then the posterior of each chunk over the types. A
    chunk's ages go on from the chunk before; the first run of a series counts as beginning with it.

    Args:
        series: One array per zone, shape (T_i,), 0 or False = no spot, anything above = spot.
        types: Number of latent types K, 1 or more.
        chunk_ticks: Length of a chunk in ticks; the last one of a series may be shorter.
        age_edges: First age of each age bucket in ticks.
        smoothing_ticks: Weight of the pooled hazard, in ticks.
        iterations: Rounds of expectation maximisation.
        tick_seconds: Length of a tick of the series.
        source: What the series are; kept in the model.

    Returns:
        The fitted model, types from least to most available.

    Raises:
        InputError: No series, a series with fewer than two ticks or with values that are not finite, or
            fewer chunks than types.
    """
    ticks, ends, up_share, first = _count_runs(series, chunk_ticks, age_edges)
    chunks = ticks.shape[0]
    if types < 1 or types > chunks:
        raise InputError(f"{types} types for {chunks} chunks of {chunk_ticks} ticks; accepted: 1 to {chunks}")
    pooled = _pooled_hazard(ticks.sum(axis=0), ends.sum(axis=0))
    responsibility = np.zeros((chunks, types))
    rank = np.argsort(np.argsort(up_share, kind="stable"), kind="stable")
    responsibility[np.arange(chunks), rank * types // chunks] = 1.0
    hazard = np.empty((types, 2, len(age_edges)))
    prior = np.empty(types)
    for _ in range(iterations):
        expected_ticks = np.einsum("ck,csb->ksb", responsibility, ticks)
        expected_ends = np.einsum("ck,csb->ksb", responsibility, ends)
        hazard = np.clip(
            (expected_ends + smoothing_ticks * pooled) / (expected_ticks + smoothing_ticks),
            LOWEST_HAZARD,
            HIGHEST_HAZARD,
        )
        prior = responsibility.mean(axis=0)
        responsibility = _posterior(ticks, ends, hazard, prior)
    model = SemiMarkovModel(hazard, prior / prior.sum(), age_edges, tick_seconds, chunk_ticks, 0.0, source)
    order = np.argsort(model.availability(), kind="stable")
    return SemiMarkovModel(
        model.hazard[order],
        model.prior[order],
        age_edges,
        tick_seconds,
        chunk_ticks,
        _persistence(responsibility, model.prior, first),
        source,
    )


def chunk_log_likelihood(
    model: SemiMarkovModel, series: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-likelihood of the chunks of `series` under each type.

    Returns:
        (C, K) log-likelihood of the observed run ends, and (C,) mean availability of the chunks.
    """
    ticks, ends, up_share, _ = _count_runs(series, model.chunk_ticks, model.age_edges)
    return _log_likelihood(ticks, ends, model.hazard), up_share


def _count_runs(
    series: Sequence[NDArray[Any]], chunk_ticks: int, age_edges: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Ticks at risk and run ends (C, 2, B), mean availability (C,), and which chunks open a series (C,)."""
    if not len(series):
        raise InputError("no availability series to fit; accepted: one array per zone")
    if chunk_ticks < 2:
        raise InputError(f"chunk of {chunk_ticks} ticks; accepted: 2 or more")
    counted = []
    for number, values in enumerate(series):
        array = np.asarray(values)
        if array.ndim != 1 or array.shape[0] < 2 or not np.isfinite(array).all():
            raise InputError(
                f"availability series {number} has shape {array.shape} or values that are not finite; "
                "accepted: one dimension, at least two finite values"
            )
        counted.append(
            _count_series((array > 0).astype(np.int64), chunk_ticks, np.array(age_edges, dtype=np.int64))
        )
    first = np.concatenate([np.arange(len(ticks)) == 0 for ticks, _, _ in counted])
    ticks, ends, up_share = (np.concatenate([part[i] for part in counted]) for i in range(3))
    return ticks, ends, up_share, first


@njit(cache=True)
def _count_series(
    up: NDArray[np.int64], chunk_ticks: int, age_edges: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    # The last tick has no successor: it shows no end and is not at risk.
    chunks = (up.shape[0] - 1 + chunk_ticks - 1) // chunk_ticks
    ticks = np.zeros((chunks, 2, age_edges.shape[0]))
    ends = np.zeros_like(ticks)
    up_ticks = np.zeros(chunks)
    chunk_length = np.zeros(chunks)
    age = 1
    bucket = 0
    for t in range(up.shape[0] - 1):
        chunk = t // chunk_ticks
        up_ticks[chunk] += up[t]
        chunk_length[chunk] += 1
        ticks[chunk, up[t], bucket] += 1
        if up[t + 1] != up[t]:
            ends[chunk, up[t], bucket] += 1
            age = 1
            bucket = 0
        else:
            age += 1
            if bucket + 1 < age_edges.shape[0] and age >= age_edges[bucket + 1]:
                bucket += 1
    return ticks, ends, up_ticks / chunk_length


def _pooled_hazard(ticks: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hazard over all chunks, (2, B); a bucket nobody reached takes the hazard of its state at any age."""
    overall = (ends.sum() + 0.5) / (ticks.sum() + 1.0)
    by_state = (ends.sum(axis=1) + overall) / (ticks.sum(axis=1) + 1.0)
    return np.where(ticks > 0, ends / np.maximum(ticks, 1), by_state[:, None])


def _log_likelihood(
    ticks: NDArray[np.float64], ends: NDArray[np.float64], hazard: NDArray[np.float64]
) -> NDArray[np.float64]:
    ended = np.einsum("csb,ksb->ck", ends, np.log(hazard))
    lasted = np.einsum("csb,ksb->ck", ticks - ends, np.log1p(-hazard))
    return np.asarray(ended + lasted)


def _posterior(
    ticks: NDArray[np.float64],
    ends: NDArray[np.float64],
    hazard: NDArray[np.float64],
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    score = _log_likelihood(ticks, ends, hazard) + np.log(np.maximum(prior, 1e-300))
    score -= score.max(axis=1, keepdims=True)
    weight = np.exp(score)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _persistence(
    responsibility: NDArray[np.float64], prior: NDArray[np.float64], first: NDArray[np.bool_]
) -> float:
    """Persistence that explains how often neighbouring chunks of a zone are of one type.

    P(same type) = q + (1 - q) · Σ prior²; solved for q and clipped to [0, 1].
    """
    follows = np.flatnonzero(~first)
    by_chance = float((prior**2).sum())
    if follows.size == 0 or by_chance > 1 - 1e-9:
        return 0.0
    same = float((responsibility[follows] * responsibility[follows - 1]).sum(axis=1).mean())
    return float(np.clip((same - by_chance) / (1 - by_chance), 0.0, 1.0))
