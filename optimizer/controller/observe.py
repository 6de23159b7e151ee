"""Observe: time, prices and instances, each believed only as far as it deserves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from optimizer.controller.config import Freshness
from optimizer.controller.providers import Clock, CloudError, Group, Instance, Notice, Partly, Provider, Quote
from optimizer.plan import PlanPool

T = TypeVar("T")
Tell = Callable[[str, str, str], None]
"""Takes level, kind and message of an event."""

LOOKS = 3
"""A clock that jumped is believed when it says the same this many times."""


class Watch:
    """The wall clock, checked against one that never jumps."""

    def __init__(self, clock: Clock, limit_seconds: float, last: float | None = None) -> None:
        """Begin.

        Args:
            clock: Both clocks.
            limit_seconds: A larger difference is a jump.
            last: Time of the last tick that was saved; time does not go back behind it.
        """
        self._clock, self._limit = clock, limit_seconds
        wall, steady = clock.now(), clock.steady()
        behind = last is not None and wall < last - limit_seconds
        self._offset = (last if behind and last is not None else wall) - steady
        self._doubt: float | None = None
        self._looks = 0

    def now(self, tell: Tell) -> tuple[float, bool]:
        """Seconds since 1970, and whether the wall clock is in doubt."""
        wall, steady = self._clock.now(), self._clock.steady()
        offset = wall - steady
        if abs(offset - self._offset) <= self._limit:
            self._doubt, self._looks = None, 0
            # small corrections are followed
            self._offset = offset
            return wall, False
        if self._doubt is None or abs(offset - self._doubt) > self._limit:
            self._doubt, self._looks = offset, 0
            tell("warning", "clock-jump", f"the wall clock moved by {offset - self._offset:+.0f} s")
        self._looks += 1
        if self._looks >= LOOKS:
            tell("warning", "clock-jump", f"the wall clock is believed after {LOOKS} looks")
            self._offset, self._doubt, self._looks = offset, None, 0
            return wall, False
        return steady + self._offset, True

    def believed(self) -> float:
        """Seconds since 1970 as far as it is believed, without counting as a look."""
        wall, steady = self._clock.now(), self._clock.steady()
        return wall if abs(wall - steady - self._offset) <= self._limit else steady + self._offset


@dataclass(slots=True)
class Sight:
    """What one look brought.

    Attributes:
        now: Seconds since 1970.
        clock_in_doubt: The wall clock jumped and is not believed yet.
        price: Believed spot price by pool.
        stale: Pools whose price is missing or too old to decide by.
        oldest_price_seconds: Age of the oldest price that is believed.
        offers: Instances that each pool is believed to have.
        instances: What the cloud describes; None if it cannot be asked.
        dark: Regions that are not in `instances` because they did not answer.
        never: Those of them that have not answered since the process began.
        notices: Messages about instances.
        groups: Auto Scaling groups by name.
    """

    now: float
    clock_in_doubt: bool
    price: dict[str, float] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    oldest_price_seconds: float = 0.0
    offers: dict[str, int] = field(default_factory=dict)
    instances: Sequence[Instance] | None = None
    dark: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    notices: Sequence[Notice] = ()
    groups: dict[str, Group] = field(default_factory=dict)


class Observer:
    """Looks at a cloud and keeps the last good price of every pool."""

    def __init__(
        self, provider: Provider, pools: Mapping[str, PlanPool], freshness: Freshness, tell: Tell
    ) -> None:
        """Begin without any price."""
        self._provider, self._pools, self._freshness, self._tell = provider, pools, freshness, tell
        self._quotes: dict[str, Quote] = {}
        self._failing: set[str] = set()
        self._regions = frozenset(pool.region for pool in pools.values())
        self._answered: frozenset[str] = frozenset()

    def look(
        self, now: float, clock_in_doubt: bool, groups: Mapping[str, Sequence[str]], *, listens: bool
    ) -> Sight:
        """Look at everything; what cannot be had is left out and told, never raised.

        Args:
            now: Seconds since 1970.
            clock_in_doubt: From `Watch`.
            groups: Names of the groups whose demand is needed, by region.
            listens: Whether to read the queue.
        """
        sight = Sight(now, clock_in_doubt)
        sight.instances, sight.dark = self._ask_regions("instances", self._provider.capacity.instances)
        if sight.instances is not None:
            self._answered |= self._regions - sight.dark
        sight.never = sight.dark - self._answered
        self._read_prices(sight)
        offers = self._ask("offers", lambda: self._provider.capacity.offers(list(self._pools.values())))
        closed = sight.stale | {name for name, pool in self._pools.items() if pool.region in sight.dark}
        sight.offers = {name: 0 if name in closed else count for name, count in (offers or {}).items()}
        queue = self._provider.interruptions
        if queue is not None and listens:
            sight.notices = self._ask("interruptions", queue.receive) or ()
        described = self._provider.groups
        if described is not None:
            for region, names in groups.items():
                found = self._ask(f"groups in {region}", partial(described.describe, region, names))
                sight.groups.update(found or {})
                if found is None:
                    continue
                for name in names:
                    if name in found:
                        self._again(f"group {name}")
                    else:
                        self._once(f"group {name}", "unreachable", f"there is no group {name} in {region}")
        return sight

    def _read_prices(self, sight: Sight) -> None:
        pools = list(self._pools.values())
        quotes, _ = self._ask_regions("prices", lambda: self._provider.prices.quotes(pools))
        for name, quote in (quotes or {}).items():
            pool = self._pools.get(name)
            if pool is None:
                continue
            ratio = quote.usd_per_hour / pool.on_demand_price
            limits = self._freshness
            possible = limits.lowest_price_ratio <= ratio <= limits.highest_price_ratio
            if not math.isfinite(ratio) or ratio <= 0.0 or not possible:
                self._once(
                    f"price of {name}",
                    "price-refused",
                    f"spot price {quote.usd_per_hour} of {name} is not believed (on-demand "
                    f"{pool.on_demand_price:g}); the last good one holds",
                )
                continue
            self._failing.discard(f"price of {name}")
            self._quotes[name] = quote
        for name in self._pools:
            known = self._quotes.get(name)
            age = math.inf if known is None else sight.now - known.at
            if age > self._freshness.prices_seconds:
                sight.stale.add(name)
            else:
                sight.oldest_price_seconds = max(sight.oldest_price_seconds, age)
            if known is not None:
                sight.price[name] = known.usd_per_hour

    def _ask(self, what: str, call: Callable[[], T]) -> T | None:
        try:
            answer = call()
        except CloudError as error:
            self._once(what, "unreachable", f"{what} cannot be had: {error}")
            return None
        self._again(what)
        return answer

    def _ask_regions(self, what: str, call: Callable[[], T]) -> tuple[T | None, frozenset[str]]:
        """Ask; returns the answer, whole or in part, and the regions that it lacks."""
        failed: dict[str, str] = {}

        def ask() -> T:
            try:
                return call()
            except Partly as error:
                failed.update(error.regions)
                part: T = error.found
                return part

        answer = self._ask(what, ask)
        for region in sorted(self._regions if answer is not None else ()):
            if region in failed:
                where = f"{what} in {region}"
                self._once(where, "unreachable", f"{where} cannot be had: {failed[region]}")
            else:
                self._again(f"{what} in {region}")
        return answer, frozenset(failed)

    def _again(self, what: str) -> None:
        """Tell that something works again that had failed."""
        if what in self._failing:
            self._failing.discard(what)
            self._tell("info", "reachable", f"{what} can be had again")

    def _once(self, what: str, kind: str, message: str) -> None:
        """Tell of a failure when it begins, not at every tick."""
        if what not in self._failing:
            self._failing.add(what)
            self._tell("warning", kind, message)
