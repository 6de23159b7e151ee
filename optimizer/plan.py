"""The plan file: what a recommendation hands to the controller. Read as hostile input, sealed by a checksum.

A plan says which workloads run where under which policy, what that is expected to cost, and the caps nobody
may exceed. It is written by `spotwise recommend` and read by `spotwise controller run`. The checksum covers
the content, not the layout: a plan that was edited by hand, or that has expired, is refused with the reason.
It guards against mistakes, not against somebody who can write the file and compute a checksum.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from optimizer.job_terms import refuse_pool_terms
from optimizer.yaml_nodes import compose, construct, located, read_text
from simulator.deadline.job import DeadlineJob
from simulator.errors import InputError
from simulator.market import Pool
from simulator.whole_file import write_whole

VERSION = 2
"""2: due times, costs of lateness, commitments and checkpoints of jobs. A plan of version 1 is refused: it
lives for a week, its checksum is of other fields, and recommending again is one command."""
HIGHEST_BYTES = 64 << 20
"""A plan that is larger is refused unread; 10,000 workloads take about 8 MB."""
HIGHEST_WORKLOADS = 100_000
HIGHEST_POOLS = 200
HIGHEST_INSTANCES = 100_000

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PlanPool(_Strict):
    """One place where instances may run.

    Attributes:
        provider: `aws`, or the provider of a recorded market.
        region: Region.
        zone: Availability zone.
        instance_type: Instance type.
        on_demand_price: USD per instance-hour there, known when the plan was made.
    """

    provider: Label
    region: Label
    zone: Label
    instance_type: Label
    on_demand_price: Price

    @property
    def pool(self) -> Pool:
        """The pool as the simulator and the policies know it."""
        return Pool(self.provider, self.region, self.zone, self.instance_type)

    @property
    def name(self) -> str:
        """`provider/zone/instance_type`, unique within a workload."""
        return self.pool.name


class PolicyReference(_Strict):
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


class Caps(_Strict):
    """What the controller never exceeds, in any mode and over all workloads of the plan.

    Attributes:
        usd_per_hour: Cost rate of everything that it runs.
        launches_per_tick: Instances that it may launch in one tick.
        terminations_per_tick: Instances that it may terminate in one tick.
    """

    usd_per_hour: Annotated[float, Field(gt=0, le=10_000_000)]
    launches_per_tick: Count
    terminations_per_tick: Count


class Expected(_Strict):
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


class Held(_Strict):
    """Instances held in one pool."""

    pool: Annotated[str, Field(min_length=1, max_length=200)]
    instances: Count


class PlacementNow(_Strict):
    """Where a workload runs when the plan is made."""

    on_demand: Count = 0
    spot: Annotated[tuple[Held, ...], Field(strict=False, max_length=HIGHEST_POOLS)] = ()


class FixedDemand(_Strict):
    """The same number of instances at every tick."""

    source: Literal["fixed"]
    instances: Count


class GroupDemand(_Strict):
    """The desired capacity of an Auto Scaling group, which somebody else's autoscaler sets.

    A group whose name is the id of an EC2 Fleet (`fleet-...`) is one of type maintain: its total target.
    """

    source: Literal["group"]
    group: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
    region: Label


class SeriesDemand(_Strict):
    """A forecast: one number per step from `start` on; the last one holds afterwards."""

    source: Literal["series"]
    start: Moment
    step_seconds: Annotated[int, Field(ge=1, le=86_400)]
    instances: Annotated[tuple[Count, ...], Field(strict=False, min_length=1, max_length=100_000)]


Demand = Annotated[FixedDemand | GroupDemand | SeriesDemand, Field(discriminator="source")]


class _Workload(_Strict):
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

    _only_known_terms = model_validator(mode="before")(refuse_pool_terms)

    @model_validator(mode="after")
    def _it_can_be_kept(self) -> DeadlineWorkload:
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


Workload = Annotated[DeadlineWorkload | ServiceWorkload, Field(discriminator="kind")]


class Plan(_Strict):
    """The whole file. `seal` computes the checksum; `read_plan` refuses a plan whose checksum is another.

    Attributes:
        version: Of this format.
        created: When it was made.
        expires: After this the controller refuses to begin with it, and holds if it is running.
        tick_seconds: Decisions are made this often; policies are judged at this tick.
        inputs: SHA-256 of each file it was computed from, by name.
        policies: Every policy that a workload names.
        caps: What is never exceeded.
        workloads: What is to be placed.
        checksum: SHA-256 of everything else (`checksum_of`).
    """

    version: Literal[2]
    created: Moment
    expires: Moment
    tick_seconds: Annotated[int, Field(ge=1, le=21_600)]
    inputs: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=500)], Sha256], Field(max_length=1000)
    ]
    policies: Annotated[tuple[PolicyReference, ...], Field(strict=False, max_length=100)]
    caps: Caps
    workloads: Annotated[
        tuple[Workload, ...], Field(strict=False, min_length=1, max_length=HIGHEST_WORKLOADS)
    ]
    checksum: Sha256

    @model_validator(mode="after")
    def _it_holds_together(self) -> Plan:
        if self.expires <= self.created:
            raise ValueError(f"expires at {self.expires}, not after it was created ({self.created})")
        known = [(one.kind, one.name) for one in self.policies]
        if len(set(known)) != len(known):
            raise ValueError("policies: one is there twice")
        seen: set[str] = set()
        for workload in self.workloads:
            if workload.name in seen:
                raise ValueError(f"workload {workload.name} is there twice")
            seen.add(workload.name)
            if (workload.kind, workload.policy) not in known:
                raise ValueError(
                    f"workload {workload.name}: {workload.kind} policy {workload.policy!r} is not "
                    "under policies"
                )
        return self

    @classmethod
    def seal(cls, **content: Any) -> Plan:
        """Make a plan and give it the checksum of its content.

        Args:
            content: Every field but `version` and `checksum`.

        Raises:
            InputError: A field is wrong.
        """
        try:
            draft = cls(version=2, checksum="0" * 64, **content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "plan"
            raise InputError(f"plan: field {where}: {first['msg']}") from error
        return draft.model_copy(update={"checksum": checksum_of(draft)})

    def policy_of(self, workload: DeadlineWorkload | ServiceWorkload) -> PolicyReference:
        """The policy that a workload of this plan names."""
        return next(p for p in self.policies if p.name == workload.policy and p.kind == workload.kind)

    def refuse_expired(self, now: datetime) -> None:
        """Check that the plan may still be used.

        Raises:
            InputError: It has expired, or comes from the future.
        """
        if now >= self.expires:
            raise InputError(
                f"the plan expired at {self.expires:%Y-%m-%d %H:%M} UTC (now {now:%Y-%m-%d %H:%M}); "
                "run `spotwise recommend` again"
            )
        if (self.created - now).total_seconds() > 300:
            raise InputError(
                f"the plan was created at {self.created:%Y-%m-%d %H:%M} UTC, after now "
                f"({now:%Y-%m-%d %H:%M}); check the clock of this machine"
            )


def checksum_of(plan: Plan) -> str:
    """SHA-256 (hex) of the plan's canonical JSON: sorted keys, no spaces, times in UTC, no checksum."""
    content = plan.model_dump(mode="json", exclude={"checksum"})
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, for `inputs` and `bundle_sha256`.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan, whole or not at all.

    Raises:
        InputError: The checksum is not that of the content, or the file cannot be written.
    """
    if plan.checksum != checksum_of(plan):
        raise InputError(f"{path}: the plan's checksum is not that of its content; make plans with Plan.seal")
    text = _HEADER + yaml.dump(
        plan.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110
    )
    write_whole(path, text)


_HEADER = """\
# Written by `spotwise recommend` for `spotwise controller run`. The checksum at the end covers the content: a
# plan that is edited by hand is refused. Change workloads.yaml or the options and recommend again.
"""


def read_plan(path: Path, *, now: datetime | None = None) -> Plan:
    """Read a plan file and check it.

    Args:
        path: The file.
        now: If given, an expired plan is refused.

    Returns:
        The plan, its checksum verified.

    Raises:
        InputError: The file cannot be read, is no plan, was edited or has expired; says where and why.
    """
    text = read_text(path, "a plan file", HIGHEST_BYTES, "`spotwise recommend` writes plans")
    root = compose(path, text, "a plan file", "what `spotwise recommend` wrote")
    values = construct(path, root, "a plan file")
    if isinstance(values, dict) and values.get("version") != VERSION:
        raise InputError(
            f"{path}: plan of version {values.get('version')!r}; this release reads {VERSION}; run "
            "`spotwise recommend` again"
        )
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        raise InputError("\n".join(_message(path, root, each) for each in error.errors()[:10])) from error
    computed = checksum_of(plan)
    if plan.checksum != computed:
        raise InputError(
            f"{path}: the checksum ({plan.checksum[:12]}…) is not that of the content ({computed[:12]}…): "
            "the plan was edited or damaged after it was written; run `spotwise recommend` again"
        )
    if now is not None:
        try:
            plan.refuse_expired(now)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return plan


def _message(path: Path, root: yaml.Node, error: Any) -> str:
    """What is wrong, with line and field; pydantic puts a union's tag into the location, which is no key."""
    where = [
        part
        for k, part in enumerate(error["loc"])
        if not (k == 2 and error["loc"][0] == "workloads") and not (k and error["loc"][k - 1] == "demand")
    ]
    return located(path, root, where, error["msg"], "plan")
