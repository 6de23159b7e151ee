"""Derives workloads from a ledger: demand, present purchase mix, a guess of kind, terms to confirm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import numpy as np

from optimizer.billing.dimensions import COLUMN_OF, MISSING, TIMES, parse
from optimizer.billing.ledger import Ledger
from optimizer.billing.workloads.demand import Demand, read_demand
from optimizer.billing.workloads.file import (
    DemandFacts,
    JobTerms,
    PurchaseMix,
    ServiceTerms,
    Span,
    Workload,
    WorkloadFile,
    save_workloads,
)
from optimizer.billing.workloads.kind import Guess, guess_kind
from simulator.errors import InputError

AVAILABILITY = 0.99
COLD_START_MINUTES = 3.0
RESTART_OVERHEAD_MINUTES = 12.0
"""First guesses of what only the owner knows; each is listed under `confirm`."""

HOURS_PER_MONTH = 730.0


def derive(ledger_path: Path, by: str | Sequence[str] = ("tag:app", "account", "region")) -> WorkloadFile:
    """Return the workloads of a ledger.

    Args:
        ledger_path: The ledger.
        by: Dimensions that tell workloads apart. Instance types are always told apart: demand counts
            instances of
            one type.

    Raises:
        InputError: No ledger, no such dimension, or no instance time in it.
    """
    names = parse(by)
    for name in names:
        if name in TIMES:
            accepted = ", ".join((*COLUMN_OF, "workload", "tag:KEY"))
            raise InputError(
                f"--by {name}: demand is hourly as it is, and a workload spans all hours; accepted:"
                f" {accepted}"
            )
    with Ledger.open(ledger_path) as ledger:
        first, found = read_demand(ledger, names)
    hours = found[0].hours.shape[0]
    labels = _labels(found)
    return WorkloadFile(
        version=1,
        ledger=str(ledger_path),
        by=list(names),
        span=Span(start=first.replace(tzinfo=UTC), hours=hours),
        demand_file="workloads.demand.parquet",
        workloads=[_workload(label, one, first.hour) for label, one in zip(labels, found, strict=True)],
    )


def write_workloads(found: WorkloadFile, path: Path) -> None:
    """Write `path` and the demand beside it, named after it."""
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: accepted: a name that ends in .yaml")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no folder {path.parent}; make it first")
    found.demand_file = f"{path.stem}.demand.parquet"
    save_workloads(path, found)


def _labels(found: list[Demand]) -> list[str]:
    """Return a name per workload: the values that differ, and the type where one workload has several."""

    def clean(text: str) -> str:
        return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "none"

    names = list(found[0].key)
    told = [n for n in names if n.startswith("tag:") or n in ("workload", "service", "resource")] or names[:1]

    def label(one: Demand, parts: list[str], *, typed: bool) -> str:
        values = ["untagged" if one.key[n] == MISSING else clean(one.key[n]) for n in parts]
        return ".".join([*values, *([clean(one.instance_type)] if typed else [])])

    labels = [label(one, told, typed=False) for one in found]
    for parts, typed in ((names, False), (told, True), (names, True)):
        # Only what is still doubtful gets a longer name.
        labels = [
            label(one, parts, typed=typed) if labels.count(old) > 1 else old
            for one, old in zip(found, labels, strict=True)
        ]
    if len(set(labels)) < len(labels):
        # Different clouds, bills or currencies may share everything above.
        labels = [
            f"{old}.{clean(one.provider)}.{clean(one.billing_account)}.{one.currency}"
            if labels.count(old) > 1
            else old
            for one, old in zip(found, labels, strict=True)
        ]
    return labels


def _workload(name: str, one: Demand, first_hour: int) -> Workload:
    total = one.total
    known = ~one.missing
    sums = one.hours.sum(axis=0)
    whole = float(sums.sum())
    shares = sums / whole if whole > 0 else np.zeros(3)
    guess = guess_kind(total, one.missing, first_hour=first_hour)
    long = "; from rows of several hours, so the shape within them is not known"
    daily = long if one.imputed.mean() > 0.5 else ""
    service, job, confirm = _terms(guess, _always_committed(one))
    workload = Workload(
        name=name,
        key=one.key,
        provider=one.provider,
        billing_account=one.billing_account,
        region=one.region,
        zones=list(one.zones),
        instance_type=one.instance_type,
        kind="service" if service else "deadline-job",
        evidence=guess.evidence + daily,
        confirm=confirm,
        service=service,
        job=job,
        demand_facts=DemandFacts(
            mean=round(float(total[known].mean()), 6) if known.any() else 0.0,
            peak=round(float(total.max(initial=0.0)), 6),
            instance_hours=round(whole, 6),
            missing_hours=int(one.missing.sum()),
            imputed_hours=int(one.imputed.sum()),
        ),
        purchase_mix=PurchaseMix(
            on_demand=_share(shares[0]), spot=_share(shares[1]), committed=_share(shares[2])
        ),
        commitment_coverage=_share(shares[2]),
        on_demand_price=one.on_demand_price,
        monthly_cost=round(one.cost / max(int(known.sum()), 1) * HOURS_PER_MONTH, 4),
        currency=one.currency,
    )
    workload.set_demand(one.hours, one.missing, one.imputed)
    return workload


def _share(value: float) -> float:
    # Corrections can make an option negative in total.
    return round(min(max(float(value), 0.0), 1.0), 6)


def _always_committed(one: Demand) -> int:
    """Instances that a commitment covers in every known hour in which it runs."""
    busy = (one.total > 0) & ~one.missing
    return max(int(np.floor(one.hours[busy, 2].min() + 1e-9)), 0) if busy.any() else 0


def _terms(guess: Guess, committed: int) -> tuple[ServiceTerms | None, JobTerms | None, list[str]]:
    if guess.kind == "service":
        terms = ServiceTerms(availability_target=AVAILABILITY, cold_start_minutes=COLD_START_MINUTES)
        return terms, None, ["kind", "service.availability_target", "service.cold_start_minutes"]
    overhead_hours = RESTART_OVERHEAD_MINUTES / 60
    job = JobTerms(
        nodes=guess.nodes,
        work_hours=guess.work_hours,
        # Done before the next one begins, and never promised less than it needs.
        deadline_hours=max(guess.period_hours, guess.work_hours + 2 * overhead_hours),
        restart_overhead_minutes=RESTART_OVERHEAD_MINUTES,
        checkpoint_interval_minutes=0.0,
        committed=min(committed, guess.nodes),
    )
    fields = ("deadline_hours", "restart_overhead_minutes", "checkpoint_interval_minutes")
    return None, job, ["kind", *(f"job.{name}" for name in fields)]
