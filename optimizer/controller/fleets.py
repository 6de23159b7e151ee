"""From a plan's workloads to fleets: what one policy decides in one call.

Workloads of a fleet have one policy and number of pools; jobs also one number of locations of their data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from optimizer.controller.ground import locations_of
from optimizer.controller.jobs import JobFleet
from optimizer.controller.policies import load_deadline_policy, load_service_policy
from optimizer.controller.services import ServiceFleet
from optimizer.plan import DeadlineWorkload, Plan, ServiceWorkload
from policies.protocol import DeadlinePolicy
from policies.service import ServicePolicy

Jobs = list[tuple[JobFleet, DeadlinePolicy]]
Services = list[tuple[ServiceFleet, ServicePolicy]]


def make_fleets(plan: Plan) -> tuple[Jobs, Services]:
    """The fleets of a plan with their policies.

    Raises:
        InputError: A policy cannot be loaded, or is not the one that the plan was computed with.
    """
    jobs: dict[tuple[str, int, int], list[DeadlineWorkload]] = {}
    services: dict[tuple[str, int], list[ServiceWorkload]] = {}
    for one in plan.workloads:
        kind = (one.policy, len(one.pools))
        if isinstance(one, DeadlineWorkload):
            jobs.setdefault((*kind, locations_of(one)), []).append(one)
        else:
            services.setdefault(kind, []).append(one)
    return [
        (
            JobFleet(_key("deadline", name, pools, [one.name for one in mine]), mine),
            load_deadline_policy(plan.policy_of(mine[0])),
        )
        for (name, pools, _), mine in jobs.items()
    ], [
        (
            ServiceFleet(
                _key("service", name, pools, [one.name for one in members]), members, plan.tick_seconds
            ),
            load_service_policy(plan.policy_of(members[0])),
        )
        for (name, pools), members in services.items()
    ]


def _key(kind: str, policy: str, pools: int, names: Sequence[str]) -> str:
    """Names the saved state of a fleet: other workloads, policy or number of pools make another fleet."""
    digest = hashlib.sha256("\0".join([kind, policy, str(pools), *names]).encode()).hexdigest()
    return f"{kind}:{digest[:16]}"


def present_rate(fleets: Sequence[JobFleet | ServiceFleet], price: Mapping[str, float]) -> float:
    """USD per hour of the placements that the plan found, at the prices of now."""
    rate = 0.0
    for fleet in fleets:
        for row, one in enumerate(fleet.workloads):
            if isinstance(fleet, JobFleet) and not fleet.active[row]:
                continue
            paid = max(one.placement_now.on_demand - int(fleet.committed[row]), 0)
            rate += paid * float(fleet.on_demand_price[row])
            rate += sum(
                held.instances * price.get(held.pool, fleet.pools[held.pool].on_demand_price)
                for held in one.placement_now.spot
            )
    return rate
