"""What a plan places: its workloads with their pools, demand and terms."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from optimizer.job_terms import (
    BANDWIDTH_MB_PER_SECOND,
    EGRESS_USD_PER_GB,
    MOST_TRANSFERS,
    Bandwidth,
    EgressPrice,
    Gigabytes,
    Throughput,
    Transfer,
    check_transfers,
    pool_terms,
)
from simulator.deadline.job import DeadlineJob
from simulator.errors import InputError
from simulator.market import Pool

HIGHEST_POOLS = 200
HIGHEST_INSTANCES = 100_000


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, Field(strict=False), AfterValidator(_in_utc)]
"""A time with a zone; kept in UTC."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,127}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, le=HIGHEST_INSTANCES)]
Price = Annotated[float, Field(gt=0, le=100_000)]


class PlanPart(BaseModel):
    """No unknown field, no conversion, no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PlanPool(PlanPart):
    """One place where instances may run.

    Attributes:
        provider: `aws`, or the provider of a recorded market.
        region: Region.
        zone: Availability zone.
        instance_type: Instance type.
        on_demand_price: USD per instance-hour there, known when the plan was made.
        throughput: Work of a job per productive hour there, 1 = as `work_hours` are counted.
    """

    provider: Label
    region: Label
    zone: Label
    instance_type: Label
    on_demand_price: Price
    throughput: Throughput = 1.0

    @property
    def pool(self) -> Pool:
        """The pool as the simulator and the policies know it."""
        return Pool(self.provider, self.region, self.zone, self.instance_type)

    @property
    def name(self) -> str:
        """`provider/zone/instance_type`, unique within a workload."""
        return self.pool.name


class PolicyReference(PlanPart):
    """A policy that the plan was computed with.

    Attributes:
        name: Built-in name, or the path of a `.policy` file.
        kind: Workloads that it decides for.
        bundle_sha256: SHA-256 of the bundle file, so that the controller runs what was judged; none for
            policies that are code.
    """

    name: Annotated[str, Field(min_length=1, max_length=500)]
    kind: Literal["deadline", "service"]
    bundle_sha256: Sha256 | None = None


class Caps(PlanPart):
    """What the controller never exceeds, in any mode and over all workloads of the plan.

    Attributes:
        usd_per_hour: Cost rate of everything that it runs.
        launches_per_tick: Instances that it may launch in one tick.
        terminations_per_tick: Instances that it may terminate in one tick.
    """

    usd_per_hour: Annotated[float, Field(gt=0, le=10_000_000)]
    launches_per_tick: Count
    terminations_per_tick: Count


class Expected(PlanPart):
    """What the recommendation expects, for the audit's comparison of expected and actual.

    Attributes:
        hours: Span the figures are for.
        cost_usd: Cost under the plan, that of lateness included.
        lateness_usd: Of it, the cost of lateness.
        on_demand_usd: Cost of the same on on-demand capacity.
        present_usd: Cost as it runs today, where known.
        saving_interval_usd: 90 % interval of the saving over `present_usd` (or on-demand), lower end first.
    """

    hours: Annotated[float, Field(gt=0, le=100_000)]
    cost_usd: Annotated[float, Field(ge=0)]
    lateness_usd: Annotated[float, Field(ge=0)] = 0.0
    on_demand_usd: Annotated[float, Field(ge=0)]
    present_usd: Annotated[float, Field(ge=0)] | None = None
    saving_interval_usd: Annotated[tuple[float, float], Field(strict=False)] | None = None


class Held(PlanPart):
    """Instances held in one pool."""

    pool: Annotated[str, Field(min_length=1, max_length=200)]
    instances: Count


class PlacementNow(PlanPart):
    """Where a workload runs when the plan is made."""

    on_demand: Count = 0
    spot: Annotated[tuple[Held, ...], Field(strict=False, max_length=HIGHEST_POOLS)] = ()


class FixedDemand(PlanPart):
    """The same number of instances at every tick."""

    source: Literal["fixed"]
    instances: Count


class GroupDemand(PlanPart):
    """The desired capacity of an Auto Scaling group, which somebody else's autoscaler sets.

    A group whose name is the id of an EC2 Fleet (`fleet-...`) is one of type maintain: its total target.
    """

    source: Literal["group"]
    group: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
    region: Label


class SeriesDemand(PlanPart):
    """A forecast: one number per step from `start` on; the last one holds afterwards."""

    source: Literal["series"]
    start: Moment
    step_seconds: Annotated[int, Field(ge=1, le=86_400)]
    instances: Annotated[tuple[Count, ...], Field(strict=False, min_length=1, max_length=100_000)]


Demand = Annotated[FixedDemand | GroupDemand | SeriesDemand, Field(discriminator="source")]


class _Workload(PlanPart):
    name: Name
    pools: Annotated[tuple[PlanPool, ...], Field(strict=False, min_length=1, max_length=HIGHEST_POOLS)]
    policy: Annotated[str, Field(min_length=1, max_length=500)]
    placement_now: PlacementNow = PlacementNow()
    on_demand_floor: Count = 0
    expected: Expected | None = None
    reasons: Annotated[tuple[Text, ...], Field(strict=False, max_length=50)] = ()

    @model_validator(mode="after")
    def _pools_differ_and_cover_the_placement(self) -> _Workload:
        names = [pool.name for pool in self.pools]
        if len(set(names)) != len(names):
            raise ValueError("a pool is there twice")
        held = [one.pool for one in self.placement_now.spot]
        if len(set(held)) != len(held):
            raise ValueError("placement_now.spot names a pool twice")
        strangers = sorted(set(held) - set(names))
        if strangers:
            raise ValueError(f"placement_now.spot names {strangers[0]!r}, which is not one of its pools")
        return self


class DeadlineWorkload(_Workload):
    """A fixed amount of work due by a time.

    Attributes:
        begins: When it may begin.
        deadline: When it must be done.
        due: When it should be done; being done later costs `lateness_usd_per_hour`. Without, it is not late
            before its deadline.
        lateness_usd_per_hour: Cost of being done after `due`, to the second.
        work_hours: Productive time it needs, the writing of checkpoints not included.
        restart_overhead_minutes: Time a new instance is paid for before it is useful.
        checkpoint_interval_minutes: Work between checkpoints; 0 = an interruption loses none.
        checkpoint_cost_minutes: Time that writing a checkpoint takes.
        nodes: Instances it holds together (a gang), all in one pool or none.
        committed: Of them, those that a commitment pays when they are on-demand capacity.
        data_region: Region of its checkpoint before the first launch; None: it begins anywhere for nothing.
        checkpoint_size_gb: What a launch away from the checkpoint copies between two regions.
        egress_usd_per_gb: Price of a copy, once for each launch that copies.
        bandwidth_mb_per_second: Speed of a copy, which comes on top of the restart overhead.
        transfers: Pairs of regions with another price or speed.
    """

    kind: Literal["deadline"]
    begins: Moment
    deadline: Moment
    due: Moment | None = None
    lateness_usd_per_hour: Annotated[float, Field(ge=0, le=10_000_000)] = 0.0
    work_hours: Annotated[float, Field(gt=0, le=100_000)]
    restart_overhead_minutes: Annotated[float, Field(ge=0, le=1440)] = 0.0
    checkpoint_interval_minutes: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    checkpoint_cost_minutes: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    nodes: Annotated[int, Field(ge=1, le=10_000)] = 1
    committed: Count = 0
    data_region: Label | None = None
    checkpoint_size_gb: Gigabytes = 0.0
    egress_usd_per_gb: EgressPrice = EGRESS_USD_PER_GB
    bandwidth_mb_per_second: Bandwidth = BANDWIDTH_MB_PER_SECOND
    transfers: Annotated[tuple[Transfer, ...], Field(strict=False, max_length=MOST_TRANSFERS)] = ()

    @model_validator(mode="after")
    def _it_can_be_kept(self) -> DeadlineWorkload:
        regions = {pool.region for pool in self.pools}
        if self.data_region is not None and self.data_region not in regions:
            raise ValueError(
                f"data_region {self.data_region}: no pool is there; accepted: {', '.join(sorted(regions))}"
            )
        check_transfers(self.transfers, regions)
        try:
            _ = self.job
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def job(self) -> DeadlineJob:
        """The job as the simulator and the policies know it; its times are from `begins` on.

        Raises:
            InputError: It cannot be kept, or its terms contradict each other.
        """
        job = DeadlineJob.with_checkpoint_cost(
            3600.0 * self.work_hours,
            (self.deadline - self.begins).total_seconds(),
            60.0 * self.restart_overhead_minutes,
            60.0 * self.checkpoint_interval_minutes,
            60.0 * self.checkpoint_cost_minutes,
            self.nodes,
        )
        return replace(
            job,
            due_seconds=None if self.due is None else (self.due - self.begins).total_seconds(),
            lateness_usd_per_hour=self.lateness_usd_per_hour,
            committed=self.committed,
            terms=pool_terms(
                [pool.pool for pool in self.pools],
                [pool.throughput for pool in self.pools],
                self,
                self.data_region,
            ),
        )


class ServiceWorkload(_Workload):
    """A demand for instances with an availability target.

    Attributes:
        demand: Where the number of instances comes from.
        availability_target: Share of ticks at which all of it should be ready.
        cold_start_minutes: Time a new instance is paid for before it is ready.
        committed: On-demand instances that are paid for anyway.
    """

    kind: Literal["service"]
    demand: Demand
    availability_target: Annotated[float, Field(gt=0, lt=1)] = 0.99
    cold_start_minutes: Annotated[float, Field(ge=0, le=1440)] = 0.0
    committed: Count = 0

    @model_validator(mode="after")
    def _instances_are_alike(self) -> ServiceWorkload:
        for pool in self.pools:
            if pool.throughput != 1.0:
                raise ValueError(
                    f"pool {pool.name} has a throughput of {pool.throughput:g}; instances of a service count "
                    "alike, accepted: 1"
                )
        return self


Workload = Annotated[DeadlineWorkload | ServiceWorkload, Field(discriminator="kind")]
