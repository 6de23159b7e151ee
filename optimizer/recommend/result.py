"""What a recommendation says, as the data behind `recommendation.json`. Amounts are USD a month unless said.

The JSON schema is published in `docs/schemas/recommendation.schema.json`; a test holds it to these models.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from simulator.errors import SpotwiseError

VERSION = 1
HOURS_PER_MONTH = 730.0
LEVEL = 0.9
"""Of all intervals."""

Role = Literal["as-billed", "on-demand", "static-mix", "heuristic", "champion", "bound", "recommended"]
ROLES: tuple[Role, ...] = (
    "as-billed",
    "on-demand",
    "static-mix",
    "heuristic",
    "champion",
    "bound",
    "recommended",
)
TITLES: dict[Role, str] = {
    "as-billed": "as billed",
    "on-demand": "all on-demand",
    "static-mix": "best static mix",
    "heuristic": "best heuristic",
    "champion": "champion",
    "bound": "clairvoyant bound",
    "recommended": "recommended",
}
Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[float, float]


_Value = TypeVar("_Value")


def known(value: _Value | None, what: str) -> _Value:
    """A value that is there wherever something was replayed.

    Raises:
        SpotwiseError: It is not: a defect of this package.
    """
    if value is None:
        raise SpotwiseError(f"internal: {what} is not known; please report this")
    return value


def amount(value: float) -> str:
    """An amount of money to the cent; what rounds to nothing has no sign."""
    text = f"{value:,.2f}"
    return "0.00" if text == "-0.00" else text


def percent(share: float) -> str:
    """A share in whole percent; what rounds to nothing has no sign."""
    text = f"{share:.0%}"
    return "0%" if text == "-0%" else text


def shortened(name: str, most: int = 60) -> str:
    """A name that fits a table; the whole of it is in `recommendation.json`."""
    return name if len(name) <= most else name[: most - 1] + "…"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Hours(_Part):
    """Instance-hours a month in one place.

    Attributes:
        option: `on-demand`, `spot` or `committed`.
        pool: Pool of spot hours.
        hours: Instance-hours a month.
    """

    option: Literal["on-demand", "spot", "committed"]
    pool: str | None
    hours: float


class Sla(_Part):
    """How a scenario stands to its target.

    Attributes:
        measure: `availability` (share of ticks; what on-demand capacity asked for at the same moment would
            also have missed is not counted), or `miss-probability` (share of runs that were late).
        target: At least this availability, or at most this miss probability.
        value: Over all windows.
        bound: One-sided 95 % bound of it: from below for availability, from above for misses.
        holds: Whether the bound (of an availability) or the value (of misses: the shield keeps deadlines)
            meets the target.
        raw: Availability without that allowance; None for jobs.
    """

    measure: Literal["availability", "miss-probability"]
    target: float
    value: float
    bound: float
    holds: bool
    raw: float | None = None


class Scenario(_Part):
    """What one way of running a workload costs; savings are against the bill.

    Attributes:
        role: Which of the ways this is.
        policy: Name of the policy; None for the bill and the bound.
        monthly_usd: Cost, that of lateness included.
        lateness_usd: Of it, what jobs that are done after their due time cost their owner; the bill does not
            have it, and for `as-billed` it is not known and taken as 0.
        egress_usd: Of it, what copies of checkpoints between regions cost; 0 of the bound, where it is not
            told apart.
        monthly_interval_usd: The cost of a month lies in it with 90 % probability; None for what is certain.
        saving_usd: Bill less cost.
        saving_share: The same as a share of the bill; None where nothing was billed.
        saving_interval_usd: As above.
        sla: None where it is not known, as for the bill.
        interruptions_per_week: Spot instances taken back.
        hours: Per purchase option and pool.
        assumed: Whether it rests on assumed or synthetic availability.
    """

    role: Role
    policy: str | None = None
    monthly_usd: float
    lateness_usd: float = 0.0
    egress_usd: float = 0.0
    monthly_interval_usd: Interval | None = None
    saving_usd: float
    saving_share: float | None
    saving_interval_usd: Interval | None = None
    sla: Sla | None = None
    interruptions_per_week: float | None = None
    hours: tuple[Hours, ...] = ()
    assumed: bool = False

    @property
    def lateness_words(self) -> str:
        """`lateness 3.20 USD a month`; empty where there is none."""
        return f"lateness {self.lateness_usd:,.2f} USD a month" if round(self.lateness_usd, 2) > 0 else ""

    @property
    def extra_words(self) -> str:
        """The same, and what copies between regions cost; empty where there is neither."""
        egress = round(self.egress_usd, 2)
        copies = f"copies between regions {egress:,.2f} USD a month" if egress > 0 else ""
        return ", ".join(text for text in (self.lateness_words, copies) if text)


class OptionCost(_Part):
    """Bill of one purchase option over the span: instance-hours and amount in the bill's currency."""

    option: Literal["on-demand", "spot", "committed"]
    hours: float
    cost: float


