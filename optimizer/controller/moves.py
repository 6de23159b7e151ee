"""Moves: what must be launched and terminated so that a decision comes about."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np

from optimizer.controller.decide import Decision
from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import InstanceRow
from optimizer.controller.providers.protocol import Option
from optimizer.controller.services import ServiceFleet
from optimizer.plan import PlanPool
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND
from simulator.deadline.observation import IntArray


@dataclass(slots=True)
class Wish:
    """Instances to launch in one pool."""

    pool: PlanPool
    option: Option
    count: int
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class GroupStep:
    """What a move does to an Auto Scaling group.

    Attributes:
        region: Its region.
        group: Its name.
        desired: Desired capacity to set, the move's launches not included.
        base: On-demand base to set.
        present: Desired capacity that was seen; it is only set where it changes.
        demand: Of a fleet, what its owner asks for, from which `desired` may differ for a while; None: it is
            `desired` itself.
    """

    region: str
    group: str
    desired: int
    base: int
    present: int
    demand: int | None = None


@dataclass(slots=True)
class Move:
    """One workload's change.

    Attributes:
        workload: Its name.
        key: Fleet that it belongs to.
        launches: What is launched first.
        terminate: What is terminated, once all launches succeeded.
        gang: All of a launch or nothing, and nothing of the move without all of it.
        urgent: It serves a deadline or makes up for a loss.
        voluntary: It replaces something that still runs.
        why: Reason in words.
        guards: Guards that changed it.
        saves: USD per hour that the terminations save.
        stragglers: Part of a gang that the launches are to complete; it goes if they do not come about.
        strands: USD per hour of the stragglers.
        beside: It only ends instances that do not count as the service's.
        step: How an Auto Scaling group is to do it; None for instances of the controller's own.
    """

    workload: str
    key: str
    launches: list[Wish]
    terminate: list[InstanceRow]
    gang: bool
    urgent: bool
    voluntary: bool
    why: str
    guards: list[str] = field(default_factory=list)
    saves: float = 0.0
    stragglers: list[InstanceRow] = field(default_factory=list)
    strands: float = 0.0
    beside: bool = False
    step: GroupStep | None = None

    @property
    def launched(self) -> int:
        """Instances that it launches."""
        return sum(wish.count for wish in self.launches)

    @property
    def net_usd_per_hour(self) -> float:
        """Change of the cost rate when it is done."""
        return sum(wish.count * wish.usd_per_hour for wish in self.launches) - self.saves

    def __str__(self) -> str:
        parts = [f"launch {w.count} {w.option} {w.pool.name}" for w in self.launches]
        parts += [f"terminate {row.id}" for row in self.terminate]
        if self.step is not None:
            parts.append(f"shape {self.step.group} to {self.step.desired} with {self.step.base} on-demand")
        return "; ".join(parts)

    def __bool__(self) -> bool:
        return bool(self.launches or self.terminate or self.step is not None)


def job_moves(
    fleet: JobFleet,
    decision: Decision,
    inventory: Inventory,
    held: IntArray,
    price: Mapping[str, float],
    policy: str,
    rows: IntArray | None = None,
) -> list[Move]:
    """Moves of deadline jobs; a job that is where it should be has none.

    Args:
        fleet: The jobs.
        decision: Where they should be.
        inventory: What they hold.
        held: (N, P + 1) the same in numbers.
        price: Spot price by pool.
        policy: Name of the policy, for the reasons.
        rows: Only these; by default all.
    """
    wanted = np.where(fleet.active, decision.wanted, IDLE)
    column = np.where(wanted == ON_DEMAND, fleet.pools_each, np.maximum(wanted - FIRST_SPOT, 0))
    count = held[np.arange(fleet.size), column]
    total = held.sum(axis=1) + _astray(fleet, inventory)
    need = np.where(wanted == IDLE, 0, np.maximum(fleet.nodes - count, 0))
    extra = total - np.where(wanted == IDLE, 0, np.minimum(count, fleet.nodes))
    moving = np.flatnonzero((need > 0) | (extra > 0))
    if rows is not None:
        moving = np.intersect1d(moving, rows)
    moves = []
    for row in moving.tolist():
        target = int(wanted[row])
        keep, launches = _towards(fleet, row, target, inventory, price)
        kept = {one.id for one in keep}
        terminate = [one for one in inventory.live(fleet.names[row]) if one.id not in kept]
        active = bool(fleet.active[row])
        move = Move(
            fleet.names[row],
            fleet.key,
            launches,
            terminate,
            gang=True,
            urgent=bool(decision.urgent[row]) or not active,
            voluntary=active and bool(terminate) and int(fleet.placement[row]) != IDLE,
            why=_job_reason(fleet, decision, row, target, policy),
            guards=_guards(decision, row),
            saves=rate_of(terminate, fleet.pools, price),
        )
        if active and fleet.placement[row] == IDLE and launches:
            moves += _without_the_useless(move, keep, rate_of(keep, fleet.pools, price))
        else:
            moves.append(move)
    return moves


def _astray(fleet: JobFleet, inventory: Inventory) -> IntArray:
    """(N,) instances that `JobFleet.held` does not count.

    They are in a pool that the plan does not have any more, or on-demand instances of a gang in another pool,
    or of a job whose checkpoint is elsewhere.
    """
    astray = np.zeros(fleet.size, np.int64)
    for one in inventory.all_live():
        row = fleet.row.get(one.workload)
        if row is None:
            continue
        if one.option == "spot":
            astray[row] += one.pool not in fleet.column[row]
        else:
            astray[row] += not fleet.on_demand_fits(row, one.pool)
    for row in np.flatnonzero(fleet.nodes > 1).tolist():
        counts = fleet.on_demand_pools(row, inventory)
        if len(counts) > 1:
            astray[row] += counts.total() - max(counts.values())
    return astray


def _towards(
    fleet: JobFleet, row: int, target: int, inventory: Inventory, price: Mapping[str, float]
) -> tuple[list[InstanceRow], list[Wish]]:
    """What a job keeps and launches to be where it is wanted; all of a gang in one pool."""
    if target == IDLE:
        return [], []
    workload, nodes, spot = fleet.workloads[row], int(fleet.nodes[row]), target >= FIRST_SPOT
    pool = workload.pools[target - FIRST_SPOT if spot else int(fleet.cheapest[row])]
    option: Option = "spot" if spot else "on-demand"
    each = price.get(pool.name, pool.on_demand_price) if spot else pool.on_demand_price
    anywhere = not spot and nodes == 1
    if not spot and nodes > 1:
        whole = [name for name, count in fleet.on_demand_pools(row, inventory).items() if count >= nodes]
        pool = next((one for one in workload.pools if one.name in whole), pool)
    fits = [
        one
        for one in inventory.live(workload.name)
        if one.option == option
        and (one.pool == pool.name or (anywhere and fleet.on_demand_fits(row, one.pool)))
    ]
    missing = nodes - len(fits)
    return fits[:nodes], [Wish(pool, option, missing, each)] if missing > 0 else []


def _without_the_useless(move: Move, kept: list[InstanceRow], strands: float) -> list[Move]:
    """A job that runs nowhere: what it still holds is part of a gang, which does no work and is billed.

    What is not part of where it goes is terminated whether the launches succeed or not; what is, if they
    do not.
    """
    useless = replace(
        move,
        launches=[],
        guards=list(move.guards),
        voluntary=False,
        why="part of a gang does no work",
    )
    move.terminate, move.saves, move.voluntary = [], 0.0, False
    move.stragglers, move.strands = kept, strands
    return [useless, move] if useless else [move]


def service_moves(
    fleet: ServiceFleet,
    decision: Decision,
    inventory: Inventory,
    held: IntArray,
    price: Mapping[str, float],
    policy: str,
    others: AbstractSet[str] = frozenset(),
    leaving: Collection[str] = (),
) -> list[Move]:
    """Moves of services: launches where fewer are held than asked, the youngest go where more are.

    `others` are services that somebody else's group holds; instances that are `leaving` go first.
    """
    difference = decision.wanted - held
    moves = []
    for row in np.flatnonzero(difference.any(axis=1)).tolist():
        workload = fleet.workloads[row]
        if workload.name in others:
            continue
        live = inventory.live(workload.name)
        launches, terminate = [], []
        for column in range(fleet.pools_each + 1):
            change = int(difference[row, column])
            spot = column < fleet.pools_each
            pool = workload.pools[column if spot else int(fleet.cheapest[row])]
            if change > 0:
                each = price.get(pool.name, pool.on_demand_price) if spot else pool.on_demand_price
                launches.append(Wish(pool, "spot" if spot else "on-demand", change, each))
            elif change < 0:
                fits = [
                    one
                    for one in live
                    if (one.option == "spot" and one.pool == pool.name if spot else one.option == "on-demand")
                ]
                terminate += sorted(fits, key=lambda one: one.id in leaving)[change:]
        why = decision.why.get(row) or (
            f"{policy}: {int(decision.wanted[row].sum())} asked for a demand of {int(fleet.demand[row])}"
        )
        moves.append(
            Move(
                workload.name,
                fleet.key,
                launches,
                terminate,
                gang=False,
                urgent=bool(decision.urgent[row]),
                voluntary=bool(launches and terminate),
                why=why,
                guards=_guards(decision, row),
                saves=rate_of(terminate, fleet.pools, price),
            )
        )
    return moves + _out_of_dropped_pools(fleet, moves, inventory, price, others)


def _out_of_dropped_pools(
    fleet: ServiceFleet,
    moves: Sequence[Move],
    inventory: Inventory,
    price: Mapping[str, float],
    others: AbstractSet[str],
) -> list[Move]:
    """Instances in pools that the plan does not have any more go once the service needs no launch."""
    launching = {move.workload for move in moves if move.launches}
    astray: dict[str, list[InstanceRow]] = {}
    for one in inventory.all_live():
        row = fleet.row.get(one.workload)
        if row is not None and one.option == "spot" and one.pool not in fleet.column[row]:
            astray.setdefault(one.workload, []).append(one)
    return [
        Move(
            name,
            fleet.key,
            [],
            rows,
            gang=False,
            urgent=False,
            voluntary=False,
            why="the plan does not have this pool any more",
            saves=rate_of(rows, fleet.pools, price),
            beside=True,
        )
        for name, rows in astray.items()
        if name not in others and name not in launching
    ]


def rate_of(
    rows: Iterable[InstanceRow],
    pools: Mapping[str, PlanPool],
    price: Mapping[str, float],
    committed: Mapping[str, int] | None = None,
) -> float:
    """USD per hour of instances at present prices; an instance in an unknown pool counts as nothing.

    `committed` says how many on-demand instances of each workload a commitment pays; by default none: caps
    hold for what runs, whoever pays it.
    """
    total, covered = 0.0, dict(committed or {})
    for one in rows:
        pool = pools.get(one.pool)
        if pool is None:
            continue
        if one.option == "spot":
            total += price.get(one.pool, pool.on_demand_price)
        elif covered.get(one.workload, 0) > 0:
            covered[one.workload] -= 1
        else:
            total += pool.on_demand_price
    return total


def _guards(decision: Decision, row: int) -> list[str]:
    return [guard for guard, rows in decision.changed.items() if row in rows]


def _job_reason(fleet: JobFleet, decision: Decision, row: int, target: int, policy: str) -> str:
    if not fleet.active[row]:
        return "the job is done" if fleet.done[row] else "the job has not begun"
    if row in decision.why:
        return decision.why[row]
    names = ["idle", "on-demand", *(pool.name for pool in fleet.workloads[row].pools)]
    slack = (fleet.deadline[row] - fleet.at[row] - fleet.work_left[row]) / 3600.0
    return (
        f"{policy}: {names[int(fleet.placement[row])]} → {names[target]}, "
        f"{fleet.work_left[row] / 3600.0:.2f} h of work left, {slack:.2f} h of slack"
    )
