"""Auto Scaling groups: kept at their desired capacity, with a mix that only launches obey."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optimizer.fake_aws.clock import moment
from optimizer.fake_aws.cloud.allocation import Filled, Offer, fill, on_demand_units
from optimizer.fake_aws.cloud.cloud import USER_ENDED, Cloud
from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.cloud.pools import subnet_of
from optimizer.fake_aws.cloud.schedule import HEAL
from optimizer.fake_aws.errors import AwsError

MOST_ACTIVITIES = 1000


@dataclass(frozen=True)
class Mix:
    """How a group's launches are shared between on-demand and spot.

    Attributes:
        base: Units that are on-demand whatever the total.
        percentage: Share of on-demand in what is above the base, in percent.
        on_demand_strategy: `lowest-price` or `prioritized`.
        spot_strategy: One of `allocation.SPOT_STRATEGIES`.
        cheapest_pools: Pools over which `lowest-price` spreads.
        max_price: Highest spot price; None is no limit.
    """

    base: int = 0
    percentage: float = 100
    on_demand_strategy: str = "lowest-price"
    spot_strategy: str = "lowest-price"
    cheapest_pools: int = 2
    max_price: float | None = None


@dataclass(frozen=True)
class Settings:
    """What a user set, as a whole; a change makes a new one.

    Attributes:
        least: MinSize.
        most: MaxSize.
        desired: DesiredCapacity.
        zones: Zones to launch in.
        offers: Pools to launch in.
        mix: On-demand and spot.
        capacity_rebalance: Whether an endangered instance is replaced before it goes.
        protect_new: Whether new instances are protected from scale-in.
        policies: Termination policies.
        shown: Members that describe calls repeat as they were given.
    """

    least: int
    most: int
    desired: int
    zones: tuple[str, ...]
    offers: tuple[Offer, ...]
    mix: Mix
    capacity_rebalance: bool = False
    protect_new: bool = False
    policies: tuple[str, ...] = ("Default",)
    shown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Activity:
    """One scaling activity."""

    id: str
    description: str
    cause: str
    at: datetime
    failure: str
    details: str


class Group:
    """One Auto Scaling group.

    Attributes:
        name: Its name.
        settings: What the user set.
        history: Settings by time, for describe calls that lag.
        members: Instances it holds, by id.
        past: Instances it held, until they are terminated.
        suspended: Suspended processes.
        activities: Newest last.
        tags: Tags: value, and whether instances get it.
        created: When it was made.
    """

    def __init__(self, cloud: Cloud, region: str, name: str, settings: Settings) -> None:
        self.name, self.region, self.settings = name, region, settings
        self.key = f"asg:{region}:{name}"
        self.history: list[tuple[int, Settings]] = [(cloud.now, settings)]
        self.members: dict[str, Instance] = {}
        self.past: list[Instance] = []
        self.suspended: set[str] = set()
        self.activities: deque[Activity] = deque(maxlen=MOST_ACTIVITIES)
        self.tags: dict[str, tuple[str, bool]] = {}
        self.created = moment(cloud.now)
        self.deleted = False
        self._cloud = cloud
        self._leaving: set[str] = set()
        self._heal_at: int | None = None
        cloud.owners[self.key] = self

    # ----------------------------------------------------------------------------------------- state
    def units(self, lifecycle: str | None = None) -> float:
        """Units of capacity it counts on, all or of one lifecycle."""
        return sum(
            instance.weight
            for instance in self.members.values()
            if instance.id not in self._leaving and lifecycle in (None, instance.lifecycle)
        )

    def change(self, settings: Settings) -> None:
        """Use other settings from now on; running instances stay as they are."""
        self.settings = settings
        self.history.append((self._cloud.now, settings))
        self.reconcile()

    def seen(self, ms: int) -> Settings | None:
        """The settings at a moment; None if it was not there yet."""
        while len(self.history) > 1 and self.history[1][0] <= ms:
            del self.history[0]
        return self.history[0][1] if self.history[0][0] <= ms else None

    def seen_members(self, ms: int) -> list[Instance]:
        """Instances as a describe call shows them: visible and not yet terminated."""
        self.past = [instance for instance in self.past if instance.state(ms)[1] != "terminated"]
        both = [*self.past, *self.members.values()]
        return sorted((i for i in both if i.visible(ms)), key=lambda instance: instance.number)

    # ------------------------------------------------------------------------------------ reconciling
    def reconcile(self) -> None:
        """Launch what is missing, terminate what is too much."""
        missing = self.settings.desired - self.units()
        if missing > 0 and "Launch" not in self.suspended:
            self._launch_missing(missing)
        elif missing < 0 and "Terminate" not in self.suspended:
            self._scale_in()

    def _launch_missing(self, missing: float) -> None:
        mix = self.settings.mix
        target = on_demand_units(self.settings.desired, mix.base, mix.percentage)
        on_demand = min(max(target - self.units("on-demand"), 0), missing)
        cause = "an instance was started in response to a difference between desired and actual capacity"
        done = self._fill("on-demand", mix.on_demand_strategy, on_demand, cause)
        spot = self._fill("spot", mix.spot_strategy, missing - on_demand, cause)
        if done.units + spot.units < missing:
            self.heal_later()

    def _fill(
        self, lifecycle: str, strategy: str, units: float, cause: str, offers: Sequence[Offer] | None = None
    ) -> Filled:
        held = Counter(i.pool for i in self.members.values() if i.lifecycle == lifecycle)
        zones = Counter(dict.fromkeys(self.settings.zones, 0))
        zones.update(i.zone for i in self.members.values())
        filled = fill(
            self._cloud,
            self.settings.offers if offers is None else offers,
            lifecycle,
            strategy,
            units,
            lambda offer: self._launch(offer, lifecycle),
            held=held,
            cheapest_pools=self.settings.mix.cheapest_pools,
            zones=zones,
        )
        for _, instance in filled.launched:
            self._record(f"Launching a new EC2 instance: {instance.id}", cause, instance.zone)
        for offer, error in filled.failed:
            kind = "Spot Instances" if lifecycle == "spot" else "On-Demand Instances"
            text = f"Could not launch {kind}. {error.code} - {error.message} Launching EC2 instance failed."
            pool = self._cloud.pools.pools[offer.pool]
            self._record(
                f"Launching a new EC2 instance.  Status Reason: {text}",
                cause,
                offer.zone,
                text,
                pool.instance_type,
            )
        return filled

    def _launch(self, offer: Offer, lifecycle: str) -> Instance:
        tags = {key: value for key, (value, propagate) in self.tags.items() if propagate}
        instance = self._cloud.launch(
            offer.pool,
            lifecycle,
            max_price=self.settings.mix.max_price if lifecycle == "spot" else None,
            owner=self.key,
            weight=offer.weight,
            tags={**offer.details.get("tags", {}), **tags, "aws:autoscaling:groupName": self.name},
            details=dict(offer.details),
            protected=self.settings.protect_new,
        )
        self.members[instance.id] = instance
        return instance

    def _scale_in(self) -> None:
        while True:
            excess = self.units() - self.settings.desired
            fits = [
                instance
                for instance in self.members.values()
                if instance.id not in self._leaving and not instance.protected and instance.weight <= excess
            ]
            if excess <= 0 or not fits:
                return
            self.terminate(self._victim(fits), "a difference between desired and actual capacity")

    def _victim(self, fits: list[Instance]) -> Instance:
        mix, desired = self.settings.mix, self.settings.desired
        over = self.units("on-demand") - on_demand_units(desired, mix.base, mix.percentage)
        lifecycle = "on-demand" if over > 0 else "spot"
        fits = [instance for instance in fits if instance.lifecycle == lifecycle] or fits
        zones = Counter(instance.zone for instance in self.members.values())
        most = max(zones[instance.zone] for instance in fits)
        fits = [instance for instance in fits if zones[instance.zone] == most]
        newest = self.settings.policies[:1] == ("NewestInstance",)
        return (max if newest else min)(fits, key=lambda instance: instance.number)

    def terminate(self, instance: Instance, cause: str) -> None:
        """End one of its instances."""
        self._drop(instance)
        self._cloud.end(instance, USER_ENDED, by_owner=True)
        self._record(f"Terminating EC2 instance: {instance.id}", cause, instance.zone)

    def attach(self, instance: Instance) -> None:
        """Take over a running instance."""
        instance.owner = self.key
        self.members[instance.id] = instance

    def detach(self, instance: Instance) -> None:
        """Let an instance go on without the group."""
        instance.owner = ""
        self.members.pop(instance.id, None)
        self._leaving.discard(instance.id)

    def _drop(self, instance: Instance) -> None:
        self.members.pop(instance.id, None)
        self._leaving.discard(instance.id)
        self.past.append(instance)

    def heal_later(self) -> None:
        """Look again after `healing_seconds`, once however often it is asked."""
        due = self._cloud.now + int(self._cloud.options.healing_seconds * 1000)
        if self.deleted or (self._heal_at is not None and self._heal_at <= due):
            return
        self._heal_at = due

        def heal() -> None:
            self._heal_at = None
            if not self.deleted:
                self.reconcile()

        self._cloud.schedule.at(due, HEAL, heal)

    # -------------------------------------------------------------------------------- what happens to it
    def lost(self, instance: Instance) -> None:
        """An instance was taken or terminated by somebody else: replace it."""
        self._drop(instance)
        self._record(
            f"Terminating EC2 instance: {instance.id}",
            "an instance was taken out of service in response to an EC2 health check",
            instance.zone,
        )
        self.heal_later()

    def endangered(self, instance: Instance) -> None:
        """With capacity rebalancing: start a replacement, and let the old one go once it runs."""
        if not self.settings.capacity_rebalance or instance.id in self._leaving:
            return
        lasting = [o for o in self.settings.offers if self._cloud.interruptions.lasting(o.pool) > 0]
        strategy, cause = self.settings.mix.spot_strategy, "an instance at risk of interruption"
        filled = self._fill("spot", strategy, instance.weight, cause, lasting)
        if not filled.launched:
            return
        self._leaving.add(instance.id)

        def let_go() -> None:
            if instance.id in self.members:
                self.terminate(instance, "an instance at risk of interruption was replaced")

        ready = self._cloud.now + int(self._cloud.options.boot_seconds * 1000)
        self._cloud.schedule.at(ready, HEAL, let_go)

    def _record(
        self, description: str, cause: str, zone: str, failure: str = "", instance_type: str = ""
    ) -> None:
        details = {"Subnet ID": subnet_of(zone), "Availability Zone": zone}
        if instance_type:
            details["Instance Type"] = instance_type
        at = moment(self._cloud.now)
        self.activities.append(
            Activity(
                self._cloud.uuid(),
                description,
                f"At {at.strftime('%Y-%m-%dT%H:%M:%SZ')} {cause}.",
                at,
                failure,
                json.dumps(details),
            )
        )


def member(group: Group | None, instance: Instance) -> Group:
    """The group, if it holds the instance.

    Raises:
        AwsError: It does not.
    """
    if group is None or instance.id not in group.members:
        raise AwsError("ValidationError", f"Instance {instance.id} is not part of Auto Scaling group.")
    return group
