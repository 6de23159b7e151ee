"""The recommendation for one workload, in words, and `change nothing` where nothing better can be shown."""

from __future__ import annotations

from optimizer.recommend.result import TITLES, Decision, Role, Scenario, known
from optimizer.recommend.scenarios import Judged

LEAST = 0.005
"""USD a month; less is nothing."""
CANDIDATES: tuple[Role, ...] = ("static-mix", "heuristic", "champion")


def decide(found: Judged) -> Decision:
    """Recommend the cheapest policy that keeps the SLA and surely saves, or to change nothing."""
    subject = found.subject
    if subject.obstacles:
        return Decision(
            action="change-nothing",
            role="as-billed",
            reasons=tuple(_sentence(text) for text in subject.obstacles),
            assumptions=subject.assumptions,
            missing_data=subject.missing,
        )
    tried = [found.scenarios[role] for role in CANDIDATES if role in found.scenarios]
    keeping = [one for one in tried if one.sla is not None and one.sla.holds]
    saving = [one for one in keeping if one.saving_interval_usd and one.saving_interval_usd[0] > LEAST]
    saving = [one for one in saving if _least_in_whole_instances(found, one) > LEAST]
    if not saving:
        return _change_nothing(found, tried, keeping)
    best = min(saving, key=lambda one: one.monthly_usd)
    return _move(found, best, tried)


def best_candidate(found: Judged) -> Role | None:
    """The scenario whose sensitivity is of interest: the recommended one, or the nearest to it."""
    tried = [found.scenarios[role] for role in CANDIDATES if role in found.scenarios]
    if not tried:
        return None
    keeping = [one for one in tried if one.sla is not None and one.sla.holds]
    return min(keeping or tried, key=lambda one: one.monthly_usd).role


def _change_nothing(found: Judged, tried: list[Scenario], keeping: list[Scenario]) -> Decision:
    subject = found.subject
    reasons: list[str] = []
    missing: list[str] = []
    if not keeping and tried:
        best = max(tried, key=_margin)
        sla = known(best.sla, "the SLA")
        if sla.measure == "availability":
            reasons.append(
                f"No policy can be shown to keep the availability target of {sla.target:.4g}: the best is "
                f"{TITLES[best.role]} ({best.policy}) with {sla.value:.4f}, at least {sla.bound:.4f} at 95 % "
                "confidence."
            )
            missing.append("a longer market, or more pools (other zones of the region)")
        else:
            reasons.append(f"Every policy missed a deadline ({TITLES[best.role]}: {sla.value:.2%} of runs).")
    reasons += [_why_not(found, one) for one in keeping]
    cheaper = [one for one in tried if one not in keeping and one.saving_usd > LEAST]
    if keeping and cheaper:
        reasons += [
            f"{_title(one)} would save {one.saving_usd:,.2f} USD a month, but cannot be shown to keep the "
            "SLA."
            for one in cheaper
        ]
        missing.append("a longer market, or more pools (other zones of the region)")
    return Decision(
        action="change-nothing",
        role="as-billed",
        reasons=tuple(reasons) or ("Nothing was replayed.",),
        assumptions=subject.assumptions,
        missing_data=tuple(missing),
    )


def _least_in_whole_instances(found: Judged, one: Scenario) -> float:
    """Lower end of the saving where a plan holds whole instances for whole hours."""
    _, high = known(one.monthly_interval_usd, "the interval")
    fixed = found.subject.committed_monthly
    return found.subject.billed.monthly - fixed - (high - fixed) * found.subject.whole


def _why_not(found: Judged, one: Scenario) -> str:
    low, high = known(one.saving_interval_usd, "the interval")
    if low > LEAST:
        return (
            f"{_title(one)} keeps the SLA, but a plan holds whole instances for whole hours, and of these "
            f"{1 / found.subject.whole:.0%} were billed: that would cost more than it saves."
        )
    if one.saving_usd < -LEAST:
        return (
            f"{_title(one)} keeps the SLA, but costs {-one.saving_usd:,.2f} USD a month more than the bill."
        )
    if one.saving_usd < LEAST:
        return f"{_title(one)} keeps the SLA, but costs as much as the bill."
    return (
        f"{_title(one)} keeps the SLA, but its saving of {one.saving_usd:,.2f} USD a month is not above zero "
        f"with its whole interval ({low:,.2f} to {high:,.2f} USD)."
    )


def _margin(one: Scenario) -> float:
    if one.sla is None:
        return float("-inf")
    return (
        one.sla.bound - one.sla.target
        if one.sla.measure == "availability"
        else one.sla.target - one.sla.value
    )


def _move(found: Judged, best: Scenario, tried: list[Scenario]) -> Decision:
    subject = found.subject
    low, high = known(best.saving_interval_usd, "the interval")
    share = f" ({best.saving_share:.0%} of the bill)" if best.saving_share is not None else ""
    reasons = [
        f"{_title(best)} costs {best.monthly_usd:,.2f} USD a month instead of "
        f"{subject.billed.monthly:,.2f}: saves {best.saving_usd:,.2f}{share}, 90 % interval {low:,.2f} to "
        f"{high:,.2f}.",
        _sla_words(best),
    ]
    for one in tried:
        if one.role == best.role:
            continue
        if one.sla is not None and not one.sla.holds:
            reasons.append(f"{_title(one)} cannot be shown to keep the SLA.")
        elif one.monthly_usd > best.monthly_usd:
            reasons.append(f"{_title(one)} costs {one.monthly_usd - best.monthly_usd:,.2f} USD a month more.")
    on_demand = sum(hours.hours for hours in best.hours if hours.option == "on-demand")
    spot = sum(hours.hours for hours in best.hours if hours.option == "spot")
    if on_demand + spot > 0:
        reasons.append(f"{spot / (spot + on_demand):.0%} of what no commitment covers runs on spot.")
    if subject.commitment.covered_cost > 0:
        reasons.append(
            f"Committed usage of {subject.commitment.covered_cost:,.2f} USD a month stays where it is: moved "
            "to spot it would be paid for nothing."
            if subject.workload.kind == "service"
            else f"Its commitments cost {subject.commitment.covered_cost:,.2f} USD a month in any case, "
            "used or not; that is in all figures."
        )
    pools = sorted(
        (hours for hours in best.hours if hours.option == "spot" and hours.pool), key=lambda h: -h.hours
    )
    return Decision(
        action="move",
        role=best.role,
        policy=best.policy,
        pools=tuple(hours.pool for hours in pools if hours.pool),
        saving_usd=best.saving_usd,
        saving_interval_usd=best.saving_interval_usd,
        reasons=tuple(reasons),
        assumptions=subject.assumptions,
    )


def _sla_words(one: Scenario) -> str:
    sla = known(one.sla, "the SLA")
    if sla.measure == "availability":
        return (
            f"Availability {sla.value:.4f}, at least {sla.bound:.4f} at 95 % confidence; the target is "
            f"{sla.target:.4g}."
        )
    late = f" Of its cost, {one.extra_words}." if one.extra_words else ""
    return (
        "No run missed its deadline; with as many windows as there are, the chance of a miss is below "
        f"{sla.bound:.1%} at 95 % confidence, and the shield buys on-demand capacity in time.{late}"
    )


def _title(one: Scenario) -> str:
    return f"{TITLES[one.role].capitalize()} ({one.policy})"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
