"""Taking over what the journal has saved: a restart goes on exactly, a new plan keeps what was done before.

State is taken over workload by workload, whatever plan it was saved under. A job is the same one if it begins
at the same moment. A job of the plan before that still runs, while the new plan has its next run only, is
finished on its old terms first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.controller.earlier import completed, has_identity, refuse_incomplete
from optimizer.controller.fleets import Jobs, Services
from optimizer.controller.jobs import STATE as JOB_STATE
from optimizer.controller.jobs import TERMS, JobFleet
from optimizer.controller.journal import Journal
from optimizer.controller.observe import Tell
from optimizer.controller.services import STATE as SERVICE_STATE
from optimizer.controller.services import ServiceFleet
from policies.protocol import Memory
from simulator.deadline import FIRST_SPOT, IDLE
from simulator.deadline.kernel import EPSILON_SECONDS

Arrays = Mapping[str, NDArray[Any]]
Saved = tuple[Arrays, int]
"""Saved arrays and the row of a workload in them."""
PER_POOL = ("asked", "granted")
"""State of services with a column per pool."""


def identity_of(fleet: JobFleet | ServiceFleet) -> dict[str, NDArray[Any]]:
    """Which workloads a fleet's rows are, and what their columns and memory mean; the same at every tick."""
    layouts = [_layout(fleet, row) for row in range(fleet.size)]
    place = {layout: k for k, layout in enumerate(dict.fromkeys(layouts))}
    return {
        "names": np.array([name.encode() for name in fleet.names]),
        "layouts": np.array([layout.encode() for layout in place]),
        "layout": np.array([place[layout] for layout in layouts], np.int32),
    }


def state_of(fleet: JobFleet | ServiceFleet, identity: Arrays) -> dict[str, NDArray[Any]]:
    """Everything that a restart or another plan needs of a fleet: what it is, its state, its memory."""
    memory = {f"memory.{name}": np.asarray(array) for name, array in fleet.memory.items()}
    return {**identity, **fleet.state(), **memory}


def take_over(journal: Journal, jobs: Jobs, services: Services, scope: str, tell: Tell) -> None:
    """Continue from the latest state that was saved of each workload.

    Args:
        journal: Where it was saved.
        jobs: New fleets, changed in place.
        services: The same.
        scope: State whose key begins otherwise is another mode's.
        tell: Takes events: what was brought into the shape of this release, and what did not fit.

    Raises:
        InputError: Saved state is damaged, or of a release that did not save enough of what runs.
    """
    fleets: list[JobFleet | ServiceFleet] = [fleet for fleet, _ in jobs]
    fleets += [service for service, _ in services]
    saved = _saved(journal, scope, {scope + fleet.key: fleet for fleet in fleets}, tell)
    for fleet, policy in jobs:
        found = _rows(fleet, _latest(saved, f"{scope}deadline:"))
        same = {row: one for row, one in found.items() if _job(fleet, row, one)}
        _remember(fleet, same, fleet.fresh_memory(policy), tell)
    for service, service_policy in services:
        found = _rows(service, _latest(saved, f"{scope}service:"))
        same = {row: one for row, one in found.items() if _service(service, row, one)}
        _remember(service, same, service_policy.reset(service.size, service.pools_each), tell)


def _rows(fleet: JobFleet | ServiceFleet, latest: Mapping[str, Saved]) -> dict[int, Saved]:
    return {row: latest[name] for row, name in enumerate(fleet.names) if name in latest}


def _saved(
    journal: Journal, scope: str, fleets: Mapping[str, JobFleet | ServiceFleet], tell: Tell
) -> dict[str, Arrays]:
    """All state of a scope by key, that of earlier releases in the shape of this one."""
    found: dict[str, Arrays] = {}
    for kind in ("deadline:", "service:"):
        for key in journal.state_keys(scope + kind):
            found[key] = journal.load_state(key) or {}
    earlier = [key for key, arrays in found.items() if not has_identity(arrays)]
    if earlier:
        latest = max(float(np.nan_to_num(arrays["at"], nan=0.0).max()) for arrays in found.values())
        for key in earlier:
            fleet = fleets.get(key)
            full = completed(
                found.pop(key), fleet, {} if fleet is None else identity_of(fleet), latest, journal.store.name
            )
            if full is not None:
                found[key] = full
                tell("info", "earlier-release", f"{key} goes on from what an earlier release saved")
    for key, arrays in found.items():
        refuse_incomplete(arrays, key, journal.store.name)
    return found


