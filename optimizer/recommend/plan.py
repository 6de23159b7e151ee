"""From a report to the plan file that the controller takes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from optimizer.plan import (
    Caps,
    DeadlineWorkload,
    Expected,
    Name,
    Plan,
    PlanPool,
    PolicyReference,
    SeriesDemand,
    ServiceWorkload,
    file_sha256,
)
from optimizer.recommend.prepare import whole_instances
from optimizer.recommend.result import HOURS_PER_MONTH, WorkloadReport, known
from optimizer.recommend.run import Found
from optimizer.recommend.scenarios import Judged
from optimizer.recommend.wide import is_type, on_demand_prices, type_of
from optimizer.recommend.windows import WEEK
from policies.registry import CHAMPIONS
from simulator.errors import InputError
from simulator.market import Pool
from simulator.market.readers.zones import is_zone_id

if TYPE_CHECKING:
    from optimizer.billing.workloads import Workload

DAYS = 7
"""A plan may be used this long: its demand is last week's."""
HEADROOM = 1.25
"""Caps are this much above what the plan itself asks for."""
SPARES = 2
"""Instances beyond the demand that the caps leave room for."""
FASTEST_TICK, SLOWEST_TICK = 30, 3600


def make_plan(found: Found, now: datetime) -> tuple[Plan | None, tuple[str, ...]]:
    """The plan of all workloads that the report wants moved.

    Returns:
        The plan, None if nothing is to be moved, and what has to be said of it: why workloads that are to be
        moved are not in it, and that it rests on a synthetic market.
    """
    created = now.astimezone(UTC).replace(microsecond=0)
    workloads: list[ServiceWorkload | DeadlineWorkload] = []
    left: list[str] = []
    usd, instances, ticks = 0.0, 0, []
    for one, report in zip(found.judged, found.report.workloads, strict=True):
        if report.decision.action != "move":
            continue
        try:
            made = _workload(one, report, found, created)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            left.append(f"{report.name}: not in the plan ({where}: {first['msg']})")
            continue
        workloads.append(made)
        most = _peak(made)
        instances += most
        usd += most * max(pool.on_demand_price for pool in made.pools)
        ticks.append(known(report.market, "the market").tick_seconds)
    if not workloads:
        return None, tuple(left)
    tick = min(max(min(ticks), FASTEST_TICK), SLOWEST_TICK)
    left += _warnings(found, {one.name for one in workloads}, tick)
    plan = Plan.seal(
        created=created,
        expires=created + timedelta(days=DAYS),
        tick_seconds=tick,
        inputs=found.report.inputs,
        policies=tuple(
            PolicyReference(name=name, kind=kind, bundle_sha256=bundle_sha256(name))
            for kind, name in sorted({(_kind(one), one.policy) for one in workloads})
        ),
        caps=Caps(
            usd_per_hour=round(usd * HEADROOM, 4),
            launches_per_tick=math.ceil(instances * HEADROOM),
            terminations_per_tick=math.ceil(instances * HEADROOM),
        ),
        workloads=tuple(workloads),
    )
    return plan, tuple(left)


def _warnings(found: Found, planned: set[str], tick: int) -> list[str]:
    """What has to be known before the plan is run on a real cloud."""
    markets = [one.market for one in found.report.workloads if one.name in planned and one.market]
    told = []
    if any("synthetic" in text.lower() for market in markets for text in market.assumed):
        told.append(
            "plan.yaml rests on a synthetic market: rehearse with it, do not apply it to a real cloud"
        )
    subjects = [one.subject for one in found.judged if one.subject.workload.name in planned]
    zones = {pool.zone for subject in subjects for pool in subject.match.pools}
    numbered = sorted(zone for zone in zones if is_zone_id(zone))
    if numbered:
        told.append(
            f"plan.yaml names zones by ID ({numbered[0]}), which AWS does not launch by: to apply it, "
            "recommend from a market of your own account (spotwise market fetch)"
        )
    others = {
        one.name: one.market.tick_seconds
        for one in found.report.workloads
        if one.name in planned and one.market and one.market.tick_seconds != tick
    }
    told += [
        f"{name}: judged at ticks of {judged} s, but plan.yaml decides every {tick} s: figures may differ"
        for name, judged in others.items()
    ]
    return told


def bundle_sha256(name: str) -> str | None:
    """Hash of the bundle that a policy name or path means; None for policies that are code."""
    for path in (Path(name), CHAMPIONS / f"{name}.policy"):
        if path.is_file():
            return file_sha256(path)
    return None


def _kind(one: ServiceWorkload | DeadlineWorkload) -> Any:
    return one.kind


def _peak(one: ServiceWorkload | DeadlineWorkload) -> int:
    if isinstance(one, DeadlineWorkload):
        return one.nodes
    return max(one.demand.instances, default=0) + SPARES if isinstance(one.demand, SeriesDemand) else 0


