"""The least cost of a service whose window is known, solved by HiGHS.

Of every source (a pool, on-demand, committed capacity) r(t) instances are ready at tick t, at most the least
capacity of the last D + 1 ticks. They cost their price at t, and each that becomes ready at t the D ticks
before. Where every tick is served this is a minimum-cost flow of demand units through the sources, with whole
vertices. Where B ticks may be missed it is solved in three steps, each only if the one before leaves a gap:

1. a price on missed ticks instead of the limit B (Lagrange): few binary variables, and the dual bound;
2. which ticks of the runs that this price misses are missed: a plan;
3. which ticks of all are missed: exact.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from simulator.deadline.observation import BoolArray, FloatArray, IntArray
from simulator.errors import SpotwiseError
from simulator.service.segments import CountedWindow, cut_ends, cut_ticks, runs

_OPTIMAL, _LIMIT = 0, 1  # statuses of scipy.optimize.milp
PRICE_STEPS = 20
"""Prices of missed ticks that are tried; the search ends by itself after fewer than ten on real traces."""
PRICE_SHARE = 0.6
"""Most of the time that they may take."""
PRICE_GAP = 2.5e-4
"""Relative gap of each of these, and the gain below which the search ends."""
FEW_TIMES = 4
"""Of the ticks that the price misses beyond the limit, so many times the limit are considered."""
ABSOLUTE_GAP = 1e-6
"""What the solver calls equal, in units of the dearest price per instance-tick."""


@dataclass(frozen=True, eq=False)
class LeastCost:
    """What was found.

    Attributes:
        ready: (Q, C) ready instances by source and counted tick; None without a plan.
        cost: Cost of that plan; infinite without one.
        dual_bound: No plan costs less.
        status: `optimal` (to within the gap asked for) or `time limit`.
    """

    ready: IntArray | None
    cost: float
    dual_bound: float
    status: str


def least_cost(window: CountedWindow, missed: int, time_limit: float, relative_gap: float) -> LeastCost:
    """Serve all but `missed` of the counted ticks for as little as possible.

    Args:
        window: Prices of about 1: tolerances of the solver are absolute.
        missed: B.
        time_limit: Seconds.
        relative_gap: Between cost and dual bound at which to stop.

    Raises:
        SpotwiseError: The solver failed.
    """
    deadline = time.monotonic() + time_limit
    ticks, begins = len(window.demand), runs(window)
    if not missed:
        flow = _Flow.of(window, begins)
        found = flow.solve(np.zeros(len(begins), np.bool_), time_limit)
        if found.values is None:
            return LeastCost(None, np.inf, 0.0, "time limit")
        return LeastCost(flow.ready(found.values), found.cost, found.bound, "optimal")
    flow = _Flow.of(window, cut_ends(begins, ticks, missed))
    priced = _priced(flow, missed, time.monotonic() + PRICE_SHARE * time_limit)
    dual, likely = priced.dual_bound, priced.likely
    best = LeastCost(None, np.inf, dual, "time limit")
    if priced.within is not None:
        best = replace(best, ready=flow.whole(priced.within), cost=priced.within.cost)
    for allowed, share, gap in (
        (likely, 0.5, relative_gap / 4),
        (np.ones(ticks, np.bool_), 1.0, relative_gap),
    ):
        flow = _Flow.of(window, cut_ticks(begins, ticks, missed, allowed))
        optional = (flow.length <= missed) & allowed[flow.begin]
        left = share * (deadline - time.monotonic())
        if left <= 0.0:
            break
        found = flow.solve(optional, left, limit=missed, relative_gap=gap)
        if allowed.all():
            dual = max(dual, found.bound)
        if found.values is not None and found.cost < best.cost:
            best = replace(best, ready=flow.whole(found), cost=found.cost)
        if best.cost - dual <= relative_gap * best.cost + ABSOLUTE_GAP:
            return replace(best, dual_bound=min(dual, best.cost), status="optimal")
    return replace(best, dual_bound=min(dual, best.cost))


@dataclass(frozen=True, eq=False)
class _Priced:
    """What a price on missed ticks tells.

    Attributes:
        dual_bound: No plan costs less.
        likely: (C,) ticks of which a good plan is likely to miss some.
        within: The cheapest solution that misses no more than the limit; None if none was found.
    """

    dual_bound: float
    likely: BoolArray
    within: _Solution | None


def _priced(flow: _Flow, missed: int, deadline: float) -> _Priced:
    """Search the price on missed ticks at which about `missed` are.

    With a price on each missed tick instead of the limit, the cost is a concave, piecewise linear function
    of it. The price at which two known solutions, one within the limit and one beyond, cost the same is
    tried next.
    """
    optional, ticks = flow.length <= missed, int(flow.length.sum())
    dearest = 1.0 + float(flow.upper[: flow.cells].max() * flow.cost.max()) * len(flow.length)
    price, dual = dearest, 0.0
    few, many = (0, np.inf, np.zeros_like(optional)), (ticks, 0.0, np.zeros_like(optional))
    within: _Solution | None = None
    for _ in range(PRICE_STEPS):
        left = deadline - time.monotonic()
        found = flow.solve(optional, max(left, 0.1), price=price, relative_gap=PRICE_GAP)
        dual = max(dual, found.bound - price * missed)
        if found.values is None:
            break
        count = int(flow.length[found.skipped].sum())
        point = (count, found.cost, found.skipped)
        converged = found.cost + price * count > (few[1] + price * few[0]) * (1.0 - PRICE_GAP)
        if count <= missed:
            few = point
            within = found if within is None or found.cost < within.cost else within
        else:
            many = point
        if converged or count == missed or left <= 0.0 or not np.isfinite(few[1]):
            break
        price = (few[1] - many[1]) / (many[0] - few[0])
    # Of ties beyond the limit take the last: at the end of a window nothing has to be launched again.
    begins = np.append(flow.begin, ticks)
    later = np.cumsum((flow.length * many[2])[::-1])[::-1]
    likely = np.repeat(few[2] | (many[2] & (later <= FEW_TIMES * missed)), flow.length)
    likely[max(int(begins[-1]) - missed, 0) :] = True
    return _Priced(dual, likely, within)


@dataclass(frozen=True, eq=False)
class _Solution:
    """One run of the solver.

    Attributes:
        values: (2 Q S,) of the flow; None without any.
        skipped: (S,) segments that are missed.
        cost: Cost of the flow, without the price of missed ticks.
        bound: Least value of the objective.
    """

    values: FloatArray | None
    skipped: BoolArray
    cost: float
    bound: float


@dataclass(frozen=True, eq=False)
class _Flow:
    """The flow of a window over S segments: first r, ready by source and segment, then u, what becomes ready.

    Attributes:
        begin: (S,) first ticks.
        length: (S,) ticks.
        need: (S,) demand.
        cost: (2 Q S,) of r and u.
        upper: (2 Q S,) bounds of r and u.
        launched: r(s) - r(s - 1) - u(s), at most 0.
        total: r summed over sources, at least the demand.
    """

    begin: IntArray
    length: IntArray
    need: FloatArray
    cost: FloatArray
    upper: FloatArray
    launched: sparse.csr_array
    total: sparse.csr_array

    @classmethod
    def of(cls, window: CountedWindow, begin: IntArray) -> _Flow:
        length = np.diff(np.append(begin, len(window.demand)))
        sources, count = len(window.ready), len(begin)
        become = sparse.eye_array(count) - sparse.eye_array(count, k=-1)
        each, every = sparse.eye_array(sources), sparse.eye_array(count)
        launched = sparse.hstack([sparse.kron(each, become), -sparse.eye_array(sources * count)])
        total = sparse.hstack(
            [sparse.kron(np.ones((1, sources)), every), sparse.csr_array((count, sources * count))]
        )
        return cls(
            begin,
            length,
            window.demand[begin],
            np.concatenate([(window.price[:, begin] * length).ravel(), window.launch[:, begin].ravel()]),
            np.concatenate([window.ready[:, begin].ravel(), np.full(sources * count, np.inf)]),
            sparse.csr_array(launched),
            sparse.csr_array(total),
        )

    @property
    def cells(self) -> int:
        """Sources x segments."""
        return len(self.cost) // 2

    def solve(
        self,
        optional: BoolArray,
        time_limit: float,
        *,
        price: float = 0.0,
        limit: int | None = None,
        relative_gap: float = 0.0,
    ) -> _Solution:
        """Minimise cost + price x missed ticks.

        Only segments of `optional` (S,) may be missed, `limit` ticks at most.
        """
        place = np.flatnonzero(optional)
        count, columns = len(place), len(self.cost)
        spared = sparse.csr_array(
            (self.need[place], (place, np.arange(count))), shape=(len(self.length), count)
        )
        blank = sparse.csr_array((self.launched.shape[0], count))
        constraints = [
            LinearConstraint(sparse.hstack([self.launched, blank], format="csr"), -np.inf, 0.0),
            LinearConstraint(sparse.hstack([self.total, spared], format="csr"), self.need, np.inf),
        ]
        if limit is not None:
            row = np.concatenate([np.zeros(columns), self.length[place]])[None]
            constraints.append(LinearConstraint(sparse.csr_array(row), -np.inf, limit))
        result = milp(
            np.concatenate([self.cost, price * self.length[place]]),
            integrality=np.concatenate([np.zeros(columns), np.ones(count)]),
            bounds=Bounds(0.0, np.concatenate([self.upper, np.ones(count)])),
            constraints=constraints,
            options={"time_limit": time_limit, "mip_rel_gap": relative_gap},
        )
        return self._solution(result, place)

    def _solution(self, result: OptimizeResult, place: IntArray) -> _Solution:
        if result.status not in (_OPTIMAL, _LIMIT):
            raise SpotwiseError(f"HiGHS could not solve the bound of a service: {result.message}")
        skipped = np.zeros(len(self.length), np.bool_)
        bound = float(result.fun) if result.status == _OPTIMAL and not place.size else result.mip_dual_bound
        bound = max(float(bound), 0.0) if bound is not None else 0.0
        if result.x is None:
            return _Solution(None, skipped, np.inf, bound)
        skipped[place] = result.x[len(self.cost) :] > 0.5
        values = np.asarray(result.x[: len(self.cost)])
        return _Solution(values, skipped, float(self.cost @ values), bound)

    def whole(self, found: _Solution) -> IntArray:
        """(Q, C) ready instances of a solution in whole numbers.

        They are a vertex of the flow with its missed ticks fixed.
        """
        fixed = replace(self, need=np.where(found.skipped, 0.0, self.need))
        vertex = fixed.solve(np.zeros(len(self.length), np.bool_), np.inf)
        if vertex.values is None:
            raise SpotwiseError("HiGHS found no whole solution of a flow that it had solved before")
        return self.ready(vertex.values)

    def ready(self, values: FloatArray) -> IntArray:
        """(Q, C) ready instances by tick."""
        by_segment = np.rint(values[: self.cells]).astype(np.int64).reshape(-1, len(self.length))
        return np.repeat(by_segment, self.length, axis=1)
