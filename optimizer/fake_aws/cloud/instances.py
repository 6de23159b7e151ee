"""Instances: launched within capacity, warned and taken when it goes, billed to the millisecond."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from optimizer.fake_aws.cloud.pools import Pools

PENDING, RUNNING, SHUTTING_DOWN, TERMINATED = (
    (0, "pending"),
    (16, "running"),
    (32, "shutting-down"),
    (48, "terminated"),
)


@dataclass(eq=False)
class Instance:
    """One instance.

    Attributes:
        id: `i-` and 17 hexadecimal digits.
        number: Position in the order of all launches; the youngest has the highest.
        pool: Index of its pool.
        region: Region.
        zone: Zone.
        instance_type: Instance type.
        lifecycle: `spot` or `on-demand`.
        launched_ms: When it was launched; billed from then on.
        boot_ms: From launch to `running`.
        shutdown_ms: From its end to `terminated`.
        minimum_ms: For how long it is billed at least; the rest at the price in force when it ended.
        owner: Group or fleet that launched it, `asg:NAME` or `fleet:ID`; empty for single instances.
        weight: Units of the owner's capacity.
        max_price: Highest spot price to pay, USD per hour; None is no limit.
        tags: Tags.
        details: What was asked of the launch and is only shown again (image, reservation, token, template).
        taken_ms: When a warned instance will be taken; None while it is not warned.
        ended_ms: When it was terminated or taken; billed until then; None while it is held.
        reason: State reason code and message, and transition reason, once it ended.
        protected: Protected from scale-in.
        recommended: Whether a rebalance recommendation was sent for it.
    """

    id: str
    number: int
    pool: int
    region: str
    zone: str
    instance_type: str
    lifecycle: str
    launched_ms: int
    boot_ms: int
    shutdown_ms: int
    minimum_ms: int
    owner: str = ""
    weight: float = 1.0
    max_price: float | None = None
    tags: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    taken_ms: int | None = None
    ended_ms: int | None = None
    reason: tuple[str, str, str] = ("", "", "")
    protected: bool = False
    recommended: bool = False

    @property
    def held(self) -> bool:
        """Whether it takes up capacity and costs money."""
        return self.ended_ms is None

    def visible(self, ms: int) -> bool:
        """Whether it had been launched at a moment."""
        return ms >= self.launched_ms

    def state(self, ms: int) -> tuple[int, str]:
        """Code and name of its state at a moment."""
        if self.ended_ms is not None and ms >= self.ended_ms:
            return TERMINATED if ms >= self.ended_ms + self.shutdown_ms else SHUTTING_DOWN
        return RUNNING if ms >= self.launched_ms + self.boot_ms else PENDING

    def cost(self, pools: Pools, ms: int) -> int:
        """Cost until `ms`, which is no earlier than its end, in bill units."""
        if self.ended_ms is None:
            return pools.cost(self.pool, self.lifecycle, self.launched_ms, ms)
        held = pools.cost(self.pool, self.lifecycle, self.launched_ms, self.ended_ms)
        rest_ms = max(self.launched_ms + self.minimum_ms - self.ended_ms, 0)
        return held + rest_ms * pools.price_units(self.pool, self.lifecycle, self.ended_ms)


class Holdings:
    """Which instances of one lifecycle each pool holds, oldest first."""

    def __init__(self, pools: int) -> None:
        self._held: list[dict[str, Instance]] = [{} for _ in range(pools)]

    def add(self, instance: Instance) -> None:
        """An instance was launched."""
        self._held[instance.pool][instance.id] = instance

    def remove(self, instance: Instance) -> None:
        """It ended."""
        self._held[instance.pool].pop(instance.id, None)

    def of(self, pool: int) -> list[Instance]:
        """Instances of a pool, oldest first."""
        return list(self._held[pool].values())

    def count(self, pool: int) -> int:
        """How many a pool holds."""
        return len(self._held[pool])

    def staying(self, pool: int, until_ms: int) -> list[Instance]:
        """Those that are not to be taken at or before a moment, oldest first."""
        return [i for i in self._held[pool].values() if i.taken_ms is None or i.taken_ms > until_ms]
