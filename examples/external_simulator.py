"""Drive any Spotwise policy tick by tick from somebody else's simulator.

`ExternalDriver` is all there is to it: paste it around a simulator that decides one job each tick. It builds
the observation by hand from what such a simulator knows, asks the policy, and answers `"SPOT"`, `"ON_DEMAND"`
or `"NONE"`. In the simulator published with "Can't Be Late" (NSDI 2024), for example, a strategy's step is:

    def _step(self, last_cluster_type, has_spot):
        if self.driver is None:
            self.driver = ExternalDriver(
                "uniform-progress",  # or the path of a .policy file
                work_seconds=self.task_duration,
                deadline_seconds=self.deadline,
                restart_overhead_seconds=self.restart_overhead,
                tick_seconds=self.env.gap_seconds,
                spot_price=0.9731,
                on_demand_price=3.06,
            )
        answer = self.driver.step(
            has_spot,
            elapsed_seconds=self.env.elapsed_seconds,
            work_done_seconds=sum(self.task_done_time),
            cluster_type=last_cluster_type,
            remaining_overhead_seconds=self.remaining_restart_overhead,
        )
        return ClusterType[answer]

What the simulator says is the truth, not what was asked for: it may override any answer.
Run this file for a toy simulator that does all of that: `python examples/external_simulator.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np

from policies import DeadlinePolicy, Memory, load_policy
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineObservation

Answer = Literal["SPOT", "ON_DEMAND", "NONE"]


class ExternalDriver:
    """One job of somebody else's simulator, decided by a Spotwise policy.

    Args:
        policy: A built-in name, the path of a `.policy` file, or a policy. Names and files come with the
            shield; wrap a policy of your own in `policies.Shielded` to have its guarantee.
        work_seconds: Productive time the job needs.
        deadline_seconds: Time from the job's start by which it must be done.
        restart_overhead_seconds: Time a new instance is paid for before it is useful.
        tick_seconds: Time between two calls of `step`.
        spot_price: USD per hour; one number per pool if there are several pools.
        on_demand_price: USD per hour.

    All of these are attributes that may be changed between two steps (prices do). After an answer of
    `"SPOT"`, `pool` is the pool that is meant.
    """

    def __init__(
        self,
        policy: str | DeadlinePolicy,
        work_seconds: float,
        deadline_seconds: float,
        restart_overhead_seconds: float,
        tick_seconds: float,
        spot_price: float | Sequence[float],
        on_demand_price: float,
    ) -> None:
        self.policy: DeadlinePolicy = load_policy(policy) if isinstance(policy, str) else policy
        self.work_seconds = work_seconds
        self.deadline_seconds = deadline_seconds
        self.restart_overhead_seconds = restart_overhead_seconds
        self.tick_seconds = tick_seconds
        self.spot_price = spot_price
        self.on_demand_price = on_demand_price
        self.pool = 0
        self.reset()

    def reset(self) -> None:
        """Begin another job. `step` does it by itself when the elapsed time jumps back."""
        self._elapsed = -np.inf
        self._before: Memory | None = None  # memory before the latest tick, and after it
        self._after: Memory | None = None

    def step(
        self,
        has_spot: bool | Sequence[bool],
        *,
        elapsed_seconds: float,
        work_done_seconds: float,
        cluster_type: object,
        remaining_overhead_seconds: float,
        pool: int = 0,
    ) -> Answer:
        """Decide the tick that begins now.

        Args:
            has_spot: Whether spot is available now; one value per pool if there are several pools.
            elapsed_seconds: Time since the job began.
            work_done_seconds: Productive time so far, the last tick included.
            cluster_type: What ran in the last tick: `"SPOT"`, `"ON_DEMAND"` or `"NONE"`, or an enum member
                with such a name. If it was spot and its pool has none now, it was interrupted.
            remaining_overhead_seconds: Time the running instance still needs before it is useful.
            pool: The pool it ran in, if it ran on spot.

        Returns:
            What to run in this tick.
        """
        work_left = self.work_seconds - work_done_seconds
        time_left = self.deadline_seconds - elapsed_seconds
        if work_left <= 1e-6:  # done; sums of seconds are not exact
            return "NONE"
        if time_left <= 0:  # too late: there is nothing left to weigh
            return "ON_DEMAND"
        available = np.atleast_1d(np.asarray(has_spot, np.bool_))[None]
        placement = self._placement(cluster_type, pool, available[0])
        action = self._decide(
            elapsed_seconds,
            DeadlineObservation(
                tick_seconds=float(self.tick_seconds),
                work_left=np.array([work_left], np.float64),
                time_left=np.array([time_left], np.float64),
                work_total=np.array([self.work_seconds], np.float64),
                time_total=np.array([self.deadline_seconds], np.float64),
                placement=np.array([placement], np.int64),
                pending_overhead=np.array(
                    [0.0 if placement == IDLE else remaining_overhead_seconds], np.float64
                ),
                unsaved_work=np.zeros(1),  # all work is kept at an interruption
                restart_overhead=np.array([self.restart_overhead_seconds], np.float64),
                checkpoint_interval=np.zeros(1),
                spot_available=available,
                spot_price=np.array(np.broadcast_to(self.spot_price, available.shape), np.float64),
                on_demand_price=np.array([self.on_demand_price], np.float64),
            ),
        )
        if action == IDLE:
            return "NONE"
        if action == ON_DEMAND:
            return "ON_DEMAND"
        self.pool = action - FIRST_SPOT
        return "SPOT"

    def _placement(self, cluster_type: object, pool: int, available: np.ndarray) -> int:
        """The observed placement; spot that is gone is an interruption, which leaves the job idle."""
        name = str(getattr(cluster_type, "name", cluster_type))
        if name not in ("SPOT", "ON_DEMAND", "NONE"):
            raise ValueError(f"cluster type {cluster_type!r}; accepted: SPOT, ON_DEMAND, NONE")
        if name == "SPOT":
            return FIRST_SPOT + pool if available[pool] else IDLE
        return ON_DEMAND if name == "ON_DEMAND" else IDLE

    def _decide(self, elapsed_seconds: float, observation: DeadlineObservation) -> int:
        """Ask the policy. Its memory is a fold over ticks: a tick that is asked twice counts once."""
        if elapsed_seconds < self._elapsed:
            self.reset()
        if elapsed_seconds > self._elapsed:
            self._before = self._after
        if self._before is None:
            self._before = self.policy.reset(1, observation.pools)
        action, self._after = self.policy.act(observation, self._before)
        self._elapsed = elapsed_seconds
        return int(action[0])


class ToySimulator:
    """Somebody else's simulator: one job, plain Python, its own idea of when to override.

    Args:
        spot: Availability, one list of pools per tick.
        spot_price: USD per hour of each pool.
        on_demand_price: USD per hour.
        tick_seconds: Seconds per tick.
        overrides: Tick -> what runs then, whatever was decided.
    """

    def __init__(
        self,
        spot: Sequence[Sequence[bool]],
        spot_price: Sequence[float],
        on_demand_price: float,
        tick_seconds: float,
        overrides: dict[int, Answer] | None = None,
    ) -> None:
        self.spot = spot
        self.spot_price = spot_price
        self.on_demand_price = on_demand_price
        self.tick_seconds = tick_seconds
        self.overrides = overrides or {}

    def run(self, driver: ExternalDriver) -> tuple[float, bool, list[str]]:
        """Run the driver's job: USD, whether it was done in time, and what ran in each tick."""
        cost, done, pending, history = 0.0, 0.0, 0.0, list[str]()
        running: tuple[str, int] = ("NONE", 0)
        for tick, spot in enumerate(self.spot):
            elapsed = tick * self.tick_seconds
            if done >= driver.work_seconds - 1e-6 or elapsed >= driver.deadline_seconds:
                break
            wanted: str = driver.step(
                spot,
                elapsed_seconds=elapsed,
                work_done_seconds=done,
                cluster_type=running[0],
                remaining_overhead_seconds=pending,
                pool=running[1],
            )
            wanted = self.overrides.get(tick, wanted)
            pool = driver.pool if wanted == "SPOT" else 0
            if running[0] == "SPOT" and not spot[running[1]]:
                running = ("NONE", 0)
            if wanted == "SPOT" and not spot[pool]:
                wanted, pool = "NONE", 0
            if wanted == "NONE":
                pending = 0.0
            elif (wanted, pool) != running:
                pending = driver.restart_overhead_seconds
            running = (wanted, pool)
            history.append(wanted if wanted != "SPOT" else f"SPOT{pool}")
            if wanted != "NONE":
                price = self.spot_price[pool] if wanted == "SPOT" else self.on_demand_price
                cost += price * self.tick_seconds / 3600
                useful_span = min(self.tick_seconds, driver.deadline_seconds - elapsed)
                done += max(useful_span - pending, 0.0)
                pending = max(pending - self.tick_seconds, 0.0)
        return cost, done >= driver.work_seconds - 1e-6, history


def main() -> None:
    """Three jobs one after the other for each policy, over two pools that come and go."""
    chance = random.Random(0)  # noqa: S311 -- a toy market, not a secret
    days = []
    for _ in range(3):
        pools = [True, True]
        spot = []
        for _ in range(12 * 6):
            pools = [up if chance.random() < 0.9 else not up for up in pools]
            spot.append(list(pools))
        days.append(spot)
    for name in ("on-demand", "spot-when-available", "greedy", "uniform-progress"):
        driver = ExternalDriver(
            name,
            work_seconds=8 * 3600,
            deadline_seconds=12 * 3600,
            restart_overhead_seconds=300,
            tick_seconds=600,
            spot_price=[0.9, 1.1],
            on_demand_price=3.0,
        )
        runs = [ToySimulator(spot, [0.9, 1.1], 3.0, 600).run(driver) for spot in days]
        bill = "  ".join(f"{cost:6.2f} USD" for cost, _, _ in runs)
        late = sum(not in_time for _, in_time, _ in runs)
        print(f"{name:22s}{bill}   late: {late}")


if __name__ == "__main__":
    main()
