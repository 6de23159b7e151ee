"""The workloads file: YAML to review, with the demand in a parquet file beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from optimizer.job_terms import (
    BANDWIDTH_MB_PER_SECOND,
    EGRESS_USD_PER_GB,
    MOST_TRANSFERS,
    Bandwidth,
    EgressPrice,
    Gigabytes,
    RegionName,
    Throughput,
    Transfer,
    check_transfers,
    pool_terms,
)
from optimizer.yaml_nodes import compose, construct, located, read_text
from simulator.errors import InputError
from simulator.whole_file import whole_file, write_whole

if TYPE_CHECKING:
    from simulator.deadline.job import DeadlineJob
    from simulator.deadline.terms import PoolTerms
    from simulator.market import Pool
    from simulator.service import Service

HIGHEST_BYTES = 64 << 20
"""A file that is larger is refused unread."""
_SERIES = ("on_demand", "spot", "committed")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Span(_Strict):
    """The hours that the demand is for."""

    start: datetime
    hours: int = Field(ge=1)

    @field_validator("start")
    @classmethod
    def _without_a_zone_it_is_utc(cls, start: datetime) -> datetime:
        return start if start.tzinfo is not None else start.replace(tzinfo=UTC)


class PurchaseMix(_Strict):
    """Share of the instance-hours per purchase option; they sum to 1."""

    on_demand: float = Field(ge=0, le=1)
    spot: float = Field(ge=0, le=1)
    committed: float = Field(ge=0, le=1)


class DemandFacts(_Strict):
    """Figures of the demand, for the reader; the series itself is in the file beside."""

    mean: float
    peak: float
    instance_hours: float
    missing_hours: int
    imputed_hours: int


class ServiceTerms(_Strict):
    """What a service must keep; guesses until confirmed."""

    availability_target: float = Field(gt=0, le=1)
    cold_start_minutes: float = Field(ge=0)


class JobTerms(_Strict):
    """What a deadline job must keep; guesses until confirmed.

    Attributes:
        nodes: Instances that it holds together, all in one pool or none.
        work_hours: Productive time of a run, the writing of checkpoints not included.
        deadline_hours: From its begin, when it must be done.
        due_hours: From its begin, when it should be done; later costs `lateness_usd_per_hour`. Without, it is
            not late before its deadline.
        lateness_usd_per_hour: What an hour of lateness costs its owner, charged to the second.
        restart_overhead_minutes: Time a new instance is paid for before it is useful.
        checkpoint_interval_minutes: Work between checkpoints; an interruption loses the work since the last
            one. 0 = none is ever lost.
        checkpoint_cost_minutes: Time that writing a checkpoint takes.
        committed: Of the nodes, those that a commitment pays when they run on on-demand capacity.
        throughput: Work per hour of other instance types that it may run on, or of single pools
            (`provider/zone/instance_type`), relative to the workload's `instance_type`, on which `work_hours`
            are counted.
        regions: Regions that it may run in beside the workload's, where its checkpoint is at the begin.
        checkpoint_size_gb: What a launch in another region copies there; nothing within a region.
        egress_usd_per_gb: Price of such a copy.
        bandwidth_mb_per_second: Its speed; 1 GB is 1,000 MB.
        transfers: Pairs of regions with another price or speed.
    """

    nodes: int = Field(ge=1)
    work_hours: float = Field(gt=0, allow_inf_nan=False)
    deadline_hours: float = Field(gt=0, allow_inf_nan=False)
    due_hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    lateness_usd_per_hour: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    restart_overhead_minutes: float = Field(ge=0, allow_inf_nan=False)
    checkpoint_interval_minutes: float = Field(ge=0, allow_inf_nan=False)
    checkpoint_cost_minutes: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    committed: int = Field(default=0, ge=0)
    throughput: dict[str, Throughput] = Field(default_factory=dict, max_length=200)
    regions: list[RegionName] = Field(default_factory=list, max_length=50)
    checkpoint_size_gb: Gigabytes = 0.0
    egress_usd_per_gb: EgressPrice = EGRESS_USD_PER_GB
    bandwidth_mb_per_second: Bandwidth = BANDWIDTH_MB_PER_SECOND
    transfers: list[Transfer] = Field(default_factory=list, max_length=MOST_TRANSFERS)

    @field_validator("due_hours")
    @classmethod
    def _due_by_the_deadline(cls, due: float | None, info: ValidationInfo) -> float | None:
        deadline = info.data.get("deadline_hours")
        if due is not None and deadline is not None and due > deadline:
            raise ValueError(f"due after the deadline; accepted: up to deadline_hours ({deadline:g})")
        return due

    @field_validator("lateness_usd_per_hour")
    @classmethod
    def _late_after_something(cls, cost: float, info: ValidationInfo) -> float:
        if cost > 0 and info.data.get("due_hours") is None:
            raise ValueError("a cost of lateness without due_hours; give both, or neither")
        return cost

    @field_validator("checkpoint_cost_minutes")
    @classmethod
    def _of_a_checkpoint(cls, cost: float, info: ValidationInfo) -> float:
        if cost > 0 and not info.data.get("checkpoint_interval_minutes"):
            raise ValueError(
                "a cost of checkpoints without checkpoint_interval_minutes; give both, or neither"
            )
        return cost

    @field_validator("committed")
    @classmethod
    def _of_its_nodes(cls, committed: int, info: ValidationInfo) -> int:
        nodes = info.data.get("nodes")
        if nodes is not None and committed > nodes:
            raise ValueError(f"{committed} committed instances of {nodes}; accepted: 0 to nodes")
        return committed

    @field_validator("regions")
    @classmethod
    def _each_once(cls, regions: list[str]) -> list[str]:
        twice = [region for region in regions if regions.count(region) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is there twice")
        return regions

    @property
    def instance_types(self) -> list[str]:
        """Types that it may run on beside the workload's own."""
        return [name for name in self.throughput if "/" not in name]


