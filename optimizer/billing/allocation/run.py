"""Applies allocation rules to a ledger: writes who gets which part of each shared row, all or nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis

from optimizer.billing.allocation.kubernetes import kubernetes_splits
from optimizer.billing.allocation.rules import (
    AllocationRules,
    Even,
    Fixed,
    Kubernetes,
    Proportional,
    Rule,
    Waste,
    load_rules,
)
from optimizer.billing.allocation.shares import Share, Split, read_usage
from optimizer.billing.dimensions import expression
from optimizer.billing.ledger import Ledger, to_sql
from simulator.errors import InputError, SpotwiseError

CENT = Decimal("0.01")
RATIO_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Allocated:
    """What a rule gave to a target, amortised."""

    rule: str
    method: str
    target: str
    currency: str
    cost: Decimal
    team: str | None


@dataclass(frozen=True)
class AllocationReport:
    """What an allocation did.

    Attributes:
        allocated: Per rule, target and currency, dearest first within a rule.
        untouched: Rules that selected no row.
        rows: Ledger rows that were split.
    """

    allocated: tuple[Allocated, ...]
    untouched: tuple[str, ...]
    rows: int


def allocate(ledger_path: Path, rules_path: Path) -> AllocationReport:
    """Split the shared cost of a ledger by the rules of a file; an earlier allocation is replaced.

    The result is the view `allocated_ledger`: every row of the ledger, shared ones once per target with their
    share of every cost and the FOCUS 1.3 columns AllocatedMethodId, AllocatedMethodDetails,
    AllocatedResourceId, AllocatedResourceName and AllocatedTags. An ingest drops it, since bills may have
    been restated.

    Raises:
        InputError: The rules or the files they name are wrong, or windows of a rule overlap.
        SpotwiseError: The parts of a row do not add up to it; nothing is written then.
    """
    rules = load_rules(rules_path)
    splits = {rule.name: _splits(rule, rules_path.parent) for rule in rules.rules}
    if not ledger_path.exists():
        raise InputError(f"{ledger_path}: no such ledger; make one with: spotwise ledger ingest PATH")
    with Ledger.open(ledger_path, write=True) as ledger:
        ledger.connection.execute("BEGIN")
        try:
            ledger.connection.execute("DELETE FROM allocations")
            counts = {rule.name: _apply(ledger, rule, splits[rule.name]) for rule in rules.rules}
            _check(ledger)
            report = _report(ledger, rules, counts)
            ledger.connection.execute("COMMIT")
        except BaseException:
            ledger.connection.execute("ROLLBACK")
            raise
    return report


def _splits(rule: Rule, folder: Path) -> list[Split]:
    if isinstance(rule, Kubernetes):
        return kubernetes_splits(rule, folder)
    if isinstance(rule, Proportional):
        return read_usage(folder / rule.usage, rule.value)
    if isinstance(rule, Even):
        return [Split(tuple(Share(target, 1 / len(rule.targets)) for target in rule.targets))]
    if isinstance(rule, Fixed):
        return [Split(tuple(Share(target, ratio) for target, ratio in rule.shares.items() if ratio))]
    return [Split((Share(rule.bucket, 1.0, {"Owner": rule.team, "waste": rule.name}),))]


def _apply(ledger: Ledger, rule: Rule, splits: list[Split]) -> int:
    """Write the shares of one rule; returns the number of rows that it split."""
    execute = ledger.connection.execute
    execute(
        "CREATE OR REPLACE TEMP TABLE shares (starts TIMESTAMP, ends TIMESTAMP, resource VARCHAR,"
        " target VARCHAR,"
        " ratio DOUBLE, details VARCHAR, tags VARCHAR)"
    )
    rows = [
        [
            split.start,
            split.end,
            split.resource,
            share.target,
            share.ratio,
            _details(share),
            json.dumps(dict(share.tags)),
        ]
        for split in splits
        for share in split.shares
    ]
    if rows:
        ledger.connection.executemany("INSERT INTO shares VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    execute(
        "INSERT INTO allocations"
        " SELECT ?, l.row_id, s.ratio, ?, s.details, s.target, s.target, s.tags FROM"
        f" ({_selection(ledger, rule)}) AS l"
        " JOIN shares AS s ON (s.resource IS NULL OR s.resource = l.resource)"
        " AND (s.starts IS NULL OR l.starts >= s.starts) AND (s.ends IS NULL OR l.starts < s.ends)"
        " WHERE l.row_id NOT IN (SELECT row_id FROM allocations)",
        [rule.name, f"spotwise:{rule.method}:{rule.name}"],
    )
    return int(
        ledger.rows("SELECT count(DISTINCT row_id) FROM allocations WHERE rule = ?", [rule.name])[0][0]
    )


def _details(share: Share) -> str:
    element: dict[str, Any] = {"AllocatedRatio": share.ratio}
    if share.unit:
        element |= {"UsageUnit": share.unit, "UsageQuantity": share.quantity}
    return json.dumps({"Elements": [element]})


def _selection(ledger: Ledger, rule: Rule) -> str:
    """Return SQL for the rows that a rule is for: `row_id`, `resource`, `starts`."""
    rows = ledger.table.mutate(row_id=ledger.table.rowid())
    if isinstance(rule, Kubernetes):
        rows = rows.filter(rows.ResourceId.notnull())
    else:
        for name, value in rule.select.items():
            if name == "commitment-status":
                rows = rows.filter(rows.CommitmentDiscountStatus == value)
            else:
                rows = rows.filter(expression(rows, name, option=f"rule {rule.name}: select") == value)
        if isinstance(rule, Waste) and rule.resources:
            rows = rows.filter(rows.ResourceId.isin(rule.resources))
    # Google calls a machine by its whole path, Kubernetes by the last part.
    resource = ibis.coalesce(rows.ResourceId.re_extract(r"([^/]+)$", 1).nullif(""), rows.ResourceId)
    return to_sql(rows.select(row_id=rows.row_id, resource=resource, starts=rows.ChargePeriodStart))


def _check(ledger: Ledger) -> None:
    broken = ledger.rows(
        "SELECT any_value(rule), count(*), max(total) FROM (SELECT any_value(rule) AS rule,"
        " sum(ratio) AS total"
        " FROM allocations GROUP BY row_id) WHERE abs(total - 1) > ? HAVING count(*) > 0",
        [RATIO_TOLERANCE],
    )
    if broken:
        rule, count, total = broken[0]
        raise InputError(
            f"rule {rule}: the shares of {count} rows sum to {total:g}; accepted: stretches of time"
            " that do not overlap"
        )
    for currency, before, after in ledger.rows(
        "SELECT l.BillingCurrency, sum(l.EffectiveCost), (SELECT sum(a.EffectiveCost) FROM"
        " allocated_ledger AS a"
        " WHERE a.BillingCurrency = l.BillingCurrency) FROM ledger AS l GROUP BY 1"
    ):
        if abs(before - after) > CENT:
            raise SpotwiseError(
                f"allocation changed the cost from {before} to {after} {currency}; nothing was written"
            )


def _report(ledger: Ledger, rules: AllocationRules, counts: dict[str, int]) -> AllocationReport:
    order = {rule.name: place for place, rule in enumerate(rules.rules)}
    rows = ledger.rows(
        "SELECT a.rule, l.AllocatedResourceName, l.BillingCurrency, sum(l.EffectiveCost),"
        " any_value(l.AllocatedTags->>'Owner')"
        " FROM allocated_ledger AS l JOIN (SELECT DISTINCT rule, AllocatedMethodId FROM allocations) AS a"
        " USING (AllocatedMethodId) GROUP BY 1, 2, 3"
    )
    methods = {rule.name: rule.method for rule in rules.rules}
    found = [
        Allocated(rule, methods[rule], target, currency, cost, team)
        for rule, target, currency, cost, team in rows
    ]
    return AllocationReport(
        allocated=tuple(sorted(found, key=lambda a: (order[a.rule], -a.cost, a.target))),
        untouched=tuple(name for name, count in counts.items() if not count),
        rows=sum(counts.values()),
    )
