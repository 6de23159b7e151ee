"""EC2 fleets: launched once, or maintained at a target of on-demand and spot units."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optimizer.fake_aws.clock import moment
from optimizer.fake_aws.cloud.allocation import Filled, Offer, fill
from optimizer.fake_aws.cloud.cloud import USER_ENDED, Cloud
from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.cloud.schedule import HEAL, TICK
from optimizer.fake_aws.errors import AwsError

MOST_RECORDS = 1000


@dataclass(frozen=True)
class Target:
    """Units of each lifecycle."""

    on_demand: int
    spot: int
    default: str

    @property
    def total(self) -> int:
        """Units of both."""
        return self.on_demand + self.spot


@dataclass(eq=False)
class Fleet:
    """One fleet.

    Attributes:
        cloud: The cloud.
        id: `fleet-` and 17 hexadecimal digits.
        region: Region.
        kind: `instant`, `request` or `maintain`.
        target: Units it is to have.
        offers: Pools to launch in.
        unsupported: Overrides that name no pool of the market, with what is wrong with them.
        spot_strategy: One of `allocation.SPOT_STRATEGIES`.
        on_demand_strategy: `lowest-price` or `prioritized`.
        cheapest_pools: Pools over which `lowest-price` spreads.
        instance_tags: Tags of its instances.
        shrink: Whether instances above the target are terminated.
        tags: Its own tags.
        shown: Members that describe calls repeat as they were given.
    """

    cloud: Cloud
    id: str
    region: str
    kind: str
    target: Target
    offers: list[Offer]
    unsupported: list[tuple[Offer, AwsError]]
    spot_strategy: str
    on_demand_strategy: str
    cheapest_pools: int
    instance_tags: dict[str, str]
    shrink: bool
    tags: dict[str, str]
    shown: dict[str, Any]
    members: dict[str, Instance] = field(default_factory=dict)
    launched: list[tuple[Offer, Instance]] = field(default_factory=list)
    errors: list[tuple[Offer, str, AwsError]] = field(default_factory=list)
    history: deque[tuple[datetime, str, str, str]] = field(default_factory=lambda: deque(maxlen=MOST_RECORDS))
    state: str = "active"
    created_ms: int = 0
    _heal_at: int | None = None

    def __post_init__(self) -> None:
        """Start to own instances."""
        self.created_ms = self.cloud.now
        self.cloud.owners[f"fleet:{self.id}"] = self

    def units(self, lifecycle: str | None = None) -> float:
        """Units it holds, all or of one lifecycle."""
        return sum(i.weight for i in self.members.values() if lifecycle in (None, i.lifecycle))

    def reconcile(self) -> None:
        """Launch what is missing of each lifecycle; terminate what is too much, if the fleet may shrink."""
        self.errors = []
        missing = 0.0
        for lifecycle, wanted in (("on-demand", self.target.on_demand), ("spot", self.target.spot)):
            lack = wanted - self.units(lifecycle)
            if lack > 0:
                missing += lack - self._fill(lifecycle, lack).units
            elif lack < 0 and self.shrink and self.kind == "maintain":
                self._shrink(lifecycle, wanted)
        if missing > 0 and self.kind == "maintain":
            self._heal_later()

    def _fill(self, lifecycle: str, units: float, offers: Sequence[Offer] | None = None) -> Filled:
        spot = lifecycle == "spot"
        filled = fill(
            self.cloud,
            self.offers if offers is None else offers,
            lifecycle,
            self.spot_strategy if spot else self.on_demand_strategy,
            units,
            lambda offer: self._launch(offer, lifecycle),
            held=Counter(i.pool for i in self.members.values() if i.lifecycle == lifecycle),
            cheapest_pools=self.cheapest_pools,
        )
        now = moment(self.cloud.now)
        if self.kind == "instant":  # describe calls repeat what an instant fleet launched at first
            self.launched += filled.launched
        for _, instance in filled.launched:
            self.history.append((now, "instance-change", "launched", instance.id))
        for offer, error in [*self.unsupported, *filled.failed]:
            self.errors.append((offer, lifecycle, error))
            self.history.append((now, "error", error.code, error.message))
        return filled

    def _launch(self, offer: Offer, lifecycle: str) -> Instance:
        instance = self.cloud.launch(
            offer.pool,
            lifecycle,
            max_price=offer.max_price if lifecycle == "spot" else None,
            owner=f"fleet:{self.id}",
            weight=offer.weight,
            tags={**offer.details.get("tags", {}), **self.instance_tags, "aws:ec2:fleet-id": self.id},
            details=dict(offer.details),
        )
        self.members[instance.id] = instance
        return instance

    def _shrink(self, lifecycle: str, wanted: float) -> None:
        for instance in sorted(self.members.values(), key=lambda instance: -instance.number):
            if instance.lifecycle == lifecycle and self.units(lifecycle) - instance.weight >= wanted:
                self.terminate(instance)

    def terminate(self, instance: Instance) -> None:
        """End one of its instances."""
        self.members.pop(instance.id, None)
        self.cloud.end(instance, USER_ENDED, by_owner=True)
        self.history.append((moment(self.cloud.now), "instance-change", "terminated", instance.id))

    def forget_when_over(self) -> None:
        """Drop a fleet that will never have instances again, some time after its last one went."""
        if self.members or (self.kind == "maintain" and self.state == "active"):
            return
        due = self.cloud.now + int(self.cloud.options.forget_seconds * 1000)
        self.cloud.schedule.at(due, TICK, self._forget)

    def _forget(self) -> None:
        self.cloud.regions[self.region].fleets.pop(self.id, None)
        self.cloud.owners.pop(f"fleet:{self.id}", None)

    def delete(self, *, terminate: bool) -> None:
        """Stop maintaining; end its instances, or let them go on."""
        self.state = "deleted_terminating" if terminate else "deleted_running"
        for instance in list(self.members.values()):
            if terminate:
                self.terminate(instance)
        self.forget_when_over()

    def lost(self, instance: Instance) -> None:
        """An instance was taken or terminated by somebody else."""
        self.members.pop(instance.id, None)
        self.history.append((moment(self.cloud.now), "instance-change", "terminated", instance.id))
        if self.kind == "maintain":
            self._heal_later()
        self.forget_when_over()

    def endangered(self, instance: Instance) -> None:
        """Start a replacement if the fleet was made with `launch` as its replacement strategy."""
        if self.shown.get("rebalance") and self.state == "active":
            lasting = [o for o in self.offers if self.cloud.interruptions.lasting(o.pool) > 0]
            self._fill("spot", instance.weight, lasting)

    def _heal_later(self) -> None:
        due = self.cloud.now + int(self.cloud.options.healing_seconds * 1000)
        if self.state != "active" or self._heal_at is not None:
            return
        self._heal_at = due

        def heal() -> None:
            self._heal_at = None
            if self.state == "active":
                self.reconcile()

        self.cloud.schedule.at(due, HEAL, heal)