class Billed(_Part):
    """The instance time of a workload in the ledger.

    Attributes:
        cost: Effective cost over the span of the ledger, in `currency`.
        monthly: The same a month of `HOURS_PER_MONTH` hours that are not missing.
        currency: Currency.
        options: Per purchase option.
        on_demand_rate: Amount per instance-hour on demand that the scenarios use; None where not known.
        rate_source: Where that comes from, in words.
    """

    cost: float
    monthly: float
    currency: str
    options: tuple[OptionCost, ...]
    on_demand_rate: float | None
    rate_source: str


class Commitment(_Part):
    """Committed usage of a workload, a month; it stays where it is in every scenario.

    Attributes:
        covered_hours: Instance-hours that a commitment covers.
        covered_cost: Their amortised cost.
        stranded_if_moved: What of it would go on being paid for nothing if they moved to spot.
    """

    covered_hours: float
    covered_cost: float
    stranded_if_moved: float


class MarketUse(_Part):
    """What of the markets speaks for a workload.

    Attributes:
        files: Markets whose windows were replayed.
        pools: Pools in them that the workload may use.
        tick_seconds: Their tick.
        windows: Number of windows.
        window_hours: Length of each.
        independent_windows: How many of them fit side by side; the intervals rest on this number.
        assumed: Why figures that rest on them are assumed; empty if availability was recorded.
        matched: What matched, in words.
        not_matched: What did not, and why.
    """

    files: tuple[str, ...]
    pools: tuple[str, ...]
    tick_seconds: int
    windows: int
    window_hours: float
    independent_windows: int
    assumed: tuple[str, ...]
    matched: tuple[str, ...]
    not_matched: tuple[str, ...]


class Decision(_Part):
    """What to do with a workload.

    Attributes:
        action: `move` or `change-nothing`.
        role: Which scenario is recommended.
        policy: Its policy.
        pools: Where it runs.
        saving_usd: Expected.
        saving_interval_usd: 90 %.
        reasons: In words.
        assumptions: What has to be true.
        missing_data: Which data would settle what is open.
    """

    action: Literal["move", "change-nothing"]
    role: Role
    policy: str | None = None
    pools: tuple[str, ...] = ()
    saving_usd: float = 0.0
    saving_interval_usd: Interval | None = None
    reasons: tuple[str, ...]
    assumptions: tuple[str, ...] = ()
    missing_data: tuple[str, ...] = ()


class Sensitivity(_Part):
    """The same policy in another world.

    Attributes:
        change: What is different.
        monthly_usd: Cost; None if it cannot be computed.
        saving_usd: Against the bill.
        sla: As in scenarios.
        note: What has to be known about it.
    """

    change: str
    monthly_usd: float | None
    saving_usd: float | None
    sla: Sla | None
    note: str = ""


class TagGap(_Part):
    """A tag that other workloads of the ledger carry: share of this one's cost without it."""

    key: str
    share_of_cost: Share


class UnitCost(_Part):
    """Amortised cost per unit over the hours whose amount is known."""

    unit: str
    units: float
    cost: float
    cost_per_unit: float | None


class CopyTerms(_Part):
    """What a launch in `to_region` takes while the checkpoint is in `from_region`."""

    from_region: str
    to_region: str
    minutes: float
    usd: float


class PoolDifferences(_Part):
    """How the pools of a job differ beside their prices.

    Attributes:
        throughput: Hours of work per hour in each pool, 1 = on the instance type that was billed.
        checkpoint_region: Where the checkpoint is when a run begins; None if copies take nothing.
        checkpoint_size_gb: Its size.
        copies: Between each two regions.
    """

    throughput: dict[str, float]
    checkpoint_region: str | None
    checkpoint_size_gb: float
    copies: tuple[CopyTerms, ...]


