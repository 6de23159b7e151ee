"""Splits the cost of Kubernetes nodes by what pods asked for or used, from OpenCost's allocation data."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from optimizer.billing.allocation.rules import Kubernetes
from optimizer.billing.allocation.shares import Share, Split, moment, read_csv
from simulator.errors import InputError

GIB = 2.0**30
_ACCEPTED = "what OpenCost's allocation API returns"
_CSV_COLUMNS = (
    "namespace",
    "pod",
    "node",
    "start",
    "end",
    "minutes",
    "cpuCoreRequestAverage",
    "cpuCoreUsageAverage",
    "ramByteRequestAverage",
    "ramByteUsageAverage",
)


@dataclass(frozen=True, slots=True)
class Pod:
    """What one pod (or container) asked for and used in one window.

    Attributes:
        node: Node it ran on.
        window: Begin and end, naive UTC.
        names: `namespace`, `pod`, `controller`.
        labels: Its labels.
        core_hours: max(request, usage) of CPU over the time it ran.
        gib_hours: The same of memory.
    """

    node: str
    window: tuple[datetime, datetime]
    names: dict[str, str]
    labels: dict[str, str]
    core_hours: float
    gib_hours: float

    def target(self, by: str) -> str:
        """Return the value of the dimension that cost goes to."""
        if by.startswith("label:"):
            return self.labels.get(by[6:]) or f"(no {by[6:]})"
        return self.names.get(by) or f"(no {by})"


@dataclass(slots=True)
class _Used:
    core_hours: float = 0.0
    gib_hours: float = 0.0


@dataclass(frozen=True, slots=True)
class Node:
    """What a node offers; `resource` is its id in the ledger."""

    resource: str
    cores: float
    memory_gib: float


@dataclass(slots=True)
class _Window:
    targets: dict[str, _Used] = field(default_factory=lambda: defaultdict(_Used))


def kubernetes_splits(rule: Kubernetes, folder: Path) -> list[Split]:
    """Return a split per node and window, with an idle line.

    A node's cost is divided into a CPU and a memory part by its size and the weights of the rule. Each part
    goes to pods by max(request, usage), over what the node offers in the window, or over what pods took if
    that is more. The rest is idle and goes to the bucket of the rule.

    Raises:
        InputError: A file is wrong or empty, it has no nodes, or one that is not in the list of nodes.
    """
    nodes = read_nodes(folder / rule.nodes)
    source = folder / rule.allocation
    windows: dict[tuple[str, datetime, datetime], _Window] = defaultdict(_Window)
    pods = read_allocation(source)
    if not pods:
        raise InputError(f"{source}: no allocation in it; accepted: {_ACCEPTED}, for hours with pods")
    for pod in pods:
        if not pod.node:
            raise InputError(
                f"{source}: {pod.names['namespace'] or 'an allocation'} names no node, so it is not known"
                f" whose cost it shares; is it per namespace? accepted: {_ACCEPTED} per pod and node"
                " (aggregate=node,namespace,pod)"
            )
        if pod.node not in nodes:
            raise InputError(f"{source}: node {pod.node} is not in {folder / rule.nodes}; add its size there")
        used = windows[pod.node, *pod.window].targets[pod.target(rule.by)]
        used.core_hours += pod.core_hours
        used.gib_hours += pod.gib_hours
    splits = []
    for (name, start, end), window in windows.items():
        hours = (end - start).total_seconds() / 3600
        shares = _shares(rule, nodes[name], hours, window.targets)
        splits.append(Split(shares, start, end, nodes[name].resource))
    return splits


def _shares(rule: Kubernetes, node: Node, hours: float, targets: dict[str, _Used]) -> tuple[Share, ...]:
    cores = max(node.cores * hours, math.fsum(u.core_hours for u in targets.values()))
    memory = max(node.memory_gib * hours, math.fsum(u.gib_hours for u in targets.values()))
    core_part = node.cores * rule.core_hour_weight
    memory_part = node.memory_gib * rule.gib_hour_weight
    core_weight = core_part / (core_part + memory_part)
    shares = []
    for target, used in sorted(targets.items()):
        ratio = core_weight * used.core_hours / cores + (1 - core_weight) * used.gib_hours / memory
        if ratio > 0:
            tags = {rule.by.removeprefix("label:"): target}
            shares.append(Share(target, ratio, tags, "core-hours", used.core_hours))
    idle = 1.0 - math.fsum(share.ratio for share in shares)
    if idle > 1e-12:
        tags = {"Owner": rule.idle.team, "waste": "idle-node"}
        shares.append(Share(rule.idle.bucket, idle, tags, "core-hours", 0.0))
    return tuple(shares)


def read_nodes(path: Path) -> dict[str, Node]:
    """Return the nodes of a CSV with node, provider_id, cores, memory_gib."""
    found = {}
    for number, row in enumerate(read_csv(path, ("node", "provider_id", "cores", "memory_gib")), start=2):
        try:
            cores, memory = float(row["cores"]), float(row["memory_gib"])
        except ValueError as error:
            raise InputError(f"{path}: line {number}: {error}") from error
        if not (cores > 0 and memory > 0 and math.isfinite(cores + memory)):
            raise InputError(f"{path}: line {number}: {cores:g} cores, {memory:g} GiB; accepted: more than 0")
        # aws:///us-east-1a/i-0abc → i-0abc, which is what the ledger calls it.
        found[row["node"]] = Node(row["provider_id"].rsplit("/", 1)[-1], cores, memory)
    return found


def read_allocation(path: Path) -> list[Pod]:
    """Return the pods of OpenCost's allocation data, JSON or CSV; its own idle lines are left out."""
    if path.suffix.lower() == ".csv":
        return [
            _pod(path, f"line {number}", _from_csv(row))
            for number, row in enumerate(read_csv(path, _CSV_COLUMNS), start=2)
        ]
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path}: {error}; accepted: {_ACCEPTED}") from error
    windows = data.get("data") if isinstance(data, dict) else None
    if not isinstance(windows, list):
        raise InputError(f"{path}: no list data; accepted: {_ACCEPTED}")
    pods = []
    for window in windows:
        if window is not None and not isinstance(window, dict):
            raise InputError(f"{path}: data has {window!r:.40}; accepted: {_ACCEPTED}")
        for name, item in (window or {}).items():
            if not name.startswith("__"):
                pods.append(_pod(path, name, item))
    return pods