class Workload(_Strict):
    """One workload.

    Its demand comes with `load_workloads`: `demand` (instances per hour, shape (H,)), `placed` (per hour and
    option on-demand, spot, committed, shape (H, 3)), `missing` and `imputed` (shape (H,)).
    """

    name: str
    key: dict[str, str]
    provider: str
    billing_account: str
    region: str
    zones: list[str]
    instance_type: str
    kind: Literal["service", "deadline-job"]
    evidence: str
    confirm: list[str]
    service: ServiceTerms | None = None
    job: JobTerms | None = None
    demand_facts: DemandFacts
    purchase_mix: PurchaseMix
    commitment_coverage: float = Field(ge=0, le=1)
    on_demand_price: float | None
    monthly_cost: float
    currency: str
    _placed: NDArray[np.float64] = PrivateAttr(default_factory=lambda: np.zeros((0, 3)))
    _missing: NDArray[np.bool_] = PrivateAttr(default_factory=lambda: np.zeros(0, dtype=bool))
    _imputed: NDArray[np.bool_] = PrivateAttr(default_factory=lambda: np.zeros(0, dtype=bool))

    def set_demand(
        self, placed: NDArray[np.float64], missing: NDArray[np.bool_], imputed: NDArray[np.bool_]
    ) -> None:
        """Attach the series: shapes (H, 3), (H,) and (H,)."""
        self._placed, self._missing, self._imputed = placed, missing, imputed

    @property
    def placed(self) -> NDArray[np.float64]:
        """Instances per hour and purchase option (on-demand, spot, committed), shape (H, 3)."""
        return self._placed

    @property
    def demand(self) -> NDArray[np.float64]:
        """Instances per hour, shape (H,); zero in missing hours."""
        return np.asarray(self._placed.sum(axis=1), dtype=np.float64)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Hours that the export lacks, shape (H,)."""
        return self._missing

    @property
    def imputed(self) -> NDArray[np.bool_]:
        """Hours whose demand was shared out of longer rows, shape (H,)."""
        return self._imputed

    def demand_per_tick(self, tick_seconds: int) -> NDArray[np.int64]:
        """Return whole instances per tick of the simulator, shape (H × 3600 / tick_seconds,).

        Parts of an instance are rounded up; a tick of several hours takes the highest of them; hours that the
        export lacks take the demand of the last known hour before them, at the very beginning that of the
        first behind.

        Args:
            tick_seconds: Length of a tick; it divides an hour, or is a multiple of one.

        Raises:
            InputError: It is neither, or nothing is known of any hour.
        """
        if tick_seconds < 1 or (3600 % tick_seconds and tick_seconds % 3600):
            raise InputError(f"tick of {tick_seconds} s; accepted: a divisor or a multiple of 3600")
        known = np.flatnonzero(~self.missing)
        if not known.size:
            raise InputError(f"workload {self.name}: the export lacks every hour")
        place = np.maximum(np.searchsorted(known, np.arange(self.missing.size), side="right") - 1, 0)
        # Shares of long rows add up to 1 but for rounding.
        whole = np.ceil(np.maximum(self.demand[known[place]], 0.0) - 1e-9).astype(np.int64)
        if tick_seconds <= 3600:
            return np.repeat(whole, 3600 // tick_seconds)
        hours = tick_seconds // 3600
        padded = np.concatenate([whole, np.repeat(whole[-1:], -whole.size % hours)])
        return np.asarray(padded.reshape(-1, hours).max(axis=1), dtype=np.int64)

    def service_workload(self, tick_seconds: int) -> Service:
        """Return the service that the simulator runs.

        Committed are the instances that a commitment covered in every hour that the export has.

        Args:
            tick_seconds: Length of a tick; see `demand_per_tick`.

        Raises:
            InputError: It is not a service, its terms cannot be kept, or the tick does not fit.
        """
        from simulator.service import Service

        if self.service is None:
            raise InputError(f"workload {self.name}: kind {self.kind}; accepted here: service")
        demand = self.demand_per_tick(tick_seconds)
        always = np.floor(self.placed[~self.missing, 2].min() + 1e-9)
        try:
            return Service.of(
                demand,
                tick_seconds=tick_seconds,
                availability_target=self.service.availability_target,
                cold_start_seconds=self.service.cold_start_minutes * 60,
                committed=max(int(always), 0),
            )
        except InputError as error:
            raise InputError(f"workload {self.name}: {error}") from error

    def throughput_of(self, pool: Pool, sold_as: str) -> float:
        """Work per hour of a job in a pool relative to the workload's instance type.

        Args:
            pool: The pool.
            sold_as: Its instance type as it is sold, where traces name it by its accelerator.
        """
        if self.job is None:
            return 1.0
        named = self.job.throughput
        for name in (pool.name, f"{pool.provider}/{pool.zone}/{sold_as}", pool.instance_type, sold_as):
            if name in named:
                return named[name]
        return 1.0

    def pool_terms(self, pools: Sequence[Pool], throughput: Sequence[float]) -> PoolTerms | None:
        """How these pools differ for the job beside their prices; None if they do not.

        Args:
            pools: Where it may run.
            throughput: Of each; see `throughput_of`.

        Raises:
            InputError: It is not a deadline job, or see `optimizer.job_terms.pool_terms`.
        """
        if self.job is None:
            raise InputError(f"workload {self.name}: kind {self.kind}; accepted here: deadline-job")
        try:
            return pool_terms(pools, throughput, self.job, self.region)
        except InputError as error:
            raise InputError(f"workload {self.name}: {error}") from error

    def deadline_job(self, terms: PoolTerms | None = None) -> DeadlineJob:
        """Return the job that the simulator runs.

        Args:
            terms: How the pools differ in which it may run; see `pool_terms`.

        Raises:
            InputError: It is not a deadline job, or its terms cannot be kept.
        """
        from simulator.deadline.job import DeadlineJob

        if self.job is None:
            raise InputError(f"workload {self.name}: kind {self.kind}; accepted here: deadline-job")
        try:
            job = DeadlineJob.with_checkpoint_cost(
                self.job.work_hours * 3600,
                self.job.deadline_hours * 3600,
                self.job.restart_overhead_minutes * 60,
                self.job.checkpoint_interval_minutes * 60,
                self.job.checkpoint_cost_minutes * 60,
                self.job.nodes,
            )
            return replace(
                job,
                due_seconds=None if self.job.due_hours is None else self.job.due_hours * 3600,
                lateness_usd_per_hour=self.job.lateness_usd_per_hour,
                committed=self.job.committed,
                terms=terms,
            )
        except InputError as error:
            raise InputError(f"workload {self.name}: {error}") from error


class WorkloadFile(_Strict):
    """The whole file."""

    version: Literal[1]
    ledger: str
    by: list[str]
    span: Span
    demand_file: str
    workloads: list[Workload]

    def find(self, name: str) -> Workload:
        """Return the workload `name`.

        Raises:
            InputError: There is none; the message lists the names.
        """
        for workload in self.workloads:
            if workload.name == name:
                return workload
        raise InputError(f"workload {name!r}; accepted: {', '.join(w.name for w in self.workloads)}")


def load_workloads(path: Path) -> WorkloadFile:
    """Read a workloads file and the demand beside it.

    Raises:
        InputError: A file is absent or damaged, or a field is wrong; the message names it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = read_text(path, "a workloads file", HIGHEST_BYTES, "`spotwise workloads derive` writes them")
    root = compose(path, text, "a workloads file", "what `spotwise workloads derive` wrote")
    try:
        found = WorkloadFile.model_validate(construct(path, root, "a workloads file"))
    except ValidationError as error:
        raise InputError(
            "\n".join(
                located(path, root, each["loc"], each["msg"], "workloads") for each in error.errors()[:10]
            )
        ) from error
    _check(path, root, found)
    series = path.parent / Path(found.demand_file).name
    try:
        table = pq.read_table(series)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{series}: the demand of {path.name} cannot be read ({error}); derive it again"
        ) from error
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    for workload in found.workloads:
        chosen = columns["workload"] == workload.name
        if int(chosen.sum()) != found.span.hours:
            raise InputError(
                f"{series}: {int(chosen.sum())} hours of {workload.name}, {path.name} says"
                f" {found.span.hours};"
                " derive it again (a workload that is renamed in one file must be renamed in both)"
            )
        workload.set_demand(
            np.stack([columns[name][chosen].astype(np.float64) for name in _SERIES], axis=1),
            columns["missing"][chosen].astype(bool),
            columns["imputed"][chosen].astype(bool),
        )
    return found


