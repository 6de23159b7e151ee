"""Guesses from its demand whether a workload is a service or a deadline job, and says why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IDLE_SHARE = 0.3
"""A workload that needs nothing in this share of the hours, in runs of its own, looks like a job."""

MIN_RUNS = 2


@dataclass(frozen=True, slots=True)
class Guess:
    """What a workload seems to be.

    Attributes:
        kind: `service` or `deadline-job`.
        evidence: Why, in one sentence with figures.
        nodes: Instances of a run of a job (its median); 0 for a service.
        work_hours: Hours of a run that 95 % of the runs stay within; 0 for a service.
        period_hours: Median time between begins of runs, in which the next must be done; 0 for a service.
    """

    kind: str
    evidence: str
    nodes: int = 0
    work_hours: float = 0.0
    period_hours: float = 0.0


def guess_kind(demand: NDArray[np.float64], missing: NDArray[np.bool_], *, first_hour: int = 0) -> Guess:
    """Return the guess for a demand per hour.

    Args:
        demand: Instances per hour, shape (H,).
        missing: Hours about which nothing is known, shape (H,).
        first_hour: Hour of the day (UTC) that the series begins in.
    """
    known = ~missing
    if not known.any() or not demand[known].any():
        return Guess("service", "no demand in the span")
    idle = float((demand[known] == 0).mean())
    begins, ends = _runs(demand, missing)
    if idle < IDLE_SHARE or begins.size < MIN_RUNS:
        steady = float(demand[known].std() / demand[known].mean())
        return Guess(
            "service",
            f"runs in {100 * (1 - idle):.0f} % of the known hours, {begins.size} uninterrupted"
            f" run{'s' if begins.size != 1 else ''}, coefficient of variation {steady:.2f}",
        )
    lengths = (ends - begins).astype(float)
    heights = np.array([demand[b:e].max() for b, e in zip(begins, ends, strict=True)])
    period = float(np.median(np.diff(begins)))
    clock = (begins + first_hour) % 24
    hour = int(np.bincount(clock, minlength=24).argmax())
    punctual = float((clock == hour).mean())
    return Guess(
        "deadline-job",
        f"idle in {100 * idle:.0f} % of the known hours; {begins.size} runs of {np.median(lengths):g}"
        " h (median), one"
        f" every {period:g} h, {100 * punctual:.0f} % of them from {hour:02d}:00 UTC",
        nodes=max(int(np.ceil(np.median(heights))), 1),
        work_hours=float(np.quantile(lengths, 0.95, method="higher")),
        period_hours=period,
    )


def _runs(
    demand: NDArray[np.float64], missing: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return begin and end of the runs; a gap between demand and demand belongs to the run."""
    busy = (demand > 0) & ~missing
    state = busy.astype(np.int64)
    gaps = np.diff(np.concatenate([[0], missing.astype(np.int64), [0]]))
    for begin, end in zip(np.flatnonzero(gaps == 1), np.flatnonzero(gaps == -1), strict=True):
        if begin > 0 and end < state.size and state[begin - 1] and busy[end]:
            state[begin:end] = 1
    edges = np.diff(np.concatenate([[0], state, [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
