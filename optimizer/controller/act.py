"""Act: every call is an intent in the journal before it leaves, and what came of it afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from optimizer.controller.inventory import Inventory
from optimizer.controller.journal import InstanceRow, Intent, Journal, JournalFull
from optimizer.controller.moves import Move, Wish
from optimizer.controller.observe import Tell
from optimizer.controller.providers import (
    Capacity,
    Groups,
    Instance,
    Launch,
    NoCapacity,
    Refused,
    Unavailable,
)
from optimizer.plan import PlanPool

TERMINATED_AT_ONCE = 100
"""Instances in one call that terminates."""


@dataclass(slots=True)
class Outcome:
    """What came of the calls of a tick.

    Attributes:
        launched: Instances.
        terminated: Instances.
        without_capacity: (workload, pool, option) whose launch found none, or less than asked.
        failed: Calls that the cloud refused.
        unknown: Workloads with a call whose outcome is not known.
        moved: Workloads for which something took effect.
    """

    launched: int = 0
    terminated: int = 0
    without_capacity: list[tuple[str, str, str]] = field(default_factory=list)
    failed: int = 0
    unknown: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)

    def add(self, other: Outcome) -> None:
        """Count another round of the same tick."""
        self.launched += other.launched
        self.terminated += other.terminated
        self.without_capacity += other.without_capacity
        self.failed += other.failed
        self.unknown |= other.unknown
        self.moved |= other.moved


class Actor:
    """Carries out moves: launches first, then what they replace."""

    def __init__(
        self,
        capacity: Capacity,
        journal: Journal,
        inventory: Inventory,
        tell: Tell,
        *,
        groups: Groups | None = None,
        raised: Callable[[Move, float], None] | None = None,
        before_planned_move: Callable[[str, Sequence[str], str], None] | None = None,
        halted: Callable[[], str] = lambda: "",
        believed: Callable[[], float],
    ) -> None:
        """Act through a cloud.

        Args:
            capacity: The cloud.
            journal: Where intents go.
            inventory: Told of what was launched and terminated.
            tell: Takes events.
            groups: Auto Scaling groups, where the cloud has them.
            raised: Told before a group is raised above its demand.
            before_planned_move: Given workload, instances of a job that are about to go because it moves, and
                the region that it goes to.
            halted: Asked before each call: why no further one may leave; empty if it may.
            believed: Seconds since 1970, by this controller's own clock: that of a cloud may be wrong.
        """
        self._capacity, self._journal, self._inventory, self._tell = capacity, journal, inventory, tell
        self._groups, self._raised = groups, raised
        self._before_planned_move = before_planned_move
        self._halted = halted
        self._believed = believed

    def act(self, tick: int, now: float, mode: str, moves: Sequence[Move]) -> Outcome:
        """Carry out moves.

        Raises:
            JournalFull: The intents could not be written; no call has left.
        """
        shaping = [(move, _group_intents(tick, move)) for move in moves if move.step is not None]
        planned = [(move, self._intents(tick, move)) for move in moves if move.step is None]
        intents = [one for _, (launches, last) in planned for one in (*launches, *last)]
        self._journal.begin(now, mode, intents + [one for _, mine in shaping for one in mine])
        outcome = Outcome()
        settled: list[tuple[str, str, str]] = []
        for move, mine in shaping:
            self._shape(move, mine, now, outcome, settled)
        due: list[tuple[Intent, list[InstanceRow]]] = []
        for move, (launches, last) in planned:
            complete = True
            for intent, wish in zip(launches, move.launches, strict=True):
                complete &= self._launch(intent, wish, now, move.gang, outcome, settled)
            if move.stragglers:
                if complete or move.workload in outcome.unknown:
                    reason = "the gang is whole" if complete else "the rest of the gang may be there"
                    settled.append((last[0].token, "dropped", reason))
                else:
                    due.append((last[0], move.stragglers))
                continue
            for intent in last:
                # what a service may give up is the business of the guard `keep-ready`
                if complete or not move.gang:
                    if self._stopped([intent], settled):
                        continue
                    if move.gang and move.voluntary and move.launches and self._before_planned_move:
                        going, there = [row.id for row in move.terminate], move.launches[0].pool.region
                        self._before_planned_move(move.workload, going, there)
                    due.append((intent, move.terminate))
                else:
                    settled.append((intent.token, "dropped", "the replacement is not there"))
        self._terminate(due, now, outcome, settled)
        self._settle(now, settled)
        return outcome

    def wish(self, tick: int, now: float, mode: str, moves: Sequence[Move]) -> None:
        """Journal what would be done, without doing it."""
        intents = [
            one for move in moves if move.step is None for part in self._intents(tick, move) for one in part
        ]
        intents += [one for move in moves if move.step is not None for one in _group_intents(tick, move)]
        self._journal.begin(now, mode, intents, state=mode)

    def resolve(
        self,
        now: float,
        described: Sequence[Instance],
        pools: Mapping[str, PlanPool],
        *,
        known: AbstractSet[str],
        hides_pool: Callable[[str], bool],
        shadow: bool,
        resend_seconds: float,
        grace_seconds: float,
        may_launch: bool,
    ) -> set[str]:
        """Find out what became of calls whose outcome is not known.

        A young launch is sent again with its token, which cannot launch twice. An older one is looked up
        among the instances once they had time to appear. Terminations are looked up; what still runs is
        simply held and decided upon anew.

        Args:
            now: Seconds since 1970.
            described: What the cloud describes now.
            pools: Of the plan.
            known: Workloads of the plan; a launch for another is not sent again.
            hides_pool: Whether the look says nothing about a pool.
            shadow: Whether this is shadow mode; calls of other modes are not its business, nor the reverse.
            resend_seconds: Age up to which a launch is sent again.
            grace_seconds: Time that instances take to appear.
            may_launch: False looks only.

        Returns:
            Workloads that are still in doubt.
        """
        doubt: set[str] = set()
        settled: list[tuple[str, str, str]] = []
        by_token: dict[str, list[Instance]] = {}
        for one in described:
            by_token.setdefault(one.token, []).append(one)
        running = {one.id for one in described if one.state in ("pending", "running")}
        for intent, at in self._journal.open_intents(shadow=shadow):
            if intent.action in ("shape", "remove"):
                # set to a value, or looked at anew: the group as it is now decides what comes next
                settled.append((intent.token, "failed", "read back: the group is described as it is"))
                continue
            if intent.action == "terminate":
                still = [one for one in intent.request["ids"] if one in running]
                self._inventory.stays(still)
                settled.append((intent.token, "failed" if still else "done", "read back"))
                continue
            found = by_token.get(intent.token, [])
            pool = pools.get(str(intent.request["pool"]))
            if found and len(found) < int(intent.request["at_least"]) and 0 <= now - at < grace_seconds:
                doubt.add(intent.workload)  # a gang is launched whole: the rest is not described yet
            elif found:
                settled.append((intent.token, "done", ",".join(one.id for one in found)))
            elif hides_pool(str(intent.request["pool"])):
                doubt.add(intent.workload)
            elif (
                may_launch
                and pool is not None
                and intent.workload in known
                and 0 <= now - at < resend_seconds
            ):
                outcome = Outcome()
                wish = Wish(pool, intent.request["option"], int(intent.request["count"]), 0.0)
                gang = intent.request["at_least"] == intent.request["count"]
                self._launch(intent, wish, now, gang, outcome, settled)
                doubt |= outcome.unknown
            elif now - at >= grace_seconds or now < at:
                settled.append((intent.token, "failed", "read back: nothing was launched"))
            else:
                doubt.add(intent.workload)
        self._settle(now, settled)
        return doubt

    # -------------------------------------------------------------------------------------------- inside

    def _intents(self, tick: int, move: Move) -> tuple[list[Intent], list[Intent]]:
        launches = [
            Intent(
                tick,
                move.workload,
                "launch",
                secrets.token_hex(16),
                {
                    "pool": wish.pool.name,
                    "option": wish.option,
                    "count": wish.count,
                    "at_least": wish.count if move.gang else 1,
                },
                move.why,
                tuple(move.guards),
                wish.count * wish.usd_per_hour,
            )
            for wish in move.launches
        ]
        leaving = move.terminate or move.stragglers
        if not leaving:
            return launches, []
        after = launches[-1].token if launches else None
        request = {"ids": [one.id for one in leaving]}
        last = Intent(
            tick,
            move.workload,
            "terminate",
            secrets.token_hex(16),
            request,
            move.why if move.terminate else "part of a gang does no work, if the rest cannot be launched",
            tuple(move.guards),
            -(move.saves if move.terminate else move.strands),
            after,
        )
        return launches, [last]

    def _launch(
        self,
        intent: Intent,
        wish: Wish,
        now: float,
        gang: bool,
        outcome: Outcome,
        settled: list[tuple[str, str, str]],
    ) -> bool:
        """Launch; True if all of it is there."""
        if self._stopped([intent], settled):
            return False
        request = Launch(
            intent.token, intent.workload, wish.pool, wish.option, wish.count, wish.count if gang else 1
        )
        try:
            try:
                result = self._capacity.launch(request)
            except Unavailable:
                # the token makes a second try safe
                result = self._capacity.launch(request)
        except NoCapacity as error:
            settled.append((intent.token, "failed", f"no capacity: {error}"))
            outcome.without_capacity.append((intent.workload, wish.pool.name, wish.option))
            return False
        except Refused as error:
            settled.append((intent.token, "failed", f"refused: {error}"))
            self._tell("error", "refused", f"launch for {intent.workload} in {wish.pool.name}: {error}")
            outcome.failed += 1
            return False
        except Unavailable as error:
            settled.append((intent.token, "unknown", str(error)))
            outcome.unknown.add(intent.workload)
            return False
        # a job works from the reply on at the latest; services are counted in ticks
        begun = max(self._believed(), now) if gang else now
        self._inventory.launched(
            InstanceRow(one, intent.workload, wish.pool.name, wish.option, intent.token, begun, "live")
            for one in result.ids
        )
        outcome.launched += len(result.ids)
        outcome.moved.add(intent.workload)
        settled.append((intent.token, "done", ",".join(result.ids)))
        if result.shortfall:
            outcome.without_capacity.append((intent.workload, wish.pool.name, wish.option))
        return len(result.ids) == wish.count

    def _terminate(
        self,
        due: Sequence[tuple[Intent, list[InstanceRow]]],
        now: float,
        outcome: Outcome,
        settled: list[tuple[str, str, str]],
    ) -> None:
        batch: list[tuple[Intent, list[InstanceRow]]] = []
        for each in due:
            batch.append(each)
            if sum(len(rows) for _, rows in batch) >= TERMINATED_AT_ONCE:
                self._terminate_batch(batch, now, outcome, settled)
                batch = []
        if batch:
            self._terminate_batch(batch, now, outcome, settled)

    def _terminate_batch(
        self,
        batch: Sequence[tuple[Intent, list[InstanceRow]]],
        now: float,
        outcome: Outcome,
        settled: list[tuple[str, str, str]],
    ) -> None:
        if self._stopped([intent for intent, _ in batch], settled):
            return
        ids = [row.id for _, rows in batch for row in rows]
        self._inventory.leaving(ids, now)
        try:
            try:
                self._capacity.terminate(ids)
            except Unavailable:
                self._capacity.terminate(ids)
        except Refused as error:
            self._inventory.stays(ids)
            settled += [(intent.token, "failed", f"refused: {error}") for intent, _ in batch]
            self._tell("error", "refused", f"termination of {len(ids)} instances: {error}")
            outcome.failed += 1
            return
        except Unavailable as error:
            settled += [(intent.token, "unknown", str(error)) for intent, _ in batch]
            outcome.unknown |= {intent.workload for intent, _ in batch}
            return
        outcome.terminated += len(ids)
        outcome.moved |= {intent.workload for intent, _ in batch}
        settled += [(intent.token, "done", "") for intent, _ in batch]

    def _shape(
        self,
        move: Move,
        intents: Sequence[Intent],
        now: float,
        outcome: Outcome,
        settled: list[tuple[str, str, str]],
    ) -> None:
        """Carry out a group's step: the shape first, then members one by one."""
        assert self._groups is not None  # noqa: S101 -- a plan with groups needs a cloud with them
        assert move.step is not None  # noqa: S101 -- the caller has looked
        if self._stopped(intents, settled):
            return
        if self._raised is not None:
            self._raised(move, now)
        for k, intent in enumerate(intents):
            if k and self._stopped(intents[k:], settled):
                return
            try:
                if intent.action == "shape":
                    desired = int(intent.request["desired"])
                    self._groups.shape(
                        move.step.region,
                        move.step.group,
                        None if desired == move.step.present else desired,
                        move.step.base,
                        0,
                    )
                    outcome.launched += move.launched
                else:
                    self._groups.remove(move.step.region, str(intent.request["ids"][0]))
                    self._inventory.leaving(intent.request["ids"], now)
                    outcome.terminated += 1
            except (Refused, Unavailable) as error:
                unknown = isinstance(error, Unavailable)
                settled.append((intent.token, "unknown" if unknown else "failed", str(error)))
                settled += [(one.token, "dropped", "the call before failed") for one in intents[k + 1 :]]
                outcome.failed += not unknown
                self._tell("error", "refused", f"group {move.step.group}: {error}")
                return
            outcome.moved.add(move.workload)
            settled.append((intent.token, "done", ""))

    def _stopped(self, intents: Sequence[Intent], settled: list[tuple[str, str, str]]) -> bool:
        """Whether somebody has stopped everything since the tick began; the calls do not leave then."""
        reason = self._halted()
        if reason:
            settled += [(one.token, "dropped", f"{reason}: the call did not leave") for one in intents]
        return bool(reason)

    def _settle(self, now: float, settled: Sequence[tuple[str, str, str]]) -> None:
        if not settled:
            return
        try:
            self._journal.settle(now, settled, self._inventory.take_changed())
        except JournalFull as error:
            self._tell("error", "journal-full", f"outcomes are not recorded, they will be read back: {error}")


def _group_intents(tick: int, move: Move) -> list[Intent]:
    """A shape, then one removal per member: nothing is removed under an old shape."""
    assert move.step is not None  # noqa: S101 -- the caller has looked
    step = move.step
    request = {
        "region": step.region,
        "group": step.group,
        "desired": step.desired + move.launched,
        "base": step.base,
    }
    rate = sum(wish.count * wish.usd_per_hour for wish in move.launches)
    guards = tuple(move.guards)
    intents = [Intent(tick, move.workload, "shape", secrets.token_hex(16), request, move.why, guards, rate)]
    each = -move.saves / max(len(move.terminate), 1)
    for row in move.terminate:
        token = secrets.token_hex(16)
        gone = {"region": step.region, "group": step.group, "ids": [row.id]}
        intents.append(Intent(tick, move.workload, "remove", token, gone, move.why, guards, each))
    return intents
