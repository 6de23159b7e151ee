"""Cost per unit over time, and a change of it told apart into volume, usage per unit, mix and price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from optimizer.billing.dimensions import TIMES, column_name
from optimizer.billing.units.metrics import Metric
from optimizer.billing.views import cost_by
from simulator.errors import InputError

if TYPE_CHECKING:
    from optimizer.billing.ledger import Ledger

PERIODS = ("hour", "day", "week", "month")


@dataclass(frozen=True, slots=True)
class UnitCost:
    """A workload in a period.

    Attributes:
        workload: Its name.
        start: Begin of the period, UTC.
        currency: Currency.
        cost: Amortised cost of the hours whose amount is known.
        units: Amount done in them.
        unmatched_cost: Cost of the hours whose amount is not known; it is in no unit cost.
    """

    workload: str
    start: datetime
    currency: str
    cost: float
    units: float
    unmatched_cost: float

    @property
    def unit_cost(self) -> float | None:
        """Cost per unit; None when nothing was done."""
        return self.cost / self.units if self.units > 0 else None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the cost of a workload differs between two periods; the parts sum to `after - before`.

    Attributes:
        workload: Its name.
        currency: Currency.
        first: Begin of the earlier period.
        second: Begin of the later.
        before: Cost in the earlier.
        after: Cost in the later.
        volume: Because more or less was done, at the old unit cost.
        usage: Because a unit takes more or fewer instance-hours.
        mix: Because other types or purchase options ran the hours.
        price: Because an hour of the same type and option has another price.
        other: Cost without instance-hours (storage, transfer), per unit.
    """

    workload: str
    currency: str
    first: datetime
    second: datetime
    before: float
    after: float
    volume: float
    usage: float
    mix: float
    price: float
    other: float


@dataclass(frozen=True)
class UnitCosts:
    """Unit costs in order of workload and time, and why the last period differs from the first."""

    unit: str
    per: str
    points: tuple[UnitCost, ...]
    changes: tuple[Explanation, ...]
    without_cost: tuple[str, ...]


@dataclass(slots=True)
class _Sum:
    units: float = 0.0
    unmatched: float = 0.0
    other: float = 0.0
    hours: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    costs: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    @property
    def cost(self) -> float:
        return self.other + sum(self.costs.values())


def unit_costs(
    ledger: Ledger, metric: Metric, *, by: str = "tag:app", unit: str = "unit", per: str = "day"
) -> UnitCosts:
    """Join the hourly cost of workloads with what they did.

    Args:
        ledger: The open ledger.
        metric: Amounts per workload and hour; workloads are named by the values of `by`.
        by: Dimension of the ledger that names a workload.
        unit: What is counted, for the reader.
        per: One of `PERIODS`; weeks begin on Monday.

    Raises:
        InputError: An unknown dimension or period, or no hour in which both cost and amount are known.
    """
    if per not in PERIODS:
        raise InputError(f"--per {per}; accepted: {', '.join(PERIODS)}")
    if by in TIMES:
        raise InputError(f"--by {by}; accepted: what names a workload, such as tag:app; --per is for times")
    column = column_name(by)
    dimensions = tuple(dict.fromkeys((by, "hour", "instance-type", "purchase-option")))
    rows = ledger.arrow(cost_by(ledger.table, dimensions)).to_pylist()
    named = {workload for workload, _ in metric.values}
    sums: dict[tuple[str, str], dict[datetime, _Sum]] = defaultdict(lambda: defaultdict(_Sum))
    counted: set[tuple[str, str, datetime]] = set()
    for row in rows:
        if row[column] in named:
            _count(sums, counted, metric, row, row[column], per)
    points = [
        UnitCost(workload, start, currency, s.cost, s.units, s.unmatched)
        for (workload, currency), periods in sorted(sums.items())
        for start, s in sorted(periods.items())
    ]
    if not any(point.units > 0 for point in points):
        shown = ", ".join(sorted(named)[:5])
        if counted:
            raise InputError(
                f"{metric.source}: every value of its workloads ({shown}) is 0 in the hours that cost"
                " something; accepted: some above 0, or there is nothing to divide by"
            )
        raise InputError(
            f"{metric.source}: no hour of its workloads ({shown}) has a cost under {by}; do names and"
            " times fit?"
        )
    changes = [
        change for key, periods in sorted(sums.items()) for change in _explain(*key, sorted(periods.items()))
    ]
    spent = {workload for workload, _ in sums}
    return UnitCosts(unit, per, tuple(points), tuple(changes), tuple(sorted(named - spent)))


def _count(
    sums: dict[tuple[str, str], dict[datetime, _Sum]],
    counted: set[tuple[str, str, datetime]],
    metric: Metric,
    row: dict[str, Any],
    workload: str,
    per: str,
) -> None:
    hour = row["hour"].replace(tzinfo=None)
    cost, hours = float(row["cost"]), float(row["instance_hours"])
    total = sums[workload, row["currency"]][_begin(hour, per)]
    amount = metric.values.get((workload, hour))
    if amount is None:
        total.unmatched += cost
        return
    if (workload, row["currency"], hour) not in counted:
        # Several rows share an hour: its amount counts once.
        counted.add((workload, row["currency"], hour))
        total.units += amount
    if hours > 0:
        part = (row["instance_type"], row["purchase_option"])
        total.hours[part] += hours
        total.costs[part] += cost
    else:
        total.other += cost


def _begin(hour: datetime, per: str) -> datetime:
    if per == "hour":
        return hour
    day = hour.replace(hour=0)
    if per == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if per == "month" else day


def _explain(workload: str, currency: str, periods: list[tuple[datetime, _Sum]]) -> Iterable[Explanation]:
    known = [(start, s) for start, s in periods if s.units > 0]
    if len(known) < 2:
        return
    (first, a), (second, b) = known[0], known[-1]
    volume = (b.units - a.units) * a.cost / a.units
    other = b.units * (b.other / b.units - a.other / a.units)
    hours_a, hours_b = sum(a.hours.values()), sum(b.hours.values())
    mean_price = (a.cost - a.other) / hours_a if hours_a else 0.0
    usage = b.units * (hours_b / b.units - hours_a / a.units) * mean_price
    mix = price = 0.0
    for part in set(a.hours) | set(b.hours):
        new = b.costs[part] / b.hours[part] if b.hours.get(part) else 0.0
        # What did not run before has no old price: its price is no change, its place in the mix is.
        old = a.costs[part] / a.hours[part] if a.hours.get(part) else new
        share_a = a.hours.get(part, 0.0) / hours_a if hours_a else 0.0
        share_b = b.hours.get(part, 0.0) / hours_b if hours_b else 0.0
        mix += hours_b * (share_b - share_a) * old
        price += b.hours.get(part, 0.0) * (new - old)
    yield Explanation(
        workload=workload,
        currency=currency,
        first=first,
        second=second,
        before=a.cost,
        after=b.cost,
        volume=volume,
        usage=usage,
        mix=mix,
        price=price,
        other=other,
    )