def _workload(
    one: Judged, report: WorkloadReport, found: Found, created: datetime
) -> ServiceWorkload | DeadlineWorkload:
    subject, decision = one.subject, report.decision
    workload = subject.workload
    rate, policy = known(subject.billed.on_demand_rate, "the rate"), known(decision.policy, "the policy")
    TypeAdapter(Name).validate_python(workload.name)
    scenario = one.scenarios[decision.role]
    used = {hours.pool for hours in scenario.hours if hours.option == "spot"}
    if subject.differences is not None:
        # on-demand capacity is had in every region, and what a policy does depends on all pools
        used = {pool.name for pool in subject.match.pools}
    # What a commitment covers goes on as it is: neither its instances nor its cost are the controller's.
    covered, whole = subject.committed_monthly, subject.whole
    shared: dict[str, Any] = {
        "name": workload.name,
        "pools": tuple(
            PlanPool(
                provider=pool.provider,
                region=pool.region,
                zone=pool.zone,
                instance_type=_sold_type(pool, workload),
                on_demand_price=price,
                throughput=throughput,
            )
            for pool, price, throughput in zip(
                subject.match.pools,
                on_demand_prices(subject.match, workload, rate),
                subject.match.throughput,
                strict=True,
            )
            if pool.name in used
        ),
        "policy": policy,
        "expected": Expected(
            hours=HOURS_PER_MONTH,
            cost_usd=max(scenario.monthly_usd - covered, 0.0) * whole,
            lateness_usd=scenario.lateness_usd,
            on_demand_usd=max(one.scenarios["on-demand"].monthly_usd - covered, 0.0) * whole,
            present_usd=max(subject.billed.monthly - covered, 0.0),
            saving_interval_usd=scenario.saving_interval_usd,
        ),
        "reasons": tuple(
            text[:2000] for text in (*_covered_words(one), *decision.reasons, *decision.assumptions)
        )[:50],
    }
    if workload.job is not None and workload.kind == "deadline-job":
        begins, due = _next_run(one, found, created), workload.job.due_hours
        return DeadlineWorkload(
            kind="deadline",
            begins=begins,
            deadline=begins + timedelta(hours=workload.job.deadline_hours),
            due=None if due is None else begins + timedelta(hours=due),
            lateness_usd_per_hour=workload.job.lateness_usd_per_hour,
            work_hours=workload.job.work_hours,
            restart_overhead_minutes=workload.job.restart_overhead_minutes,
            checkpoint_interval_minutes=workload.job.checkpoint_interval_minutes,
            checkpoint_cost_minutes=workload.job.checkpoint_cost_minutes,
            committed=workload.job.committed,
            nodes=workload.job.nodes,
            **_copies(one),
            **shared,
        )
    if workload.service is None:
        raise InputError(f"workload {workload.name}: kind {workload.kind} without its terms")
    start = created.replace(minute=0, second=0)
    return ServiceWorkload(
        kind="service",
        demand=SeriesDemand(
            source="series", start=start, step_seconds=3600, instances=_forecast(one, found, start)
        ),
        availability_target=workload.service.availability_target,
        cold_start_minutes=workload.service.cold_start_minutes,
        **shared,
    )


def _sold_type(pool: Pool, workload: Workload) -> str:
    """As it is sold: traces name types by their accelerator."""
    if pool.provider != "aws":
        return pool.instance_type
    return workload.instance_type if is_type(pool, workload.instance_type) else type_of(pool)


def _copies(one: Judged) -> dict[str, Any]:
    """Fields of the checkpoint; none if copies take nothing."""
    subject, job = one.subject, one.subject.workload.job
    if job is None or subject.differences is None or not subject.differences.copies:
        return {}
    regions = {pool.region for pool in subject.match.pools}
    return {
        "data_region": subject.differences.checkpoint_region,
        "checkpoint_size_gb": job.checkpoint_size_gb,
        "egress_usd_per_gb": job.egress_usd_per_gb,
        "bandwidth_mb_per_second": job.bandwidth_mb_per_second,
        "transfers": [each for each in job.transfers if {each.from_region, each.to_region} <= regions],
    }


def _covered_words(one: Judged) -> tuple[str, ...]:
    commitment = one.subject.commitment
    if commitment.covered_hours <= 0 or one.subject.workload.kind != "service":
        return ()
    return (
        "The demand and the expected costs of this plan are what no commitment covers. Leave the covered "
        f"instances ({commitment.covered_hours:,.0f} instance-hours a month) running beside it.",
    )


def _forecast(one: Judged, found: Found, start: datetime) -> tuple[int, ...]:
    """Instances per hour that no commitment covers, as in the same hour of the last week on record."""
    demand = whole_instances(one.subject.workload)
    period = WEEK if len(demand) >= WEEK else 24 if len(demand) >= 24 else 1
    first = len(demand) - period
    last = demand[first:]
    phase = int((start - found.file.span.start).total_seconds() // 3600) - first
    return tuple(int(last[(phase + hour) % len(last)]) for hour in range(DAYS * 24 + 1))


def _next_run(one: Judged, found: Found, created: datetime) -> datetime:
    """When the job's usual hour of the day comes next."""
    busy = np.flatnonzero(one.subject.workload.demand > 0)
    hour = (int(busy[0]) + found.file.span.start.hour) % 24 if busy.size else 0
    begins = created.replace(hour=hour, minute=0, second=0)
    return begins if begins > created else begins + timedelta(days=1)
