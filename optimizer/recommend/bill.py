"""What the ledger says of each workload: amounts per purchase option, reconciled, and tag gaps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.billing.dimensions import MISSING, column_name, expression, is_run
from optimizer.billing.ledger import Ledger
from optimizer.recommend.result import Reconciliation, TagGap, UnusedCommitment
from simulator.errors import InputError

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from optimizer.billing.workloads import Workload, WorkloadFile

OPTION_OF = {"Standard": "on-demand", "Dynamic": "spot", "Committed": "committed"}
USUAL_TAG_SHARE = 0.5
"""A tag on at least this share of the cost of instances is one that all are expected to carry."""
Identity = tuple[str, ...]


@dataclass
class Line:
    """Instance time of one workload in one purchase option: exact amounts."""

    cost: Decimal = Decimal(0)
    hours: Decimal = Decimal(0)


@dataclass
class WorkloadBill:
    """Exact amounts of one workload over the span, per purchase option, and its cost per set of tags."""

    options: dict[str, Line] = field(default_factory=dict)
    tags: list[tuple[frozenset[str], Decimal]] = field(default_factory=list)

    @property
    def cost(self) -> Decimal:
        """Effective cost of all options."""
        return sum((line.cost for line in self.options.values()), Decimal(0))


@dataclass(frozen=True)
class Bill:
    """The ledger as the report needs it.

    Attributes:
        workloads: By name; every workload of the file is there.
        reconciliation: Per currency.
        unused: Dearest first.
        strangers: Instance time without a workload in the file: description and cost.
        tag_keys: Keys that instances usually carry.
    """

    workloads: dict[str, WorkloadBill]
    reconciliation: tuple[Reconciliation, ...]
    unused: tuple[UnusedCommitment, ...]
    strangers: tuple[str, ...]
    tag_keys: tuple[str, ...]

    def tag_gaps(self, name: str) -> tuple[TagGap, ...]:
        """Usual tags that part of the cost of a workload lacks."""
        bill = self.workloads[name]
        whole = sum((cost for _, cost in bill.tags), Decimal(0))
        if whole <= 0:
            return ()
        gaps = []
        for key in self.tag_keys:
            lacking = sum((cost for keys, cost in bill.tags if key not in keys), Decimal(0))
            share = min(max(float(lacking / whole), 0.0), 1.0)
            if share > 0:
                gaps.append(TagGap(key=key, share_of_cost=share))
        return tuple(gaps)


def read_bill(path: Path, found: WorkloadFile) -> Bill:
    """Read the ledger and tell whose each row is.

    Raises:
        InputError: There is no ledger, or it does not balance.
    """
    names = {identity_of(one, found.by): one.name for one in found.workloads}
    bills = {one.name: WorkloadBill() for one in found.workloads}
    inside: dict[str, Decimal] = {}
    outside: dict[str, Decimal] = {}
    strangers: dict[str, Decimal] = {}
    tagged: dict[str, Decimal] = {}
    instances = Decimal(0)
    with Ledger.open(path) as ledger:
        for row in ledger.rows(_instances(ledger.table, tuple(found.by))):
            *identity, pricing, tags, cost, hours = row
            currency, key = identity[-1], tuple(str(part) for part in identity)
            instances += cost
            keys = _tag_keys(tags)
            for each in keys:
                tagged[each] = tagged.get(each, Decimal(0)) + cost
            name = names.get(key)
            if name is None:
                outside[currency] = outside.get(currency, Decimal(0)) + cost
                label = " ".join(key[-4:-1]) + f" ({', '.join(key[: len(found.by)])})"
                strangers[f"{label} {currency}"] = strangers.get(f"{label} {currency}", Decimal(0)) + cost
                continue
            inside[currency] = inside.get(currency, Decimal(0)) + cost
            bill = bills[name]
            line = bill.options.setdefault(OPTION_OF.get(str(pricing), "on-demand"), Line())
            line.cost += cost
            line.hours += hours
            bill.tags.append((keys, cost))
        totals = ledger.rows(
            "SELECT BillingCurrency, sum(BilledCost), sum(EffectiveCost), "
            "coalesce(sum(EffectiveCost) FILTER (WHERE CommitmentDiscountStatus = 'Unused' "
            "AND NOT (x_InstanceType IS NOT NULL AND ChargeCategory = 'Usage')), 0), "
            "coalesce(sum(EffectiveCost) FILTER (WHERE ChargeCategory IN ('Credit', 'Adjustment') "
            "AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused'), 0) "
            "FROM ledger GROUP BY 1 ORDER BY 1"
        )
        unused = ledger.rows(
            "SELECT CommitmentDiscountId, BillingAccountId, BillingCurrency, sum(EffectiveCost)::DOUBLE AS c "
            "FROM ledger WHERE CommitmentDiscountStatus = 'Unused' GROUP BY ALL ORDER BY c DESC, 1, 2"
        )
    return Bill(
        bills,
        tuple(_reconciled(row, inside, outside) for row in totals),
        tuple(
            UnusedCommitment(commitment=str(i or MISSING), billing_account=str(a), cost=c, currency=str(cur))
            for i, a, cur, c in unused
            if c > 0
        ),
        tuple(
            f"{label}: {cost:.2f}"
            for label, cost in sorted(strangers.items(), key=lambda item: (-item[1], item[0]))
        ),
        tuple(
            sorted(
                key
                for key, cost in tagged.items()
                if instances > 0 and float(cost / instances) >= USUAL_TAG_SHARE
            )
        ),
    )


def identity_of(workload: Workload, by: list[str]) -> Identity:
    """What tells a workload apart in the ledger; the columns of `_instances` in their order."""
    return (
        *(workload.key.get(name, MISSING) for name in by),
        workload.provider,
        workload.billing_account,
        workload.region,
        workload.instance_type,
        workload.currency,
    )


def _instances(rows: ir.Table, by: tuple[str, ...]) -> Any:
    import ibis

    zero = ibis.literal(0).cast("decimal(38, 15)")
    machines = rows.filter(is_run(rows))
    slim = machines.select(
        **{f"by_{column_name(name)}": expression(machines, name) for name in by},
        provider_=machines.ProviderName,
        account_=machines.BillingAccountId,
        region_=ibis.coalesce(machines.RegionId, MISSING),
        type_=ibis.coalesce(machines.x_InstanceType, MISSING),
        currency_=machines.BillingCurrency,
        pricing_=machines.PricingCategory,
        tags_=machines.Tags,
        cost_=machines.EffectiveCost,
        hours_=ibis.coalesce(machines.x_InstanceHours, zero),
    )
    keys = [name for name in slim.columns if name not in ("cost_", "hours_")]
    grouped = slim.group_by(*keys).agg(cost=slim.cost_.sum(), hours=slim.hours_.sum())
    return grouped.order_by(*keys)


def _tag_keys(tags: str | None) -> frozenset[str]:
    try:
        data = json.loads(tags) if tags else {}
    except ValueError as error:
        raise InputError(f"ledger: tags that are not JSON ({error}); ingest the exports again") from error
    return (
        frozenset(str(key) for key, value in data.items() if value) if isinstance(data, dict) else frozenset()
    )


def _reconciled(
    row: tuple[Any, ...], inside: dict[str, Decimal], outside: dict[str, Decimal]
) -> Reconciliation:
    currency, billed, effective, unused, credits_ = row
    mine, others = inside.get(currency, Decimal(0)), outside.get(currency, Decimal(0))
    rest = effective - mine - others - unused - credits_
    return Reconciliation(
        currency=str(currency),
        billed_cost=_text(billed),
        effective_cost=_text(effective),
        workloads=_text(mine),
        other_instances=_text(others),
        unused_commitment=_text(unused),
        credits=_text(credits_),
        other=_text(rest),
    )


def _text(amount: Decimal) -> str:
    return f"{amount.normalize() + 0:f}"
