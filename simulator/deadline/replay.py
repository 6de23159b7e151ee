"""Replay: policies x markets x windows, one row per episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.deadline.batch import (
    FAILED_LAUNCHES,
    IDLE_TICKS,
    INTERRUPTIONS,
    LAUNCHES,
    ON_DEMAND_TICKS,
    SPOT_TICKS,
    DeadlineBatch,
)
from simulator.deadline.job import DeadlineJob
from simulator.deadline.observability import Observability
from simulator.deadline.observation import DeadlineObservation, IntArray
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.stack import MarketStack, window_starts
from simulator.errors import InputError
from simulator.market import Market


class Decider(Protocol):
    """What replay needs of a policy; `policies.protocol.DeadlinePolicy` is one."""

    @property
    def name(self) -> str:
        """The policy's name."""
        ...

    def reset(self, jobs: int, pools: int = 1) -> Mapping[str, NDArray[Any]]:
        """Memory for jobs that are about to begin."""
        ...

    def act(
        self, observation: DeadlineObservation, memory: Any
    ) -> tuple[IntArray, Mapping[str, NDArray[Any]]]:
        """Actions for one tick and the new memory."""
        ...


@dataclass(frozen=True, eq=False)
class Windows:
    """Which windows of which markets are replayed.

    Attributes:
        stack: The markets.
        names: (M,) what each market of the stack is called in the table.
        market: (N,) market of each window.
        start: (N,) first tick of each window.
    """

    stack: MarketStack
    names: tuple[str, ...]
    market: IntArray
    start: IntArray

    @classmethod
    def each_pool(cls, market: Market, job: DeadlineJob, stride: int) -> Windows:
        """Windows of every pool alone; they are named after their pool."""
        singles = [market.select([pool]) for pool in range(len(market.pools))]
        starts = window_starts(market, job, stride)
        return cls(
            MarketStack.of(singles, job.terms),
            tuple(pool.name for pool in market.pools),
            np.repeat(np.arange(len(singles)), len(starts)),
            np.tile(starts, len(singles)),
        )

    @classmethod
    def all_pools(cls, market: Market, job: DeadlineJob, stride: int, name: str = "all") -> Windows:
        """Windows in which a job may use every pool of the market."""
        starts = window_starts(market, job, stride)
        return cls(MarketStack.of([market], job.terms), (name,), np.zeros(len(starts), np.int64), starts)

    @classmethod
    def join(cls, parts: Sequence[Windows]) -> Windows:
        """All windows of several markets; pools of the same name in different ones are told apart.

        Raises:
            InputError: There is none, or they differ in tick or number of pools.
        """
        if not parts:
            raise InputError("no market given; at least one is needed")
        if len(parts) == 1:
            return parts[0]
        first = np.cumsum([0, *(len(part.names) for part in parts)])
        names = [name for part in parts for name in part.names]
        return cls(
            MarketStack.join([part.stack for part in parts]),
            tuple(f"{name} #{i}" if names.count(name) > 1 else name for i, name in enumerate(names)),
            np.concatenate([part.market + before for part, before in zip(parts, first, strict=False)]),
            np.concatenate([part.start for part in parts]),
        )


def replay(
    policies: Sequence[Decider],
    windows: Windows,
    job: DeadlineJob,
    *,
    with_optimum: bool = True,
    observability: Observability = "full",
) -> pd.DataFrame:
    """Replay every policy over every window.

    Args:
        policies: The policies, all with different names.
        windows: What to replay.
        job: The job that begins at the start of each window.
        with_optimum: Also compute the clairvoyant optimum of each window.
        observability: What the policies know of pools.

    Returns:
        One row per policy and window: `policy`, `market`, `start_tick`, `cost_usd`,
        `finish_hours`, `lateness_usd` (part of the cost), `missed`, `launches`, `interruptions`,
        `failed_launches`, `idle_hours`, `on_demand_hours`, `spot_hours` (instance-hours are these
        times the nodes),
        `on_demand_usd` (the same job on on-demand capacity from its start) and, if wanted,
        `optimum_usd`.

    Raises:
        InputError: Two policies have the same name, or a window does not fit.
    """
    names = [policy.name for policy in policies]
    if len(set(names)) != len(names):
        raise InputError(f"two policies have the same name ({', '.join(names)}); give each its own")
    shared = pd.DataFrame(
        {
            "market": np.array(windows.names, dtype=object)[windows.market],
            "start_tick": windows.start,
            "on_demand_usd": run(_OnDemand(), windows, job).cost,
        }
    )
    if with_optimum:
        shared["optimum_usd"] = clairvoyant_optimum(windows.stack, job, windows.market, windows.start)
    return pd.concat(
        [
            _table(policy.name, run(policy, windows, job, observability=observability), shared)
            for policy in policies
        ],
        ignore_index=True,
    )


def run(
    policy: Decider,
    windows: Windows,
    job: DeadlineJob,
    timeline: list[IntArray] | None = None,
    *,
    observability: Observability = "full",
) -> DeadlineBatch:
    """Run one policy over all windows in lock-step until every job is done.

    Args:
        policy: The policy.
        windows: The windows.
        job: The job.
        timeline: If given, the (N,) placements of each tick are appended to it; rows of
            jobs that are already done hold -1.
        observability: What the policy knows of pools.

    Returns:
        The finished batch.
    """
    batch = DeadlineBatch.of(windows.stack, job, windows.market, windows.start, observability)
    memory = policy.reset(batch.size, windows.stack.pools)
    while not batch.done.all():
        observation = batch.observe()
        action, memory = policy.act(observation, memory)
        if timeline is not None:
            timeline.append(np.where(batch.done, -1, batch.granted(action)))
        batch.step(action)
    return batch


def _table(name: str, batch: DeadlineBatch, shared: pd.DataFrame) -> pd.DataFrame:
    hours = batch.stack.tick_seconds / 3600.0
    table = pd.DataFrame(
        {
            "policy": name,
            "market": shared["market"],
            "start_tick": shared["start_tick"],
            "cost_usd": batch.cost,
            "finish_hours": batch.tick * hours,
            "lateness_usd": batch.lateness,
            "missed": batch.missed,
            "launches": batch.counts[:, LAUNCHES],
            "interruptions": batch.counts[:, INTERRUPTIONS],
            "failed_launches": batch.counts[:, FAILED_LAUNCHES],
            "idle_hours": batch.counts[:, IDLE_TICKS] * hours,
            "on_demand_hours": batch.counts[:, ON_DEMAND_TICKS] * hours,
            "spot_hours": batch.counts[:, SPOT_TICKS] * hours,
        }
    )
    return table.assign(**{name: shared[name] for name in shared.columns[2:]})


class _OnDemand:
    """The reference every saving is relative to."""

    name = "on-demand"

    def reset(self, jobs: int, pools: int = 1) -> Mapping[str, NDArray[Any]]:
        del jobs, pools
        return {}

    def act(
        self, observation: DeadlineObservation, memory: Any
    ) -> tuple[IntArray, Mapping[str, NDArray[Any]]]:
        return np.ones(observation.jobs, np.int64), memory