def _check(path: Path, root: yaml.Node, found: WorkloadFile) -> None:
    seen: set[str] = set()
    for place, workload in enumerate(found.workloads):
        where = ("workloads", place)
        if workload.name in seen:
            problem = f"workload {workload.name} is there twice"
            raise InputError(located(path, root, (*where, "name"), problem, "workloads"))
        seen.add(workload.name)
        terms = {"service": workload.service, "deadline-job": workload.job}[workload.kind]
        if terms is None:
            field = "service" if workload.kind == "service" else "job"
            problem = f"workload {workload.name}: kind {workload.kind} needs the field {field}"
            raise InputError(located(path, root, (*where, "kind"), problem, "workloads"))
        if workload.job is not None:
            for below, problem in _contradictions(workload, workload.job):
                raise InputError(located(path, root, (*where, "job", *below), problem, "workloads"))


def _contradictions(workload: Workload, job: JobTerms) -> Iterator[tuple[tuple[str, ...], str]]:
    """Terms of a job that do not fit the workload: field and what is wrong."""
    own = workload.instance_type
    types = (own, *job.instance_types)
    for name in job.throughput:
        parts = name.split("/")
        if name == own:
            yield ("throughput", name), "work_hours are counted on this type, so it is 1; leave it out"
        elif len(parts) > 1 and (len(parts) != 3 or parts[2] not in types):
            accepted = f"an instance type, or provider/zone/instance_type of {', '.join(types)}"
            yield ("throughput", name), f"no such pool; accepted: {accepted}"
    if workload.region in job.regions:
        yield ("regions",), f"{workload.region} is the workload's own region; give only others"
    try:
        check_transfers(job.transfers, (workload.region, *job.regions))
    except ValueError as error:
        yield ("transfers",), str(error)


