"""A pool as a small Markov chain: types and ages lumped into phases that promise different availability."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from policies.planner.tables import TickModel
from simulator.deadline.observation import FloatArray, IntArray

OUTLOOK_HOURS = 3.0
"""Availability further ahead than about this counts little when states are told apart."""


@dataclass(frozen=True, eq=False)
class Phases:
    """Phases of one pool; the first `down` of M are without spot, the others with it.

    Attributes:
        of_state: (K, 2, B) phase of each type, state and age bucket.
        step: (M, M) probability of each phase at the next tick.
        share: (M,) long-run share of time in each phase.
        down: Number of phases without spot.
        outlook: (K, 2, B) discounted share of time with spot to come from each state.
    """

    of_state: IntArray
    step: FloatArray
    share: FloatArray
    down: int
    outlook: FloatArray

    @property
    def size(self) -> int:
        """Number of phases M."""
        return int(self.step.shape[0])

    @classmethod
    def of(cls, model: TickModel, tick_seconds: float, down: int, up: int) -> Phases:
        """Lump the states of a model into `down` + `up` phases.

        States are told apart by their outlook, the discounted share of time with spot to come; within each
        of down and up the outlooks are cut where their variance within the phases is least, weighted
        with the long-run share of each state. The chain's steps are the lumped flows.
        """
        chain = chain_of(model)
        types, _, buckets = model.hazard.shape
        share = (model.prior[:, None, None] * model.stationary).ravel()
        is_up = np.zeros((types, 2, buckets))
        is_up[:, 1] = 1.0
        discount = 1.0 - min(tick_seconds / (OUTLOOK_HOURS * 3600.0), 1.0)
        solved = np.linalg.solve(np.eye(len(chain)) - discount * chain, is_up.ravel())
        ahead = np.asarray((1.0 - discount) * solved, np.float64)
        phase = np.empty(len(chain), np.int64)
        first = 0
        for state, wanted in ((0.0, down), (1.0, up)):
            rows = np.flatnonzero(is_up.ravel() == state)
            phase[rows] = first + _cut(ahead[rows], share[rows], wanted)
            first += wanted
        member = np.zeros((len(chain), first))
        member[np.arange(len(chain)), phase] = share
        shares = member.sum(axis=0)
        step = (member / shares).T @ chain @ (np.arange(first)[None] == phase[:, None])
        shape = (types, 2, buckets)
        return cls(phase.reshape(shape), np.ascontiguousarray(step), shares, down, ahead.reshape(shape))


def chain_of(model: TickModel) -> FloatArray:
    """(K 2 B, K 2 B) probability of each type, state and age bucket at the next tick."""
    types, _, buckets = model.hazard.shape
    chain = np.zeros((types, 2, buckets, types, 2, buckets))
    last = buckets - 1
    for k in range(types):
        for state in range(2):
            for b in range(buckets):
                ends = model.hazard[k, state, b]
                chain[k, state, b, k, 1 - state, 0] += ends
                chain[k, state, b, k, state, b] += (1.0 - ends) * (1.0 - model.advance[b])
                chain[k, state, b, k, state, min(b + 1, last)] += (1.0 - ends) * model.advance[b]
    mixed = (1.0 - model.drift) * chain + model.drift * np.einsum("ksbjtc,l->ksbltc", chain, model.prior)
    size = types * 2 * buckets
    return np.ascontiguousarray(mixed.reshape(size, size))


def _cut(values: FloatArray, weight: FloatArray, parts: int) -> NDArray[np.int64]:
    """Which of `parts` intervals each value lies in, chosen for the least weighted variance within."""
    order = np.argsort(values, kind="stable")
    w, x = weight[order], values[order]
    mass = np.concatenate([[0.0], np.cumsum(w)])
    first = np.concatenate([[0.0], np.cumsum(w * x)])
    second = np.concatenate([[0.0], np.cumsum(w * x * x)])

    def spread(begin: int, end: int) -> float:
        total = mass[end] - mass[begin]
        if total <= 0.0:
            return 0.0
        return float(second[end] - second[begin] - (first[end] - first[begin]) ** 2 / total)

    best, cuts = np.inf, (0,) * (parts - 1)
    for chosen in combinations(range(1, len(x)), parts - 1):
        edges = (0, *chosen, len(x))
        total = sum(spread(edges[i], edges[i + 1]) for i in range(parts))
        if total < best:
            best, cuts = total, chosen
    part = np.empty(len(x), np.int64)
    part[order] = np.searchsorted(np.array(cuts, np.int64), np.arange(len(x)), side="right")
    return part
