"""The simulator's own kernels as a cloud, in accelerated time.

Capacity is what the market recorded, for each workload by itself: the dynamics of
`simulator.deadline.kernel` and `simulator.service.kernel`, so that a policy meets here exactly what it met
in training and replay. Calls that arrive within a tick take effect in it; `wait_until` ends the tick: the
kernels bill it and take back what the next tick has no capacity for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from optimizer.controller.providers.protocol import (
    Instance,
    Launch,
    LaunchResult,
    NoCapacity,
    Notice,
    Provider,
    Quote,
    Refused,
)
from optimizer.plan import DeadlineWorkload, FixedDemand, Plan, PlanPool, SeriesDemand, ServiceWorkload
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineBatch, MarketStack
from simulator.deadline.terms import PoolTerms
from simulator.errors import InputError
from simulator.market import Market, ticks_for
from simulator.market.readers.zones import sold_as
from simulator.service import Service, ServiceBatch

TOKEN_TICKS = 20
"""A client token is remembered this long, as on AWS for a limited time."""


class SimulatedCloud:
    """A cloud that replays a market. It is its own clock, prices, capacity and interruptions.

    Attributes:
        tick: Tick of the market that is going on.
        jobs: Kernel of each deadline job that has begun, by name; a batch of one.
        services: Kernel of each service.
    """

    def __init__(
        self,
        market: Market,
        plan: Plan,
        *,
        seconds_per_tick: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin at the market's first tick.

        Args:
            market: What the pools offer; pools are told apart by name.
            plan: Whose workloads there are; their times must lie in the market.
            seconds_per_tick: Real seconds per tick.
            sleep: How to wait for them.

        Raises:
            InputError: A workload does not fit the market.
        """
        if plan.tick_seconds != market.tick_seconds:
            raise InputError(
                f"a plan with a tick of {plan.tick_seconds} s on a market of {market.tick_seconds} s; "
                "accepted: the same tick"
            )
        self.market, self.plan = market, plan
        self.seconds_per_tick, self._sleep = seconds_per_tick, sleep
        self.tick = 0
        # A plan names types as they are sold (p3.2xlarge), traces by their accelerator (v100).
        sold = {replace(pool, instance_type=sold_as(pool)).name: k for k, pool in enumerate(market.pools)}
        self._place = sold | {pool.name: k for k, pool in enumerate(market.pools)}
        self._workloads = {one.name: one for one in plan.workloads}
        self._instances: dict[str, Instance] = {}
        self._held: dict[str, dict[str, Instance]] = {one.name: {} for one in plan.workloads}
        self._answers: dict[str, tuple[int, LaunchResult]] = {}
        self._notices: list[Notice] = []
        self._made = 0
        self._stacks: dict[tuple[tuple[str, ...], PoolTerms | None], MarketStack] = {}
        self.jobs: dict[str, DeadlineBatch] = {}
        self.services: dict[str, ServiceBatch] = {}
        for one in plan.workloads:
            for pool in one.pools:
                if pool.name not in self._place:
                    raise InputError(f"workload {one.name}: pool {pool.name} is not in the market")
            if isinstance(one, DeadlineWorkload):
                self._check_job(one)
            else:
                self.services[one.name] = self._service(one)
        self._begin_jobs()

    def provider(self) -> Provider:
        """Itself behind every interface that it has."""
        return Provider("simulated", clock=self, prices=self, capacity=self, interruptions=self)

    # -------------------------------------------------------------------------------------------- clock

    def now(self) -> float:
        """Time at which the present tick began, seconds since 1970."""
        return self.market.start.timestamp() + self.tick * self.market.tick_seconds

    def steady(self) -> float:
        """The same: simulated time does not jump."""
        return self.now()

    def wait_until(self, moment: float) -> bool:
        """Let ticks pass until a moment."""
        while self.now() < moment and not self.over:
            if self.seconds_per_tick:
                self._sleep(self.seconds_per_tick)
            self.advance()
        return False

    @property
    def over(self) -> bool:
        """Whether the market has no further tick."""
        return self.tick >= self.market.ticks - 1

    def advance(self) -> None:
        """End the tick: bill it, begin the next one, take back what that has no capacity for.

        Raises:
            InputError: The market ends here.
        """
        if self.over:
            raise InputError("the market ends here")
        for name, job in self.jobs.items():
            job.step(np.array([self._placement(name)], np.int64))
        for name, service in self.services.items():
            if not service.done[0]:
                service.step(self._counts(name))
        self.tick += 1
        self._answers = {
            token: answer for token, answer in self._answers.items() if answer[0] > self.tick - TOKEN_TICKS
        }
        self._begin_jobs()
        for name in self._held:
            self._reclaim(name)

    # ------------------------------------------------------------------------------- prices and capacity

    def quotes(self, pools: Sequence[PlanPool]) -> Mapping[str, Quote]:
        """The market's prices at this tick."""
        now = self.now()
        return {
            pool.name: Quote(float(self.market.spot_price[self._place[pool.name], self.tick]), now)
            for pool in pools
        }

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        """The market's capacity at this tick."""
        return {
            pool.name: int(self.market.spot_capacity[self._place[pool.name], self.tick]) for pool in pools
        }

    def instances(self) -> Sequence[Instance]:
        """Every instance that is held, and those that ended in the present or the last tick."""
        horizon = self.now() - self.market.tick_seconds
        forgotten = [
            one.id
            for one in self._instances.values()
            if one.state == "gone" and one.ended_at is not None and one.ended_at < horizon
        ]
        for one in forgotten:
            del self._instances[one]
        return list(self._instances.values())

    def launch(self, request: Launch) -> LaunchResult:
        """Grant what the pool has for this workload; see `Capacity.launch`."""
        if request.token in self._answers:
            return self._answers[request.token][1]
        if request.workload not in self._held or request.pool.name not in self._place:
            raise Refused(f"no workload {request.workload!r} or no pool {request.pool.name}")
        granted = request.count
        if request.option == "spot":
            capacity = int(self.market.spot_capacity[self._place[request.pool.name], self.tick])
            held = sum(
                one.option == "spot" and one.pool == request.pool.name
                for one in self._held[request.workload].values()
            )
            granted = min(granted, max(capacity - held, 0))
        if granted < request.at_least:
            raise NoCapacity(f"{request.pool.name} has {granted} of {request.count} instances")
        ids = []
        for _ in range(granted):
            self._made += 1
            one = Instance(
                f"sim-{self._made:08d}",
                request.workload,
                request.pool.name,
                request.option,
                "running",
                self.now(),
                request.token,
            )
            self._instances[one.id] = self._held[request.workload][one.id] = one
            ids.append(one.id)
        result = LaunchResult(tuple(ids), "" if granted == request.count else "capacity")
        self._answers[request.token] = (self.tick, result)
        return result

    def terminate(self, ids: Sequence[str]) -> None:
        """End instances at once."""
        for one in ids:
            if one in self._instances and self._instances[one].state == "running":
                self._end(self._instances[one])

    # ------------------------------------------------------------------------------------- interruptions

    def receive(self) -> Sequence[Notice]:
        """Interruptions that nobody acknowledged yet."""
        return list(self._notices)

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """Forget them."""
        known = set(receipts)
        self._notices = [notice for notice in self._notices if notice.receipt not in known]

    # ------------------------------------------------------------------------------------------- inside

    def _stack(self, pools: Sequence[PlanPool], terms: PoolTerms | None = None) -> MarketStack:
        names = tuple(pool.name for pool in pools)
        if (names, terms) not in self._stacks:
            market = self.market.select([self._place[name] for name in names])
            # terms name pools as the plan does
            market = replace(market, pools=tuple(pool.pool for pool in pools))
            self._stacks[names, terms] = MarketStack.of([market], terms)
        return self._stacks[names, terms]

    def _check_job(self, one: DeadlineWorkload) -> None:
        offset = (one.begins - self.market.start).total_seconds() / self.market.tick_seconds
        ticks = ticks_for((one.deadline - one.begins).total_seconds(), self.market.tick_seconds)
        if offset != int(offset) or offset < 0 or offset + ticks >= self.market.ticks:
            raise InputError(
                f"workload {one.name}: from {one.begins} to {one.deadline} does not fit the market; "
                f"accepted: whole ticks of {self.market.tick_seconds} s from {self.market.start} to "
                "one tick before "
                f"{self.market.end}"
            )

    def _begin_jobs(self) -> None:
        for one in self.plan.workloads:
            if isinstance(one, DeadlineWorkload) and one.begins.timestamp() == self.now():
                job = one.job
                stack = self._stack(one.pools, job.terms)
                self.jobs[one.name] = DeadlineBatch.of(stack, job, [0], [self.tick])

    def _service(self, one: ServiceWorkload) -> ServiceBatch:
        tick, ticks = self.market.tick_seconds, self.market.ticks
        if isinstance(one.demand, FixedDemand):
            demand = np.full(ticks, one.demand.instances)
        elif isinstance(one.demand, SeriesDemand):
            moments = self.market.start.timestamp() + np.arange(ticks) * tick
            step = (moments - one.demand.start.timestamp()) // one.demand.step_seconds
            demand = np.array(one.demand.instances)[
                np.clip(step, 0, len(one.demand.instances) - 1).astype(np.int64)
            ]
        else:
            raise InputError(f"workload {one.name}: its demand is a group; the simulated cloud has no groups")
        service = Service.of(
            demand,
            tick_seconds=tick,
            availability_target=one.availability_target,
            cold_start_seconds=60.0 * one.cold_start_minutes,
            committed=one.committed,
        )
        return ServiceBatch(self._stack(one.pools), service, 0, [0])

    def _counts(self, name: str) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        pools = {pool.name: k for k, pool in enumerate(self._workloads[name].pools)}
        counts = np.zeros((1, len(pools) + 1), np.int64)
        for one in self._held[name].values():
            counts[0, pools[one.pool] if one.option == "spot" else len(pools)] += 1
        return counts

    def _placement(self, name: str) -> int:
        """What the kernel is to run: the placement that has all the nodes, the one begun last if two have."""
        one = self._workloads[name]
        nodes = one.nodes if isinstance(one, DeadlineWorkload) else 1
        counts = self._counts(name)[0]
        columns = np.flatnonzero(counts >= nodes).tolist()
        if not columns:
            return IDLE
        newest = max(columns, key=lambda k: self._begun(name, k))
        return ON_DEMAND if newest == len(one.pools) else FIRST_SPOT + int(newest)

    def _begun(self, name: str, column: int) -> str:
        pools = self._workloads[name].pools
        return max(
            instance.id
            for instance in self._held[name].values()
            if (instance.option == "on-demand") == (column == len(pools))
            and (column == len(pools) or instance.pool == pools[column].name)
        )

    def _reclaim(self, name: str) -> None:
        """Take back what the new tick has no capacity for: all of a gang, the youngest of a service."""
        one = self._workloads[name]
        spot = [held for held in self._held[name].values() if held.option == "spot"]
        for pool in {held.pool for held in spot}:
            mine = [held for held in spot if held.pool == pool]
            left = int(self.market.spot_capacity[self._place[pool], self.tick])
            if isinstance(one, DeadlineWorkload):
                left = left if left >= one.nodes else 0
            for held in mine[left:]:
                self._end(held)
                self._notices.append(Notice(held.id, "interruption", self.now(), f"receipt-{held.id}"))

    def _end(self, one: Instance) -> None:
        ended = replace(one, state="gone", ended_at=self.now())
        self._instances[one.id] = ended
        self._held[one.workload].pop(one.id, None)


def joined(files: Sequence[Path]) -> Market:
    """One market of several files: all begin when the first one does and end with the shortest.

    Raises:
        InputError: A file cannot be read, ticks differ, or a pool is in two files.
    """
    markets = [Market.load(path) for path in files]
    if not markets:
        raise InputError("provider.simulated.market: an empty list; accepted: one market file or several")
    for path, market in zip(files, markets, strict=True):
        if market.tick_seconds != markets[0].tick_seconds:
            raise InputError(
                f"{path}: a tick of {market.tick_seconds} s beside {markets[0].tick_seconds} s in "
                f"{files[0]}; "
                "accepted: the same tick"
            )
    if len(markets) == 1:
        return markets[0]
    ticks = min(market.ticks for market in markets)
    return Market(
        tuple(pool for market in markets for pool in market.pools),
        markets[0].tick_seconds,
        markets[0].start,
        np.concatenate([market.spot_price[:, :ticks] for market in markets]),
        np.concatenate([market.spot_capacity[:, :ticks] for market in markets]),
        np.concatenate([market.on_demand_price[:, :ticks] for market in markets]),
        ", ".join(market.source for market in markets),
    )