def save_workloads(path: Path, found: WorkloadFile) -> None:
    """Write the YAML and, beside it, the demand; an existing pair is replaced whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = np.datetime64(found.span.start.astimezone(UTC).replace(tzinfo=None), "s")
    clock = start + np.arange(found.span.hours).astype("timedelta64[h]")
    tables = [
        pa.table(
            {
                "workload": [w.name] * found.span.hours,
                "hour": clock,
                **{name: w.placed[:, place] for place, name in enumerate(_SERIES)},
                "missing": w.missing,
                "imputed": w.imputed,
            }
        )
        for w in found.workloads
    ]
    series = path.parent / found.demand_file
    with whole_file(series) as file:
        pq.write_table(pa.concat_tables(tables), file)
    write_whole(path, _HEADER + yaml.safe_dump(_plain(found), sort_keys=False, allow_unicode=True))


_HEADER = """\
# Workloads that spotwise derived from a ledger. Review them: `kind`, the terms under `service` or `job`, and
# what `confirm` lists are guesses. Empty `confirm` once you have. The hourly demand is in `demand_file`.
"""


def _plain(found: WorkloadFile) -> dict[str, Any]:
    data: dict[str, Any] = found.model_dump(mode="json")
    for workload in data["workloads"]:
        for field in ("service", "job"):
            if workload[field] is None:
                del workload[field]
    return data
