"""The look-ahead planner for services: which pools, how many spares, how much on-demand in reserve."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.protocol import Memory
from policies.service.holdings import NEVER, no_holdings, note_in_place, ready_count
from policies.service.lookahead.budget import SLOTS, Rolling, allowance, spend
from policies.service.lookahead.growth import RISES, foresee, no_growth
from policies.service.lookahead.kernel import Beliefs, decide, learn
from policies.service.lookahead.survival import Survival
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError
from simulator.service import ServiceObservation

HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class LookAheadSettings:
    """What the planner assumes beside the survival curve; chosen on the public validation windows.

    Attributes:
        own_prior: Expected losses that weigh as much as what a pool itself has shown.
        fleet_prior: The same for what all pools together have shown.
        shared_prior: The same for how often pools of a region are lost together.
        deeper_prior: Times that a loss took one more instance of the pool, and times that it did not, before
            any was seen.
        memory_seconds: Losses count less by a factor e after this long.
        retry_seconds: A pool that refused is believed to have no more room for this long.
        settle_hours: A launch's cold start is weighed against this long a stay.
        ahead_seconds: The hazard of a pool is the mean of that now and that after this long.
        review_seconds: The layout is chosen anew this often, and whenever something happened.
        scale: Weight of a shortage times the share of ticks that may be short.
        window_days: The availability target holds over a rolling window of this length.
        margin: Shortages that the error budget keeps back.
        calibration: Shortages that come for one that is predicted.
        trim_hours: Time over which the weight is corrected.
        most_trim: Bounds of the logarithm of the correction, downwards and upwards.
    """

    own_prior: float = 4.0
    fleet_prior: float = 20.0
    shared_prior: float = 1.0
    deeper_prior: tuple[float, float] = (4.0, 1.0)
    memory_seconds: float = 300_000.0
    retry_seconds: float = 300.0
    settle_hours: float = 0.5
    ahead_seconds: float = 1800.0
    review_seconds: float = 300.0
    scale: float = 0.3
    window_days: float = 7.0
    margin: float = 1.5
    calibration: float = 1.3
    trim_hours: float = 36.0
    most_trim: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self) -> None:
        """Check that every value is a number above 0.

        Raises:
            InputError: One is not.
        """
        for field in dataclasses.fields(self):
            for value in np.atleast_1d(getattr(self, field.name)):
                if not np.isfinite(value) or value <= 0:
                    raise InputError(f"look-ahead setting {field.name} = {value}; accepted: above 0")


@dataclass(frozen=True)
class LookAhead:
    """Chooses the layout that costs least, the risk of being short included.

    Each pool's chance of a loss is that of its age on the survival curve, times what the pool and the fleet
    have shown. The weight of a shortage comes from the service's availability target through an error budget,
    unless `weight` is given.

    Attributes:
        survival: How long capacity stays.
        settings: See `LookAheadSettings`.
        weight: Cost of one tick's shortage in units of the demand at the lowest price of spot that is held;
            by default set by the error budget.
        name: What the policy is called.
    """

    survival: Survival
    settings: LookAheadSettings = LookAheadSettings()
    weight: float | None = None
    name: str = "look-ahead"

    def reset(self, services: int, pools: int) -> Memory:
        """Nothing held, nothing known, nothing spent."""
        return {
            **no_holdings(services, pools),
            "up": np.zeros((services, pools), np.int32),
            "room": np.zeros((services, pools), np.int32),
            "since_loss": np.full((services, pools), NEVER, np.int32),
            "expected": np.zeros((services, pools)),
            "lost": np.zeros((services, pools)),
            "base": np.zeros((services, pools)),
            "pairs": np.zeros((services, 2)),
            "depth": np.zeros((services, 2)),
            "target": np.zeros((services, pools + 1), np.int64),
            "demand": np.zeros(services, np.int64),
            "shortages": np.zeros(services),
            "spent": np.zeros((services, SLOTS)),
            "trim": np.zeros(services),
            **no_growth(services),
        }

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Learn from the last tick's grants, then ask for the layout or the next step towards it."""
        after: dict[str, Any] = {name: np.array(values) for name, values in memory.items()}
        due = self.perceive(observation, after)
        return self.ask(observation, after, due, self.dial(observation, after)), after

    def perceive(self, observation: ServiceObservation, memory: dict[str, Any]) -> Any:
        """First part of `act`: take the last tick's grants into the memory, in place.

        Returns:
            (N,) whether the layout is to be chosen anew.
        """
        note_in_place(observation, memory)
        before = self._held_before(observation, memory)
        beliefs = Beliefs(*(memory[name] for name in Beliefs._fields))
        learn(
            observation.tick_seconds, observation.ticks_elapsed, observation.asked, observation.granted,
            before, observation.region, observation.cold_start_ticks, self.settings.memory_seconds, beliefs,
        )  # fmt: skip
        return self._due(observation, memory, before)

    def _held_before(self, observation: ServiceObservation, memory: dict[str, Any]) -> IntArray:
        """(N, P + 1) instances held in the tick before the last."""
        elapsed, ring = observation.ticks_elapsed, memory["ring"]
        before = ring[np.arange(len(elapsed)), :, (elapsed - 2) % ring.shape[2]].astype(np.int64)
        before[elapsed < 2] = 0
        return np.asarray(before)

    def _due(self, observation: ServiceObservation, memory: dict[str, Any], before: IntArray) -> Any:
        """(N,) whether to choose the layout anew: it is time, or something happened."""
        elapsed = observation.ticks_elapsed
        every = max(int(self.settings.review_seconds / observation.tick_seconds), 1)
        return (
            (elapsed % every == 0)
            | (elapsed < 2)
            | (observation.asked != observation.granted).any(axis=1)
            | (before[:, :-1] != observation.granted[:, :-1]).any(axis=1)
            | (observation.demand != memory["demand"])
        )

    def dial(self, observation: ServiceObservation, memory: dict[str, Any]) -> FloatArray:
        """Second part of `act`: (N,) weight of a shortage.

        Enters the last tick into the error budget and corrects the trim, in place.
        """
        if self.weight is not None:
            return np.full(len(observation.demand), float(self.weight))
        settings, elapsed = self.settings, observation.ticks_elapsed
        counted = elapsed > observation.cold_start_ticks
        pace: FloatArray = 1.0 - observation.availability_target
        slot_ticks = settings.window_days * 86400.0 / SLOTS / observation.tick_seconds
        lasts = np.asarray(observation.cold_start_ticks + 1, np.float64)
        owed = elapsed > memory["nothing_owed"]  # of the last tick, `elapsed` - 1
        short = (observation.ready < memory["demand"]) & owed & counted
        spend(slot_ticks, elapsed, short, memory["spent"])
        rate = np.empty(len(elapsed))
        allowance(Rolling(slot_ticks, settings.margin), elapsed, pace, lasts, memory["spent"], rate)
        predicted = memory["shortages"] * lasts * settings.calibration
        step = observation.tick_seconds / 3600.0 / settings.trim_hours
        trim = memory["trim"] + np.where(counted, step * np.clip(predicted / rate - 1.0, -1.0, 3.0), 0.0)
        memory["trim"] = np.clip(trim, -settings.most_trim[0], settings.most_trim[1])
        return np.asarray(settings.scale / rate * np.exp(memory["trim"]))

    def ask(
        self,
        observation: ServiceObservation,
        memory: dict[str, Any],
        due: Any,
        weight: FloatArray,
        only: IntArray | None = None,
    ) -> IntArray:
        """Last part of `act`: choose layouts where they are due and move towards them.

        Args:
            observation: What the services see.
            memory: After `perceive`; changed in place.
            due: (N,) whether to choose anew.
            weight: (N,) weight of a shortage.
            only: (N, 2) numbers of spares (0 to 3) and quarters of on-demand reserve (0 to 4) that layouts
                have, -1 for any; by default any.

        Returns:
            (N, P + 1) what to ask for.
        """
        beliefs = Beliefs(*(memory[name] for name in Beliefs._fields))
        only = np.full((len(observation.demand), 2), -1) if only is None else only
        asked = np.zeros_like(observation.asked)
        settings, tick = self.settings, observation.tick_seconds
        cold_start = observation.cold_start_ticks
        ready = ready_count(memory["ring"], observation.ticks_elapsed, np.maximum(cold_start, 1))
        worth = weight * observation.demand * (cold_start + 1)
        loss_cost = worth * price_of_capacity(observation)
        headroom = np.zeros_like(observation.demand)
        foresee(
            observation.ticks_elapsed, observation.demand, memory["demand"], cold_start, worth, RISES,
            max(int(HOUR_SECONDS / tick), 1), memory["changed"], memory["step"], memory["rises"],
            memory["recent"], memory["nothing_owed"], headroom,
        )  # fmt: skip
        decide(
            tick, self.survival.curve,
            (settings.own_prior, settings.fleet_prior, settings.shared_prior, *settings.deeper_prior),
            max(int(settings.retry_seconds / tick), 1), settings.settle_hours, settings.ahead_seconds / tick,
            loss_cost, observation.demand, cold_start, observation.committed, observation.granted,
            observation.spot_price, observation.on_demand_price, observation.region, ready, memory["refused"],
            beliefs, due, only, headroom, memory["target"], memory["shortages"], asked,
        )  # fmt: skip
        memory["demand"] = observation.demand.copy()
        return asked


def price_of_capacity(observation: ServiceObservation) -> FloatArray:
    """(N,) lowest price of a pool in which something is held; where nothing is, the median of the pools.

    A pool may be cheap because it never has anything.
    """
    price = observation.spot_price
    held = np.where(observation.granted[:, :-1] > 0, price, np.inf).min(axis=1)
    return np.asarray(np.where(np.isfinite(held), held, np.median(price, axis=1)))
