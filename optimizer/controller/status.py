"""What the outside sees of a controller: one snapshot, and the same as Prometheus text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optimizer.controller.jobs import JobFleet
from optimizer.controller.loop import Controller
from optimizer.controller.moves import rate_of
from optimizer.controller.report import Report
from simulator.deadline import IDLE, ON_DEMAND

JOB_STATES = ("waiting", "active", "late", "done", "done, late")
MOVES_SHOWN = 20
"""Workloads whose last move a snapshot shows."""
SHOWN = 500
"""Workloads in a snapshot; the numbers cover all of them."""


@dataclass
class Counts:
    """What adds up over the life of the process."""

    ticks: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    trips: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    moves: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, report: Report, controller: Controller) -> None:
        """Count a tick."""
        self.ticks += 1
        self.decisions["job"] += sum(int(fleet.active.sum()) for fleet, _ in controller.jobs)
        self.decisions["service"] += sum(fleet.size for fleet, _ in controller.services)
        self.actions["launch", "done"] += report.outcome.launched
        self.actions["terminate", "done"] += report.outcome.terminated
        self.actions["launch", "no-capacity"] += len(report.outcome.without_capacity)
        self.actions["call", "refused"] += report.outcome.failed
        self.actions["call", "unknown"] += len(report.outcome.unknown)
        self.trips.update(trip.guard for trip in report.trips)
        self.lost += report.lost
        for workload, what, why in report.moves:
            known = self.moves.pop(workload, None)
            # a wish that a dry run has at every tick is as old as it was new
            same = known is not None and known["what"] == what
            at = known["at"] if same and known is not None else report.now
            self.moves[workload] = {"at": at, "workload": workload, "what": what, "why": why}
        for workload in list(self.moves)[: -MOVES_SHOWN or None]:
            del self.moves[workload]


def snapshot(controller: Controller, report: Report, counts: Counts) -> dict[str, Any]:
    """Everything that `status`, the page and the metrics show, after a tick."""
    committed = {
        name: int(fleet.committed[row]) for fleet in controller.fleets for name, row in fleet.row.items()
    }
    rate = rate_of(controller.inventory.all_live(), controller.pools, controller.price, committed)
    workloads: list[dict[str, Any]] = []
    on_demand, headroom = 0.0, np.inf
    jobs: Counter[str] = Counter()
    for fleet in controller.fleets:
        finish = fleet.expected_finish(report.now) if isinstance(fleet, JobFleet) else np.zeros(0)
        for row, name in enumerate(fleet.names):
            if isinstance(fleet, JobFleet):
                one, reference = _job(fleet, row, report.now, finish[row])
                jobs[one["state"]] += 1
                if one["state"] in ("active", "late"):
                    headroom = min(headroom, one["slack_hours"])
            else:
                held = int(fleet.granted[row].sum())
                reference = float(
                    max(fleet.demand[row] - fleet.committed[row], 0) * fleet.on_demand_price[row]
                )
                one = {
                    "kind": "service",
                    "state": "short" if fleet.ready[row] < fleet.demand[row] else "ready",
                    "placement": f"{held} of {int(fleet.asked[row].sum())}, "
                    f"{int(fleet.granted[row, -1])} on-demand",
                    "availability": round(float(fleet.availability[row]), 6),
                    "target": float(fleet.target[row]),
                    "cost_usd": round(float(fleet.cost[row]), 4),
                }
            on_demand += reference
            if len(workloads) < SHOWN:
                workloads.append({"name": name, **one})
    return {
        "name": controller.settings.name,
        "mode": controller.mode,
        "state": report.held or ("paused" if controller.paused else "running"),
        "paused": controller.paused,
        "killed": controller.killed,
        "tick": report.tick,
        "at": report.now,
        "ticks": counts.ticks,
        "rate_usd_per_hour": round(rate, 6),
        "on_demand_usd_per_hour": round(on_demand, 6),
        "cost_usd": round(controller.cost, 6),
        "lateness_usd": round(controller.lateness, 6),
        "saved_usd": round(controller.on_demand_cost - controller.cost - controller.lateness, 6),
        "present_usd": round(controller.present_cost, 6),
        "assumed_saving_usd": None if controller.belief is None else round(controller.belief.usd, 6),
        "assumed_pools": [] if controller.belief is None else sorted(controller.belief.saved),
        "rebalance_precision": round(controller.rebalance.precision, 4),
        "rebalance_recall": round(controller.rebalance.recall, 4),
        "rebalance_recommended": controller.rebalance.counts["recommended"],
        "rebalance": controller.rebalance.published(),
        "canary": controller.canary.state if controller.canary is not None else None,
        "least_slack_hours": None if np.isinf(headroom) else round(float(headroom), 4),
        "unplanned": len(controller.unplanned),
        "instances": sum(1 for _ in controller.inventory.all_live()),
        "policy_latency_seconds": round(controller.policy_latency_seconds, 6),
        "decide_seconds": round(report.seconds, 6),
        "price_age_seconds": round(controller.price_age_seconds, 1),
        "guards": dict(counts.trips),
        "last_moves": list(counts.moves.values())[::-1],
        "last_trips": [
            {"guard": t.guard, "workload": t.workload, "wanted": t.wanted, "got": t.got}
            for t in report.trips[:20]
        ],
        "jobs": dict(jobs),
        "workloads": workloads,
        "workloads_total": sum(fleet.size for fleet in controller.fleets),
        "plan_expires": controller.plan.expires.timestamp(),
    }


def _job(fleet: JobFleet, row: int, now: float, finish: float) -> tuple[dict[str, Any], float]:
    placement = int(fleet.placement[row])
    names = ["idle", "on-demand", *(pool.name for pool in fleet.workloads[row].pools)]
    begun = bool(np.isfinite(fleet.at[row]))
    state = "waiting" if not begun else "active"
    if fleet.done[row]:
        state = "done, late" if fleet.missed[row] else "done"
    elif fleet.missed[row]:
        state = "late"
    where = names[placement] if placement in (IDLE, ON_DEMAND) else f"spot {names[placement]}"
    one = {
        "kind": "deadline",
        "state": state,
        "placement": "" if fleet.done[row] else where,
        "work_done_hours": round(float(fleet.work_total[row] - fleet.work_left[row]) / 3600.0, 4),
        "work_left_hours": round(float(fleet.work_left[row]) / 3600.0, 4),
        "slack_hours": round(float(fleet.slack(now)[row]) / 3600.0, 4),
        "cost_usd": round(float(fleet.cost[row]), 4),
        "deadline": float(fleet.deadline[row]),
        "finished_at" if fleet.done[row] else "expected_finish": round(float(finish), 1),
    }
    if fleet.lateness_price[row] > 0:
        one["due"] = float(fleet.due[row])
        one["lateness_usd"] = round(float(fleet.lateness[row]), 4)
        one["expected_lateness_usd"] = round(float(fleet.expected_lateness(now)[row]), 4)
    if fleet.ground is not None and fleet.ground.region(row):
        one["data_region"] = fleet.ground.region(row)
    running = begun and not fleet.done[row]
    return one, float(fleet.on_demand_price[row] * fleet.paid[row]) if running else 0.0


def prometheus(status: dict[str, Any], counts: Counts) -> str:
    """The snapshot in the Prometheus text format, version 0.0.4."""
    lines: list[str] = []

    def metric(name: str, kind: str, help_text: str, samples: Iterable[tuple[str, float]]) -> None:
        lines.append(f"# HELP spotwise_{name} {help_text}")
        lines.append(f"# TYPE spotwise_{name} {kind}")
        for labels, value in samples:
            lines.append(f"spotwise_{name}{labels} {value:.17g}")

    metric("ticks_total", "counter", "Ticks run by this process.", [("", counts.ticks)])
    metric(
        "decisions_total",
        "counter",
        "Decisions by kind of workload.",
        [(f'{{kind="{kind}"}}', n) for kind, n in sorted(counts.decisions.items())],
    )
    metric(
        "actions_total",
        "counter",
        "Instances and calls by action and outcome.",
        [(f'{{action="{a}",outcome="{o}"}}', n) for (a, o), n in sorted(counts.actions.items())],
    )
    metric(
        "events_total",
        "counter",
        "Events above info, by kind.",
        [(f'{{kind="{kind}"}}', n) for kind, n in sorted(counts.errors.items())],
    )
    metric(
        "guard_trips_total",
        "counter",
        "Decisions changed, by guard.",
        [(f'{{guard="{name}"}}', n) for name, n in sorted(counts.trips.items())],
    )
    metric("instances_lost_total", "counter", "Instances that ended by themselves.", [("", counts.lost)])
    for name, help_text in (
        ("rate_usd_per_hour", "Cost rate of everything held."),
        ("on_demand_usd_per_hour", "Cost rate of the same on on-demand capacity."),
        ("cost_usd", "Cost so far."),
        ("lateness_usd", "Cost so far of jobs that are late."),
        ("saved_usd", "Savings so far against on-demand capacity, cost of lateness taken off."),
        ("present_usd", "Cost so far of the placements that the plan found."),
        ("assumed_saving_usd", "Of a shadow's savings: in pools only believed to have capacity."),
        ("instances", "Instances held."),
        ("unplanned", "Instances with this controller's tag whose workload the plan does not have."),
        ("plan_expires", "When the plan expires, seconds since 1970."),
        ("policy_latency_seconds", "Time of the last policy call."),
        ("decide_seconds", "Time from observing to guarded moves."),
        ("price_age_seconds", "Age of the oldest price in use."),
        ("least_slack_hours", "Slack of the tightest running job."),
    ):
        if status[name] is not None:
            metric(name, "gauge", help_text, [("", float(status[name]))])
    metric(
        "paused", "gauge", "1 while paused or killed.", [("", float(status["paused"] or status["killed"]))]
    )
    for part, help_text in (
        ("precision", "Share of rebalance recommendations that an interruption followed in an hour."),
        ("recall", "Share of interruptions that a rebalance recommendation preceded."),
        ("recommended", "Rebalance recommendations whose hour is over."),
    ):
        found = status["rebalance"].items()
        metric(f"rebalance_{part}", "gauge", help_text, [(f'{{kind="{k}"}}', one[part]) for k, one in found])
    metric("held", "gauge", "1 while nothing is done.", [("", float(status["state"] != "running"))])
    metric(
        "jobs",
        "gauge",
        "Deadline jobs by state.",
        [(f'{{state="{state}"}}', status["jobs"].get(state, 0)) for state in JOB_STATES],
    )
    running = [one for one in status["workloads"] if one.get("state") in ("active", "late")]
    for name, help_text, key in (
        ("job_work_done_hours", "Productive work done, by running job.", "work_done_hours"),
        ("job_work_left_hours", "Productive work left, by running job.", "work_left_hours"),
        ("job_slack_hours", "Slack left, by running job.", "slack_hours"),
        (
            "job_expected_finish_timestamp_seconds",
            "When a running job is done at its pace so far.",
            "expected_finish",
        ),
    ):
        samples = [(f'{{workload="{_escaped(one["name"])}"}}', one[key]) for one in running]
        metric(name, "gauge", help_text, samples)
    services = [one for one in status["workloads"] if one["kind"] == "service"]
    metric(
        "availability_headroom",
        "gauge",
        "Availability so far minus target, by service.",
        [
            (f'{{workload="{_escaped(one["name"])}"}}', one["availability"] - one["target"])
            for one in services
        ],
    )
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
