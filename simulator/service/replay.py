"""Replay of services: policies x windows, one row per episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.deadline.observation import IntArray
from simulator.deadline.replay import Windows
from simulator.deadline.stack import MarketStack
from simulator.errors import InputError
from simulator.market import Market
from simulator.service.batch import (
    AVAILABLE_TICKS,
    COUNTED_TICKS,
    FAILED_LAUNCHES,
    INTERRUPTIONS,
    LAUNCHES,
    ServiceBatch,
    ServiceObservation,
)
from simulator.service.service import Service


class Decider(Protocol):
    """What replay needs of a policy; `policies.service.ServicePolicy` is one."""

    @property
    def name(self) -> str:
        """The policy's name."""
        ...

    def reset(self, services: int, pools: int) -> Mapping[str, NDArray[Any]]:
        """Memory for services that are about to begin."""
        ...

    def act(
        self, observation: ServiceObservation, memory: Any
    ) -> tuple[IntArray, Mapping[str, NDArray[Any]]]:
        """Counts for one tick and the new memory."""
        ...


def service_windows(markets: Sequence[tuple[str, Market]], ticks: int, stride: int | None = None) -> Windows:
    """Windows of several markets; every window may use all pools of its market.

    Args:
        markets: Names and markets.
        ticks: Length of a window.
        stride: Ticks from one window's start to the next; by default windows are disjoint.

    Raises:
        InputError: A market is shorter than one window, or the markets cannot be stacked.
    """
    step = ticks if stride is None else stride
    if ticks < 1 or step < 1:
        raise InputError(f"windows of {ticks} ticks every {step} ticks; accepted: at least 1")
    parts = []
    for name, market in markets:
        if market.ticks < ticks:
            raise InputError(
                f"{name}: {market.ticks} ticks, a window has {ticks}; accepted: a shorter window or a longer "
                "market (--repeat-market repeats it)"
            )
        starts = np.arange(0, market.ticks - ticks + 1, step)
        parts.append(Windows(MarketStack.of([market]), (name,), np.zeros(len(starts), np.int64), starts))
    return Windows.join(parts)


def run_service(
    policy: Decider,
    windows: Windows,
    service: Service | Sequence[Service],
    *,
    timeline: list[tuple[IntArray, IntArray]] | None = None,
) -> ServiceBatch:
    """Run one policy over all windows in lock-step.

    Args:
        policy: The policy.
        windows: The windows; each is as long as the service's demand.
        service: The service that begins in each window, or one per window.
        timeline: If given, (granted (N, P + 1), ready (N,)) of each tick are appended to it.

    Returns:
        The finished batch.
    """
    batch = ServiceBatch(windows.stack, service, windows.market, windows.start)
    memory = policy.reset(batch.size, windows.stack.pools)
    while not batch.done.all():
        asked, memory = policy.act(batch.observe(), memory)
        batch.step(asked)
        if timeline is not None:
            seen = batch.observe()
            timeline.append((seen.granted, seen.ready))
    return batch


def replay_service(
    policies: Sequence[Decider], windows: Windows, service: Service | Sequence[Service]
) -> pd.DataFrame:
    """Replay every policy over every window.

    Returns:
        One row per policy and window: `policy`, `market`, `start_tick`, `cost_usd`, `on_demand_usd` (the same
        demand on on-demand capacity), `relative_cost` (their ratio; NaN where on-demand costs
        nothing), `availability`,
        `served_fraction`, `unavailable_ticks`, `counted_ticks`, `launches`, `interruptions`,
        `failed_launches`.

    Raises:
        InputError: Two policies have the same name, or a window does not fit.
    """
    names = [policy.name for policy in policies]
    if len(set(names)) != len(names):
        raise InputError(f"two policies have the same name ({', '.join(names)}); give each its own")
    return pd.concat(
        [_table(policy.name, run_service(policy, windows, service), windows) for policy in policies],
        ignore_index=True,
    )


def _table(name: str, batch: ServiceBatch, windows: Windows) -> pd.DataFrame:
    on_demand = batch.on_demand_cost()
    counts = batch.counts
    return pd.DataFrame(
        {
            "policy": name,
            "market": np.array(windows.names, dtype=object)[windows.market],
            "start_tick": windows.start,
            "cost_usd": batch.cost,
            "on_demand_usd": on_demand,
            "relative_cost": np.divide(
                batch.cost, on_demand, out=np.full(batch.size, np.nan), where=on_demand > 0
            ),
            "availability": batch.availability,
            "served_fraction": batch.served_fraction,
            "unavailable_ticks": counts[:, COUNTED_TICKS] - counts[:, AVAILABLE_TICKS],
            "counted_ticks": counts[:, COUNTED_TICKS],
            "launches": counts[:, LAUNCHES],
            "interruptions": counts[:, INTERRUPTIONS],
            "failed_launches": counts[:, FAILED_LAUNCHES],
        }
    )
