"""Runs the checks on a ledger: every row rule in one pass, then what only several rows together can show."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import ibis

from optimizer.billing.bills import account_id, bill_month, provider_name
from optimizer.billing.checks.rules import Rule, Severity, rules
from optimizer.billing.focus import LEDGER_SCHEMA, NAMES
from optimizer.billing.ledger import Ledger, to_sql

if TYPE_CHECKING:
    import ibis.expr.types as ir

_SHOWN = (
    "x_SourceFile",
    "x_SourceLine",
    "ProviderName",
    "ChargeCategory",
    "PricingCategory",
    "SkuMeter",
    "ResourceId",
    "BilledCost",
    "EffectiveCost",
)


COINCIDENCE = 0.001
"""Lines may agree in all that FOCUS tells and yet differ, such as in the operation that was called; they are
cheap. From this share of the cost of a bill on they are copies."""


@dataclass(frozen=True)
class Finding:
    """A check that some rows break.

    Attributes:
        check: Its name.
        about: What should hold.
        severity: `error` or `warning`.
        count: Rows, or groups of rows, that break it.
        examples: A few of them.
    """

    check: str
    about: str
    severity: Severity
    count: int
    examples: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class CheckReport:
    """What the checks found.

    Attributes:
        rows: Rows checked.
        checks: Number of checks.
        findings: The broken ones, errors first.
    """

    rows: int
    checks: int
    findings: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not any(f.severity == "error" for f in self.findings)


@dataclass(frozen=True, slots=True)
class Group:
    """A check over several rows.

    Attributes:
        name: As `Rule.name`.
        about: As `Rule.about`.
        broken: What breaks it.
        severity: As `Rule.severity`.
        coincidence: Where the column `of_bill` of `broken`, a share of the cost of the bill, is below this,
            the finding may be chance and is a warning.
    """

    name: str
    about: str
    broken: ir.Table
    severity: Severity = "error"
    coincidence: float = 0.0

    def severity_of(self, rows: list[dict[str, Any]]) -> Severity:
        """Return how bad it is that `rows` break the check."""
        if self.coincidence and all(row["of_bill"] < self.coincidence for row in rows):
            return "warning"
        return self.severity


def check_ledger(ledger: Ledger, *, examples: int = 3) -> CheckReport:
    """Check every row of a ledger.

    Args:
        ledger: The open ledger.
        examples: How many broken rows to show per check.
    """
    every, groups = rules(), groups_of(ledger.table)
    found = _broken_rows(ledger, every, examples)
    for group, text in zip(groups, _group_sql(), strict=True):
        rows = ledger.arrow(text).to_pylist()
        if rows:
            severity = group.severity_of(rows)
            found.append(Finding(group.name, group.about, severity, len(rows), tuple(rows[:examples])))
    total = int(ledger.rows("SELECT count(*) FROM ledger")[0][0])
    order = sorted(found, key=lambda f: (f.severity != "error", -f.count, f.check))
    return CheckReport(total, len(every) + len(groups), tuple(order))


def _broken(table: ir.Table, rule: Rule) -> ir.BooleanValue:
    return ibis.coalesce(rule.broken(table), ibis.literal(False))


@cache
def _count_sql() -> str:
    """Return the SQL that counts the broken rows of every rule at once."""
    table = ibis.table(LEDGER_SCHEMA, name="ledger")
    return to_sql(table.agg(**{rule.name: _broken(table, rule).sum() for rule in rules()}))


@cache
def _group_sql() -> tuple[str, ...]:
    table = ibis.table(LEDGER_SCHEMA, name="ledger")
    return tuple(to_sql(group.broken) for group in groups_of(table))


def _broken_rows(ledger: Ledger, every: tuple[Rule, ...], examples: int) -> list[Finding]:
    findings = []
    for rule, count in zip(every, ledger.rows(_count_sql())[0], strict=True):
        if count:
            table = ledger.table
            rows = ledger.arrow(
                table.filter(_broken(table, rule)).select(*_SHOWN).limit(examples)
            ).to_pylist()
            findings.append(Finding(rule.name, rule.about, rule.severity, int(count), tuple(rows)))
    return findings


def groups_of(table: ir.Table) -> list[Group]:
    """Return the checks that look at several rows; each is the table of what breaks it."""
    return [
        Group("duplicate-line", "a line of an export is in the ledger once", _repeated(table)),
        Group(
            "duplicate-charge",
            "two lines do not say the very same",
            _same_charge(table),
            coincidence=COINCIDENCE,
        ),
        Group(
            "billed-twice",
            "one export, and one account, bills a resource for a stretch of time",
            _billed_twice(table),
        ),
        Group("instance-overlap", "an instance does not run twice at a time", _overlaps(table)),
        Group("bill-balance", "a bill is what was ingested", _changed_bills(table)),
        Group(
            "commitment-balance",
            "usage of a commitment costs what was paid for it",
            _commitments(table),
            "warning",
        ),
        Group("one-format", "a bill comes from one export", _two_formats(table)),
    ]


def _repeated(t: ir.Table) -> ir.Table:
    keys = ("x_SourceFile", "x_SourceLine", "ChargeCategory", "ChargeDescription", "CommitmentDiscountStatus")
    # Several credits of one Google line are told apart by amount and text; equal ones would be a flaw of the
    # export.
    grouped = t.group_by(*keys, "BilledCost").agg(times=t.count())
    return grouped.filter(grouped.times > 1)


def _same_charge(t: ir.Table) -> ir.Table:
    charged = t.filter(t.BilledCost != ibis.literal(0))
    rows = charged.filter(charged.ChargeCategory.isin(("Usage", "Purchase")))
    # Grouping by all columns is dear: only what agrees in these few is looked at in full.
    few = ("ResourceId", "SkuMeter", "ChargePeriodStart", "SubAccountId", "BilledCost", "ChargeDescription")
    alike = rows.group_by(*few).agg(alike=rows.count())
    alike = alike.filter(alike.alike > 1)
    rows = rows.semi_join(alike, [rows[name].identical_to(alike[name]) for name in few])
    grouped = rows.group_by(*NAMES).agg(
        times=rows.count(),
        first_file=rows.x_SourceFile.min(),
        first_line=rows.x_SourceLine.min(),
        last_file=rows.x_SourceFile.max(),
        last_line=rows.x_SourceLine.max(),
    )
    again = grouped.filter(grouped.times > 1)
    bill = ("ProviderName", "BillingAccountId", "BillingPeriodStart", "BillingCurrency")
    extra = again.BilledCost.abs().cast("float64") * (again.times - 1)
    extras = again.mutate(extra=extra)
    too_much = extras.group_by(*bill).agg(extra=extras.extra.sum())
    whole = charged.group_by(*bill).agg(whole=charged.BilledCost.abs().cast("float64").sum())
    shares = too_much.join(whole, bill).select(*bill, of_bill=lambda x: x.extra / x.whole)
    shown = ("ResourceId", "SkuMeter", "ChargePeriodStart", "BilledCost", "times", "first_file", "first_line")
    joined = again.join(shares, bill).select(*shown, "last_file", "last_line", "of_bill")
    # Without a resource it says too little for a suspicion of its own.
    joined = joined.filter(joined.ResourceId.notnull() | (joined.of_bill >= COINCIDENCE))
    return joined.order_by(ibis.desc("of_bill"), "first_file", "first_line")


def _billed_twice(t: ir.Table) -> ir.Table:
    """Return what two exports, or two billing accounts, bill of one resource for the very same time."""
    # Most ledgers are of one account: nothing to compare then.
    sources = t.agg(n=(t.ProviderName + t.BillingAccountId.lower() + t.x_SourceFormat).nunique())
    rows = t.filter(
        (sources.n.as_scalar() > 1)
        & t.ResourceId.notnull()
        & (t.ChargeCategory == "Usage")
        & (t.BilledCost != ibis.literal(0))
    )
    grouped = rows.group_by(
        # Exports call a resource by its whole path or by its last part.
        resource=rows.ResourceId.lower().re_extract(r"([^/]+)/*$", 1),
        begin=rows.ChargePeriodStart,
        end=rows.ChargePeriodEnd,
        currency=rows.BillingCurrency,
        billed=rows.BilledCost.cast("float64").round(6),
    ).agg(
        exports=rows.x_SourceFormat.nunique(),
        accounts=(rows.ProviderName + " " + rows.BillingAccountId.lower()).nunique(),
        first_file=rows.x_SourceFile.min(),
        last_file=rows.x_SourceFile.max(),
    )
    return grouped.filter((grouped.exports > 1) | (grouped.accounts > 1))


def _overlaps(t: ir.Table) -> ir.Table:
    alone = ~t.ResourceId.lower().contains("virtualmachinescalesets")
    rows = t.filter(t.x_InstanceHours.notnull() & t.ResourceId.notnull() & alone)
    span = (rows.ChargePeriodEnd.epoch_seconds() - rows.ChargePeriodStart.epoch_seconds()) / 3600.0
    rows = rows.mutate(span=span)
    grouped = rows.group_by("ResourceId", "ChargePeriodStart", "ChargePeriodEnd").agg(
        hours=rows.x_InstanceHours.sum(), span=rows.span.max(), times=rows.count()
    )
    return grouped.filter((grouped.times > 1) & (grouped.hours.cast("float64") > grouped.span * 1.01 + 0.01))


def _changed_bills(t: ir.Table) -> ir.Table:
    money = "decimal(38, 15)"
    bills = ibis.table(
        {
            "provider": "string",
            "account": "string",
            "period": "timestamp",
            "currency": "string",
            "cost_out": money,
        },
        name="bills",
    )
    recorded = bills.group_by("provider", "account", "period", "currency").agg(recorded=bills.cost_out.sum())
    now = t.group_by(
        provider_=t.ProviderName,
        account_=t.BillingAccountId,
        period_=t.BillingPeriodStart,
        currency_=t.BillingCurrency,
    ).agg(now=t.BilledCost.sum())
    joined = recorded.outer_join(
        now,
        (recorded.provider == now.provider_)
        & (recorded.account == now.account_)
        & (recorded.period == now.period_)
        & (recorded.currency == now.currency_),
    )
    zero = ibis.literal(0).cast(money)
    difference = ibis.coalesce(joined.recorded, zero) - ibis.coalesce(joined.now, zero)
    return joined.mutate(difference=difference).filter(difference.cast("float64").abs() > 0.005)


def _commitments(t: ir.Table) -> ir.Table:
    """Return commitments whose recurring fees of a month differ from what their usage cost by over 1 %.

    Only where the fees recur: what was paid up front in another month is not in the ledger.
    """
    rows = t.filter(t.CommitmentDiscountId.notnull())
    zero = ibis.literal(0).cast("decimal(38, 15)")
    google = rows.ProviderName == "Google Cloud"
    # Google's fee row is usage, and keeps the used part of its own cost.
    purchase = ((rows.ChargeCategory == "Purchase") | google) & (rows.ChargeFrequency == "Recurring")
    on_fee = ibis.cases((purchase, rows.EffectiveCost), else_=zero)
    usage = ibis.cases(((rows.ChargeCategory == "Usage") & ~google, rows.EffectiveCost), else_=zero)
    unused = ibis.cases(
        ((rows.CommitmentDiscountStatus == "Unused") & google, rows.EffectiveCost), else_=zero
    )
    rows = rows.mutate(fee=ibis.cases((purchase, rows.BilledCost), else_=zero), spent=usage + on_fee + unused)
    grouped = rows.group_by("CommitmentDiscountId", "BillingPeriodStart").agg(
        fee=rows.fee.sum(), spent=rows.spent.sum()
    )
    fee, spent = grouped.fee.cast("float64"), grouped.spent.cast("float64")
    return grouped.filter((fee > 0) & ((fee - spent).abs() > 0.01 * fee + 0.01))


def _two_formats(t: ir.Table) -> ir.Table:
    grouped = t.group_by(
        provider=provider_name(t.ProviderName),
        account=account_id(t.BillingAccountId).lower(),
        month=bill_month(t.BillingPeriodStart),
    ).agg(formats=t.x_SourceFormat.nunique())
    return grouped.filter(grouped.formats > 1)
