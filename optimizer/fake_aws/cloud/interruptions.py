"""Interruptions: warned of some time before the tick that takes the capacity, and then carried out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.cloud.schedule import RECOMMEND, TICK, WARN
from simulator.errors import InputError

if TYPE_CHECKING:
    from optimizer.fake_aws.cloud.cloud import Cloud

SPOT_TAKEN = (
    "Server.SpotInstanceTermination",
    "Server.SpotInstanceTermination: Spot instance termination",
    "Service initiated",
)
"""State reason code and message, and transition reason, of an instance that was taken."""


class Interruptions:
    """Follows the market tick by tick: warnings, rebalance recommendations, interruptions."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._false_recommendations_owed = 0.0
        self._warn_ms = int(cloud.options.notice_seconds * 1000)
        recommend_ms = max(int(cloud.options.rebalance_seconds * 1000), self._warn_ms)
        first = cloud.pools.tick_at(cloud.now) + 1
        self._chain(first, 0, TICK, self._tick_starts)
        self._chain(first, self._warn_ms, WARN, self._warn_of)
        if cloud.options.rebalance_recall > 0:
            self._chain(first, recommend_ms, RECOMMEND, self._recommend_before)

    def _chain(self, tick: int, lead_ms: int, order: int, event: Callable[[int], None]) -> None:
        """Run `event(tick)` `lead_ms` before each tick from `tick` on begins."""
        if tick >= self._cloud.pools.ticks:
            return

        def due() -> None:
            event(tick)
            self._chain(tick + 1, lead_ms, order, event)

        self._cloud.schedule.at(self._cloud.pools.starts_at(tick) - lead_ms, order, due)

    def _tick_starts(self, tick: int) -> None:
        start = self._cloud.pools.starts_at(tick)
        for pool in range(len(self._cloud.pools.pools)):
            if not self._cloud.holdings.count(pool):
                continue
            self._warn_pool(pool, tick)
            for instance in self._cloud.holdings.of(pool):
                if instance.taken_ms is not None and instance.taken_ms <= start:
                    self._cloud.end(instance, SPOT_TAKEN)

    def _warn_of(self, tick: int) -> None:
        for pool in range(len(self._cloud.pools.pools)):
            self._warn_pool(pool, tick)

    def _warn_pool(self, pool: int, tick: int) -> None:
        """Warn those that a tick will take: above their highest price, then the youngest above capacity."""
        start = self._cloud.pools.starts_at(tick)
        for instance in self._taken_by(pool, tick):
            # what owners did about the one before may have ended or warned this one already
            if instance.held and (instance.taken_ms is None or instance.taken_ms > start):
                self._warn(instance, start)

    def launched(self, instance: Instance) -> None:
        """A spot instance was launched: warn at once if a tick that was announced already will take it."""
        for tick in self._announced():
            self._warn_pool(instance.pool, tick)

    def lasting(self, pool: int) -> int:
        """Spot instances that could be launched in a pool now without being warned at once."""
        cloud = self._cloud
        left = [cloud.free(pool)]
        for tick in self._announced():
            staying = len(cloud.holdings.staying(pool, cloud.pools.starts_at(tick)))
            left.append(cloud.pools.capacity(pool, tick) - staying)
        return min(left)

    def _announced(self) -> range:
        """Ticks to come whose interruptions were announced."""
        pools, now = self._cloud.pools, self._cloud.now
        return range(pools.tick_at(now) + 1, pools.tick_at(now + self._warn_ms) + 1)

    def interrupt(self, instance_id: str) -> None:
        """Warn of, and after `notice_seconds` take, a spot instance although there is capacity.

        Raises:
            InputError: It is no spot instance that is held and not yet warned.
        """
        for region in self._cloud.regions.values():
            instance = region.instances.get(instance_id)
            if instance and instance.held and instance.lifecycle == "spot" and instance.taken_ms is None:
                self._warn(instance, self._cloud.now + self._warn_ms)
                self._cloud.schedule.at(
                    self._cloud.now + self._warn_ms, TICK, partial(self._cloud.end, instance, SPOT_TAKEN)
                )
                return
        raise InputError(f"instance {instance_id}; accepted: a spot instance that runs and is not yet warned")

    def _warn(self, instance: Instance, taken_ms: int) -> None:
        instance.taken_ms = taken_ms
        detail = {"instance-id": instance.id, "instance-action": "terminate"}
        self._cloud.notices.publish(instance, "EC2 Spot Instance Interruption Warning", detail)
        self._endangered(instance)

    def _taken_by(self, pool: int, tick: int) -> list[Instance]:
        if not self._cloud.holdings.count(pool):
            return []
        price = self._cloud.pools.price(pool, "spot", tick)
        staying = self._cloud.holdings.staying(pool, self._cloud.pools.starts_at(tick))
        dear = [i for i in staying if i.max_price is not None and i.max_price < price]
        others = [i for i in staying if i.max_price is None or i.max_price >= price]
        kept = self._cloud.pools.capacity(pool, tick)
        return dear + others[kept:][::-1]

    def _recommend_before(self, tick: int) -> None:
        options = self._cloud.options
        for pool in range(len(self._cloud.pools.pools)):
            for instance in self._taken_by(pool, tick):
                if not instance.recommended and self._cloud.rng.random() < options.rebalance_recall:
                    self._recommend(instance)
                    precision = options.rebalance_precision
                    self._false_recommendations_owed += (1 - precision) / precision
        while self._false_recommendations_owed >= 1:
            safe = [
                instance
                for pool in range(len(self._cloud.pools.pools))
                for instance in self._cloud.holdings.of(pool)[: self._cloud.pools.capacity(pool, tick)]
                if instance.taken_ms is None and not instance.recommended
            ]
            if not safe:
                return
            self._false_recommendations_owed -= 1
            self._recommend(self._cloud.rng.choice(safe))

    def _recommend(self, instance: Instance) -> None:
        instance.recommended = True
        self._cloud.notices.publish(
            instance, "EC2 Instance Rebalance Recommendation", {"instance-id": instance.id}
        )
        self._endangered(instance)

    def _endangered(self, instance: Instance) -> None:
        owner = self._cloud.owners.get(instance.owner)
        if owner is not None:
            owner.endangered(instance)