def _from_csv(row: dict[str, str]) -> dict[str, Any]:
    labels = {k.removeprefix("label:"): v for k, v in row.items() if k.startswith("label:") and v}
    names = {k: row.get(k) for k in ("namespace", "pod", "node", "controller")}
    return row | {
        "properties": names | {"labels": labels},
        "window": {"start": row["start"], "end": row["end"]},
    }


def _pod(path: Path, where: str, item: Any) -> Pod:
    try:
        properties = item["properties"]
        window = item.get("window") or {"start": item["start"], "end": item["end"]}
        start, end = moment(window["start"]), moment(window["end"])
        hours = float(item["minutes"]) / 60
        cores = max(float(item[f"cpuCore{kind}Average"]) for kind in ("Request", "Usage"))
        memory = max(float(item[f"ramByte{kind}Average"]) for kind in ("Request", "Usage"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: {where}: {error!r}; accepted: OpenCost allocations with their averages"
        ) from error
    if start is None or end is None or start >= end or not math.isfinite(cores + memory + hours):
        raise InputError(f"{path}: {where}: accepted: a window that begins before it ends, finite amounts")
    if min(cores, memory, hours) < 0:
        raise InputError(f"{path}: {where}: a negative amount; accepted: 0 or more")
    return Pod(
        node=str(properties.get("node") or ""),
        window=(start, end),
        names={k: str(properties.get(k) or "") for k in ("namespace", "pod", "controller")},
        labels={str(k): str(v) for k, v in (properties.get("labels") or {}).items()},
        core_hours=cores * hours,
        gib_hours=memory / GIB * hours,
    )
