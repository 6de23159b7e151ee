"""Guards: what no decision may exceed. Each names itself when it changes or holds back a move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optimizer.controller.moves import Move


@dataclass(slots=True)
class Trip:
    """A guard changed something.

    Attributes:
        guard: Its name.
        workload: Whose move.
        wanted: What was to be done.
        got: What is done instead.
    """

    guard: str
    workload: str
    wanted: str
    got: str


@dataclass(slots=True)
class Situation:
    """What the guards look at.

    Attributes:
        now: Seconds since 1970.
        held_back: Reason why nothing may be done at all (kill switch, pause, blind); empty if anything may.
        hold_terminations: Reason why nothing may be terminated; empty if it may.
        rate: USD per hour of everything that is held.
        spent_today: USD of the last 24 h.
        last_move: When each workload was last moved voluntarily.
        launched_last_hour: Instances launched per workload in the last hour.
        most_held: Instances that a workload may hold at most by its own demand or gang.
        spare: Ready instances of a service above its demand.
        in_doubt: Workloads with a call whose outcome is not known.
        unseen: Workloads that may hold something where the last look could not see.
    """

    now: float
    held_back: str = ""
    hold_terminations: str = ""
    rate: float = 0.0
    spent_today: float = 0.0
    last_move: Mapping[str, float] = field(default_factory=dict)
    launched_last_hour: Mapping[str, int] = field(default_factory=dict)
    most_held: Mapping[str, int] = field(default_factory=dict)
    spare: Mapping[str, int] = field(default_factory=dict)
    in_doubt: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Limits:
    """What may not be exceeded; None = no limit of that kind.

    Attributes:
        launches_per_tick: Instances.
        terminations_per_tick: Instances.
        usd_per_hour: Cost rate of everything after the tick.
        budget_usd_per_day: Spend of 24 h above which nothing that costs more is done, deadlines apart.
        cooldown_seconds: Between two voluntary moves of a workload.
        launches_per_hour: Per workload, as a multiple of what it holds at most.
        keep_ready: See `GuardSettings`.
    """

    launches_per_tick: int
    terminations_per_tick: int
    usd_per_hour: float
    budget_usd_per_day: float | None = None
    cooldown_seconds: float = 0.0
    launches_per_hour: float | None = None
    keep_ready: bool = True


def guard(moves: Sequence[Move], limits: Limits, situation: Situation) -> tuple[list[Move], list[Trip]]:
    """What of the moves may be done, and which guard held back what.

    Urgent moves come first, then those that save most; a gang's move is done whole or not at all.
    """
    trips: list[Trip] = []
    if situation.held_back:
        for move in moves:
            trips.append(_trip(situation.held_back, move, "nothing"))
        return [], trips
    passed = [move for move in moves if _may_move(move, limits, situation, trips)]
    passed.sort(key=lambda move: (not move.urgent, move.net_usd_per_hour, move.workload))
    room = _Room(limits, situation)
    done = []
    for move in passed:
        room.fit(move, trips)
        if move:
            done.append(move)
    return done, trips


def _may_move(move: Move, limits: Limits, situation: Situation, trips: list[Trip]) -> bool:
    """Guards that look at one move alone; they may shorten it."""
    if move.workload in situation.unseen:
        trips.append(_trip("unseen", move, "nothing until it can be seen"))
        return False
    if move.workload in situation.in_doubt:
        trips.append(_trip("in-doubt", move, "nothing until the call before is resolved"))
        return False
    if situation.hold_terminations and move.terminate:
        trips.append(_trip(situation.hold_terminations, move, "launches only"))
        move.guards.append(situation.hold_terminations)
        if move.gang and move.launches and not move.urgent:
            return False
        move.terminate, move.saves = [], 0.0
    if situation.hold_terminations:
        move.stragglers = []
    since = situation.now - situation.last_move.get(move.workload, -1e18)
    if move.voluntary and not move.urgent and since < limits.cooldown_seconds:
        trips.append(_trip("cool-down", move, "nothing"))
        return False
    if limits.keep_ready and not move.gang and move.workload in situation.spare and move.terminate:
        spare = max(situation.spare[move.workload], 0)
        if move.beside:
            spare = len(move.terminate) if situation.spare[move.workload] >= 0 else 0
        if len(move.terminate) > spare:
            trips.append(_trip("keep-ready", move, f"{spare} terminations"))
            move.guards.append("keep-ready")
            _keep_terminations(move, spare)
    if limits.launches_per_hour is not None and move.launches:
        most = limits.launches_per_hour * max(situation.most_held.get(move.workload, 1), 1)
        left = int(most) - situation.launched_last_hour.get(move.workload, 0)
        if move.launched > left and not (move.urgent and _on_demand_only(move)):
            trips.append(_trip("launches-per-hour", move, f"{max(left, 0)} launches"))
            move.guards.append("launches-per-hour")
            _keep_launches(move, max(left, 0))
    return bool(move)


class _Room:
    """What is left of the caps in this tick."""

    def __init__(self, limits: Limits, situation: Situation) -> None:
        self.launches = limits.launches_per_tick
        self.terminations = limits.terminations_per_tick
        self.rate, self.highest = situation.rate, limits.usd_per_hour
        budget = limits.budget_usd_per_day
        self.over_budget = budget is not None and situation.spent_today >= budget

    def fit(self, move: Move, trips: list[Trip]) -> None:
        """Shorten a move to what is left, and take that away."""
        if self.over_budget and move.net_usd_per_hour > 0 and not (move.gang and move.urgent):
            self._shorten(move, 0, "budget", trips)
        if move.launched > self.launches:
            self._shorten(move, self.launches, "launches-per-tick", trips)
        self._fit_terminations(move, trips)
        # last: terminations that are left out save nothing
        while move.launches and self._too_dear(move.net_usd_per_hour):
            self._shorten(move, move.launched - 1, "usd-per-hour", trips)
        self._fit_terminations(move, trips)  # a gang that may not be completed goes
        if len(move.stragglers) > self.terminations:
            move.stragglers = []
        self.launches -= move.launched
        self.terminations -= len(move.terminate) + len(move.stragglers)
        self.rate += move.net_usd_per_hour

    def _fit_terminations(self, move: Move, trips: list[Trip]) -> None:
        if len(move.terminate) <= self.terminations:
            return
        trips.append(_trip("terminations-per-tick", move, f"{self.terminations} terminations"))
        move.guards.append("terminations-per-tick")
        if move.gang and move.launches:
            _drop(move)
        else:
            _keep_terminations(move, self.terminations)

    def _too_dear(self, net: float) -> bool:
        """Whether a change breaks the cost cap; what lowers the rate never does."""
        return net > 0.0 and self.rate + net > self.highest + 1e-9

    @staticmethod
    def _shorten(move: Move, launches: int, name: str, trips: list[Trip]) -> None:
        if name not in move.guards:
            trips.append(_trip(name, move, f"at most {launches} launches"))
            move.guards.append(name)
        _keep_launches(move, launches)


def _keep_launches(move: Move, count: int) -> None:
    """Keep the first `count` launches; a gang that cannot have all has none, and keeps what works."""
    if move.gang:
        if count < move.launched:
            _drop(move)
        return
    left = count
    for wish in move.launches:
        wish.count = min(wish.count, left)
        left -= wish.count
    move.launches = [wish for wish in move.launches if wish.count]


def _keep_terminations(move: Move, count: int) -> None:
    share = count / len(move.terminate)
    move.terminate, move.saves = move.terminate[:count], move.saves * share


def _drop(move: Move) -> None:
    """Launch nothing; terminate nothing but the part of a gang that is not completed so."""
    move.launches, move.terminate, move.saves = [], move.stragglers, move.strands
    move.stragglers, move.strands = [], 0.0


def _on_demand_only(move: Move) -> bool:
    return all(wish.option == "on-demand" for wish in move.launches)


def _trip(name: str, move: Move, got: str) -> Trip:
    parts = [f"launch {w.count} {w.option} in {w.pool.name}" for w in move.launches]
    if move.terminate:
        parts.append(f"terminate {len(move.terminate)}")
    return Trip(name, move.workload, ", ".join(parts) or "nothing", got)
