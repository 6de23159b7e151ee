"""The clairvoyant bound: what a service would have cost at least, had all capacity and prices been known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from simulator.deadline.observation import FloatArray, IntArray
from simulator.deadline.stack import MarketStack
from simulator.errors import InputError
from simulator.service.least_cost import least_cost
from simulator.service.segments import CountedWindow
from simulator.service.service import Service

AVAILABILITY_LEVELS = (1.0, 0.999, 0.995, 0.99)
RELATIVE_GAP = 2e-3
"""Between cost and dual bound at which the solver may stop."""


@dataclass(frozen=True, eq=False)
class ServiceBound:
    """The least cost of one window at one availability.

    Attributes:
        availability: Share of the counted ticks at which the demand must be ready.
        cost: USD that `plan` is billed; NaN without a plan.
        dual_bound: USD that no plan can be below, whatever the solver's status; infinite if unreachable.
        status: `optimal` (to within the gap asked for), `time limit`, or `unreachable`.
        reachable: Whether any plan has this availability.
        best_availability: The highest that any plan has.
        plan: (P + 1, T) instances to ask of each pool and then on-demand; None without one.
    """

    availability: float
    cost: float
    dual_bound: float
    status: str
    reachable: bool
    best_availability: float
    plan: IntArray | None

    @property
    def gap(self) -> float:
        """Cost above the dual bound, as a share of the cost; NaN without a plan."""
        return (self.cost - self.dual_bound) / self.cost if self.cost > 0.0 else self.cost


def service_bound(
    capacity: ArrayLike,
    spot_price: ArrayLike,
    on_demand_price: ArrayLike,
    demand: ArrayLike,
    cold_start_ticks: int,
    *,
    availability: Sequence[float] = AVAILABILITY_LEVELS,
    hours_per_tick: float = 1.0,
    committed: int = 0,
    on_demand_limit: int | None = None,
    time_limit_seconds: float = 10.0,
    relative_gap: float = RELATIVE_GAP,
) -> tuple[ServiceBound, ...]:
    """The least cost of a window at several availabilities, under the dynamics of `kernel.advance`.

    Args:
        capacity: (P, T) spot instances.
        spot_price: (P, T) USD per instance-hour.
        on_demand_price: (T,) USD per instance-hour.
        demand: (T,) instances.
        cold_start_ticks: D; the first D ticks are neither billed nor counted.
        availability: Levels in (0, 1].
        hours_per_tick: Length of a tick.
        committed: On-demand instances that cost nothing more.
        on_demand_limit: Most on-demand instances at once; None for as many as asked.
        time_limit_seconds: Per level; after it the best plan so far and the dual bound are returned.
        relative_gap: See `RELATIVE_GAP`.

    Returns:
        One bound per level, in their order. A minimum bill of launches is not charged: with one, the dual
        bound still holds.

    Raises:
        InputError: Shapes or values do not fit.
    """
    room, price, need = _checked(capacity, spot_price, on_demand_price, demand, cold_start_ticks)
    if not all(0.0 < level <= 1.0 for level in availability) or not hours_per_tick > 0.0:
        raise InputError(
            f"availability {list(availability)}, tick of {hours_per_tick} h; accepted: levels above 0 and at "
            "most 1, a positive tick"
        )
    pools = len(room) - 1
    limit = math.inf if on_demand_limit is None else float(on_demand_limit)
    room[-1] = max(limit - committed, 0.0)
    if committed:
        room = np.vstack([room, np.full_like(need, min(float(committed), limit))])
        price = np.vstack([price, np.zeros_like(need)])
    scale = float(price.max(initial=0.0)) or 1.0
    if need.size <= cold_start_ticks:
        nothing = np.zeros((pools + 1, need.size), np.int64)
        return tuple(ServiceBound(level, 0.0, 0.0, "optimal", True, 1.0, nothing) for level in availability)
    window = CountedWindow.of(room, price / scale, need, cold_start_ticks)
    servable = window.ready.sum(axis=0) >= window.demand
    best = float(servable.mean())
    bounds: dict[float, ServiceBound] = {}
    for level in sorted(set(availability), reverse=True):
        missed = missed_ticks(level, servable.size)
        if servable.size - int(servable.sum()) > missed:
            bounds[level] = ServiceBound(level, math.nan, math.inf, "unreachable", False, best, None)
            continue
        found = least_cost(window, missed, time_limit_seconds, relative_gap)
        plan, cost = None, math.nan
        if found.ready is not None:
            plan = _plan(found.ready, cold_start_ticks, pools)
            paid = plan.astype(np.float64)
            paid[-1] = np.maximum(paid[-1] - committed, 0.0)
            cost = float((paid * price[: pools + 1])[:, cold_start_ticks:].sum()) * hours_per_tick
        dual = found.dual_bound * scale * hours_per_tick
        dual = min(dual, cost) if plan is not None else dual  # equal up to the solver's last digits
        bounds[level] = ServiceBound(level, cost, dual, found.status, True, best, plan)
    bounds = _consistent(bounds)
    return tuple(bounds[level] for level in availability)


def service_bounds(
    stack: MarketStack,
    service: Service,
    market: ArrayLike,
    start: ArrayLike,
    ticks: int | None = None,
    *,
    availability: Sequence[float] = AVAILABILITY_LEVELS,
    time_limit_seconds: float = 10.0,
    relative_gap: float = RELATIVE_GAP,
) -> list[tuple[ServiceBound, ...]]:
    """`service_bound` of the same windows as those of a `ServiceBatch` with the same first arguments."""
    length = service.ticks if ticks is None else ticks
    starts = np.atleast_1d(np.asarray(start, np.int64))
    markets = np.broadcast_to(np.asarray(market, np.int64), starts.shape)
    return [
        service_bound(
            stack.capacity[m, :, s : s + length],
            stack.spot_price[m, :, s : s + length],
            stack.on_demand_price[m, s : s + length],
            service.demand[:length],
            service.cold_start_ticks,
            availability=availability,
            hours_per_tick=stack.tick_seconds / 3600.0,
            committed=service.committed,
            time_limit_seconds=time_limit_seconds,
            relative_gap=relative_gap,
        )
        for m, s in zip(markets, starts, strict=True)
    ]


def missed_ticks(availability: float, counted: int) -> int:
    """Ticks that may be missed out of the counted ones."""
    return math.floor(counted * (1.0 - availability) + 1e-9)


def _checked(
    capacity: ArrayLike, spot: ArrayLike, on_demand: ArrayLike, demand: ArrayLike, cold: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(P + 1, T) capacity and price, the last row on-demand, and (T,) demand."""
    room, price = np.asarray(capacity, np.float64), np.asarray(spot, np.float64)
    last, need = np.asarray(on_demand, np.float64), np.asarray(demand, np.float64)
    if room.ndim != 2 or price.shape != room.shape or {last.shape, need.shape} != {room.shape[1:]}:
        raise InputError(
            f"capacity {room.shape}, spot price {price.shape}, on-demand price {last.shape}, demand "
            f"{need.shape}; accepted: (P, T), (P, T), (T,), (T,)"
        )
    for name, values in (("capacity", room), ("price", price), ("price", last), ("demand", need)):
        if not np.isfinite(values).all() or (values < 0).any():
            raise InputError(f"a {name} is negative or not finite; accepted: 0 or more")
    if (need != np.floor(need)).any() or cold < 0:
        raise InputError(f"demand must be whole numbers and the cold start 0 or more ticks, not {cold}")
    return np.vstack([room, np.zeros_like(last)]), np.vstack([price, last]), need


def _plan(ready: IntArray, cold: int, pools: int) -> IntArray:
    """(P + 1, T) instances held so that `ready` (Q, C) are: each from D ticks before it is ready."""
    held = np.zeros((ready.shape[0], ready.shape[1] + cold), np.int64)
    for ahead in range(cold + 1):
        span = held[:, cold - ahead : held.shape[1] - ahead]
        np.maximum(span, ready, out=span)
    held[pools] += held[pools + 1 :].sum(axis=0)
    return held[: pools + 1]


def _consistent(bounds: dict[float, ServiceBound]) -> dict[float, ServiceBound]:
    """A plan serves every lower level too; a dual bound holds for every higher one."""
    best: ServiceBound | None = None
    for level in sorted(bounds, reverse=True):
        bound = bounds[level]
        if best is not None and bound.reachable and not bound.cost <= best.cost:
            bound = bounds[level] = replace(bound, cost=best.cost, plan=best.plan)
        if bound.plan is not None:
            best = bound
    lowest = 0.0
    for level in sorted(bounds):
        lowest = max(lowest, bounds[level].dual_bound)
        bounds[level] = replace(bounds[level], dual_bound=lowest)
    return bounds