class WorkloadReport(_Part):
    """One workload; `differences` is None if its pools differ in price only."""

    name: str
    kind: Literal["service", "deadline-job"]
    provider: str
    region: str
    instance_type: str
    key: dict[str, str]
    billed: Billed
    commitment: Commitment
    market: MarketUse | None
    differences: PoolDifferences | None = None
    scenarios: tuple[Scenario, ...]
    decision: Decision
    sensitivity: tuple[Sensitivity, ...] = ()
    tag_gaps: tuple[TagGap, ...] = ()
    unit_cost: UnitCost | None = None

    def scenario(self, role: Role) -> Scenario | None:
        """The scenario of a role, None if it was not computed."""
        return next((one for one in self.scenarios if one.role == role), None)


class Reconciliation(_Part):
    """One currency of the ledger over its whole span; the parts sum to `effective_cost` exactly.

    Amounts are decimal text, so that nothing is lost in floating point.

    Attributes:
        currency: Currency.
        billed_cost: What was invoiced.
        effective_cost: The same with commitments spread over what used them.
        workloads: Instance time of the workloads in this report.
        other_instances: Instance time that no workload of the file stands for.
        unused_commitment: Commitments that nothing used.
        credits: Credits, refunds and other adjustments, whomever they are for; savings are before them.
        other: Everything else: storage, transfer, fees, taxes.
    """

    currency: str
    billed_cost: str
    effective_cost: str
    workloads: str
    other_instances: str
    unused_commitment: str
    credits: str
    other: str


class UnusedCommitment(_Part):
    """A commitment part of which nothing used, over the span."""

    commitment: str
    billing_account: str
    cost: float
    currency: str


class SharedPools(_Part):
    """Workloads that are to be moved and want the same pools.

    Attributes:
        pools: The pools.
        workloads: Those that move, after all.
        most_asked: Most instances that all which wanted to move asked of one pool at a time, if all did so at
            once.
        least_capacity: Least that the market has of a pool that has any.
        replay: `together`: services were replayed with the capacity divided among them; `apart`: with jobs
            among them, each had what the others never hold; `not-needed`: there is always enough for all.
        extra_usd: What those that move cost more a month than if each had the pools for itself.
        not_moved: Workloads that would have moved alone and do not, as there is not enough for all.
    """

    pools: tuple[str, ...]
    workloads: tuple[str, ...]
    most_asked: int
    least_capacity: int
    replay: Literal["together", "apart", "not-needed"]
    extra_usd: float
    not_moved: tuple[str, ...]


class Settings(_Part):
    """What the report was asked for."""

    seed: int
    windows: int
    window_hours: int | None
    advisor: str | None
    outage_hours: float


class Span(_Part):
    """Hours that the ledger has something about."""

    start: str
    hours: int


class Report(_Part):
    """The whole report.

    Attributes:
        version: Of this format.
        spotwise: Version that computed it.
        settings: What was asked for.
        inputs: SHA-256 of every file it was computed from.
        span: Span of the ledger.
        reconciliation: Per currency.
        unused_commitments: Dearest first.
        shared_pools: Pools that several of the moved workloads want.
        total: Scenarios of all workloads together. A workload that cannot be simulated, or one in another
            currency, is in each as it was billed, or not at all. In `recommended` capacity is divided among
            those that share pools; in the others each has them for itself.
        headline: The report in one sentence.
        notes: What matched and what did not, over all.
        workloads: Dearest first.
    """

    version: Literal[1]
    spotwise: str
    settings: Settings
    inputs: dict[str, str]
    span: Span
    reconciliation: tuple[Reconciliation, ...]
    unused_commitments: tuple[UnusedCommitment, ...]
    shared_pools: tuple[SharedPools, ...] = ()
    total: tuple[Scenario, ...]
    headline: str
    notes: tuple[str, ...]
    workloads: tuple[WorkloadReport, ...]

    def to_json(self) -> str:
        """The report as JSON text; the same report gives the same bytes."""
        return json.dumps(_rounded(self.model_dump(mode="json")), indent=1, ensure_ascii=True) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON schema of `recommendation.json`."""
    schema = Report.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Spotwise recommendation",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _rounded(value: Any) -> Any:
    """Floats to nine significant digits: sums in another order give the same text."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") + 0.0  # + 0.0: no negative zero
    return value