def _latest(saved: Mapping[str, Arrays], prefix: str) -> dict[str, Saved]:
    """The state of each workload that is from the last look at it."""
    found: dict[str, Saved] = {}
    for key, arrays in saved.items():
        if not key.startswith(prefix):
            continue
        at = np.nan_to_num(arrays["at"], nan=-np.inf)
        for row, encoded in enumerate(arrays["names"].tolist()):
            name = encoded.decode()
            known = found.get(name)
            if known is None or at[row] > np.nan_to_num(known[0]["at"][known[1]], nan=-np.inf):
                found[name] = (arrays, row)
    return found


def _job(fleet: JobFleet, row: int, saved: Saved) -> bool:
    """Take over a job; whether its policy's memory is of use too."""
    arrays, k = saved
    again = arrays["begins"][k] != fleet.begins[row]
    running = np.isfinite(arrays["at"][k]) and not arrays["done"][k]
    held = arrays["placement"][k] != IDLE
    if again and not (
        running and arrays["begins"][k] < fleet.begins[row] and (held or not arrays["missed"][k])
    ):
        return False
    same_layout = _saved_layout(saved) == _layout(fleet, row)
    total, deadline = fleet.work_total[row], fleet.deadline[row]
    for name in JOB_STATE:
        getattr(fleet, name)[row] = arrays[name][k]
    if again:
        for name in TERMS:
            getattr(fleet, name)[row] = arrays[name][k]
        fleet.earlier[row] = True
    else:
        fleet.earlier[row] = False
        if total != arrays["work_total"][k]:
            fleet.work_left[row] = max(total - (arrays["work_total"][k] - arrays["work_left"][k]), 0.0)
            fleet.done[row] = fleet.work_left[row] <= EPSILON_SECONDS
        if deadline > arrays["deadline"][k]:
            fleet.missed[row] = False
    if not same_layout and fleet.placement[row] >= FIRST_SPOT:
        _move_column(fleet, row, _saved_layout(saved))
    if "fee" in arrays:
        fleet.fee[row] = arrays["fee"][k]
    if "late" in arrays:
        fleet.late[row] = arrays["late"][k]
    if fleet.ground is not None:
        region = bytes(arrays["data_region"][k]) if "data_region" in arrays else None
        fleet.ground.restore(row, region, int(fleet.placement[row]), float(fleet.pending[row]))
        fleet.settle()
    return same_layout


def _move_column(fleet: JobFleet, row: int, layout: str) -> None:
    """Find the pool that a job runs in among those of the new plan; in none, it counts as interrupted."""
    pool = _pools_of(layout)[int(fleet.placement[row]) - FIRST_SPOT]
    column = fleet.column[row].get(pool)
    if column is not None:
        fleet.placement[row] = FIRST_SPOT + column
        return
    fleet.work_left[row] += fleet.unsaved[row]
    fleet.placement[row], fleet.rate[row] = IDLE, 0.0
    fleet.unsaved[row], fleet.pending[row] = 0.0, 0.0


def _service(fleet: ServiceFleet, row: int, saved: Saved) -> bool:
    """Take over a service; whether its policy's memory is of use too."""
    arrays, k = saved
    same_layout = _saved_layout(saved) == _layout(fleet, row)
    for name in SERVICE_STATE:
        if same_layout or name not in (*PER_POOL, "ticks"):
            getattr(fleet, name)[row] = arrays[name][k]
    return same_layout


def _remember(fleet: JobFleet | ServiceFleet, same: Mapping[int, Saved], fresh: Memory, tell: Tell) -> None:
    """Put the saved memories of some rows into a fresh memory, where they fit."""
    kept = {row: saved for row, saved in same.items() if any(name.startswith("memory.") for name in saved[0])}
    if not kept:
        return
    memory: Memory = {name: np.array(array) for name, array in fresh.items()}
    forgotten = 0
    for row, (arrays, k) in kept.items():
        if all(_fits(arrays.get(f"memory.{name}"), array) for name, array in memory.items()):
            for name, array in memory.items():
                array[row] = arrays[f"memory.{name}"][k]
        else:
            forgotten += 1
    if forgotten:
        tell(
            "warning",
            "memory",
            f"{fleet.key}: what policy {fleet.workloads[0].policy} remembered of {forgotten} workloads has "
            "another shape in this release; it begins anew",
        )
    fleet.memory = memory


def _fits(saved: NDArray[Any] | None, fresh: NDArray[Any]) -> bool:
    return saved is not None and saved.dtype == fresh.dtype and saved.shape[1:] == fresh.shape[1:]


def _saved_layout(saved: Saved) -> str:
    arrays, row = saved
    return bytes(arrays["layouts"][arrays["layout"][row]]).decode()


def _layout(fleet: JobFleet | ServiceFleet, row: int) -> str:
    """Policy and pools: what a row's columns and its memory mean."""
    one = fleet.workloads[row]
    return "\n".join((one.policy, *(pool.name for pool in one.pools)))


def _pools_of(layout: str) -> Sequence[str]:
    return layout.split("\n")[1:]
