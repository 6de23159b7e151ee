"""The audit: who did what, why, and at what cost, read from the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optimizer.controller.journal.store import Store


def read_audit(store: Store, since: float, workload: str | None, limit: int) -> list[dict[str, Any]]:
    """What was done, decided otherwise by a guard, or happened: newest first.

    `expected_usd_per_hour` is the change of the cost rate that an action was decided for,
    `actual_usd_per_hour` that which came of it, None while nobody knows.

    Args:
        store: The journal's.
        since: Seconds since 1970.
        workload: Only this one; events have none.
        limit: Rows at most.
    """
    values = (since, workload, workload, limit)
    found: list[dict[str, Any]] = []
    for row in store.read(
        "SELECT at, tick, mode, workload, action, state, request, result, why, guards, usd_per_hour, "
        "token, settled_at FROM intents WHERE at >= ? AND (CAST(? AS TEXT) IS NULL OR workload = ?) "
        "ORDER BY id DESC LIMIT ?",
        values,
    ):
        names = (
            "at",
            "tick",
            "mode",
            "workload",
            "action",
            "state",
            "request",
            "result",
            "why",
            "guards",
        )
        one = dict(zip((*names, "expected_usd_per_hour", "token", "settled_at"), row, strict=True))
        one["request"], one["guards"] = json.loads(one["request"]), json.loads(one["guards"])
        one["actual_usd_per_hour"] = _actual(one)
        found.append({"entry": "action", **one})
    for row in store.read(
        "SELECT at, tick, guard, workload, wanted, got FROM trips WHERE at >= ? "
        "AND (CAST(? AS TEXT) IS NULL OR workload = ?) ORDER BY rowid DESC LIMIT ?",
        values,
    ):
        names6 = ("at", "tick", "guard", "workload", "wanted", "got")
        found.append({"entry": "guard", **dict(zip(names6, row, strict=True))})
    if workload is None:
        for row in store.read(
            "SELECT at, level, kind, message FROM events WHERE at >= ? ORDER BY rowid DESC LIMIT ?",
            (since, limit),
        ):
            found.append(
                {"entry": "event", **dict(zip(("at", "level", "kind", "message"), row, strict=True))}
            )
    found.sort(key=lambda one: float(one["at"]), reverse=True)
    return found[:limit]


def _actual(action: Mapping[str, Any]) -> float | None:
    """What an action changed the cost rate by: its part of what was expected that came about."""
    expected = float(action["expected_usd_per_hour"])
    if action["state"] in ("pending", "unknown"):
        return None
    if action["state"] != "done":
        return 0.0
    if action["action"] == "launch":
        granted = len([one for one in str(action["result"]).split(",") if one])
        return expected * granted / int(action["request"]["count"])
    return expected
