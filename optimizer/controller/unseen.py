"""What cannot be seen: a region that does not answer, an Auto Scaling group that is not there.

Workloads that may have something there stay as they are; all others go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import InstanceRow
from optimizer.controller.observe import Sight
from optimizer.controller.services import ServiceFleet
from optimizer.plan import PlanPool

Fleets = Sequence[JobFleet | ServiceFleet]


@dataclass(frozen=True, slots=True)
class Unseen:
    """What one look could not see.

    Attributes:
        regions: Regions whose instances could not be listed.
        grouped: Workloads whose Auto Scaling group was not described.
        unknown: Workloads with a pool in a region that never answered this process: nobody knows what runs.
        pools: Of the plan.
    """

    regions: AbstractSet[str]
    grouped: AbstractSet[str]
    unknown: AbstractSet[str]
    pools: Mapping[str, PlanPool]

    def hides(self, row: InstanceRow) -> bool:
        """Whether an instance may run although it was not described."""
        return row.workload in self.grouped or self.hides_pool(row.pool)

    def hides_pool(self, name: str) -> bool:
        """Whether a pool is in a region that was not seen; one that the plan does not have may be."""
        pool = self.pools.get(name)
        return bool(self.regions) and (pool is None or pool.region in self.regions)

    def still(self, inventory: Inventory) -> frozenset[str]:
        """Workloads that must stay as they are."""
        if not self.regions and not self.grouped:
            return frozenset(self.unknown)
        held = {row.workload for row in inventory.all_live() if self.hides(row)}
        return frozenset(held | self.grouped | self.unknown)

    def avoid(self, fleets: Fleets) -> None:
        """On-demand capacity is asked for where there is an answer."""
        for fleet in fleets:
            for row, one in enumerate(fleet.workloads):
                if one.pools[int(fleet.cheapest[row])].region in self.regions:
                    others = [
                        k
                        for k, pool in enumerate(one.pools)
                        if pool.region not in self.regions and _may_be_asked(fleet, row, pool.name)
                    ]
                    if others:
                        fleet.cheapest[row] = min(others, key=lambda k: one.pools[k].on_demand_price)


def _may_be_asked(fleet: JobFleet | ServiceFleet, row: int, pool: str) -> bool:
    """Whether a workload may work on on-demand capacity of a pool: jobs go where their checkpoint is."""
    return not isinstance(fleet, JobFleet) or fleet.on_demand_fits(row, pool)


def look_for(
    sight: Sight, fleets: Fleets, groups: Mapping[str, str], pools: Mapping[str, PlanPool]
) -> Unseen:
    """What a look could not see.

    Args:
        sight: The look.
        fleets: Of the plan.
        groups: Name of the Auto Scaling group by workload.
        pools: Of the plan.
    """
    unknown = {
        one.name
        for fleet in fleets
        if sight.never
        for one in fleet.workloads
        if one.name not in groups and any(pool.region in sight.never for pool in one.pools)
    }
    grouped = {name for name, group in groups.items() if group not in sight.groups}
    return Unseen(sight.dark, grouped, unknown, pools)
