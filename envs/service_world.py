"""N service episodes with their reward and their description: what the scalar and the batched env share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.randomness import streams, uniforms
from envs.series import EpisodeMarkets
from envs.service_episodes import SERVICE_DRAWS, ServiceEpisodes, ServiceRange
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError
from simulator.service import Service, ServiceBatch, ServiceObservation

Float32Array = NDArray[np.float32]

SPARES = 3
"""Instances beyond the highest demand that can be asked of each pool and of on-demand."""
WEIGHT_UNIT = 20.0
"""Weight of unavailability at which both parts of the reward are scaled by a half."""
GLOBAL_NAMES = (
    "demand",
    "ready_surplus",
    "cold_start",
    "on_demand_ratio",
    "weight",
    "on_demand_held",
    "held_surplus",
)
POOL_NAMES = ("held", "refused", "since_refusal", "since_loss", "held_for", "price")
LIMIT = 3.0
"""Observations are clipped to it."""
_NEVER = 1_000_000


class ServiceWorld:
    """N episodes in lock-step; `begin` them, `step` with what is asked, `look` at what a policy may know."""

    def __init__(
        self, markets: EpisodeMarkets, size: int, services: ServiceRange, seed: int | None = None
    ) -> None:
        """Make room for N episodes.

        Raises:
            InputError: A market is too short, or N is below 1.
        """
        if size < 1:
            raise InputError(f"{size} environments; accepted: 1 or more")
        services.check(markets)
        self.markets, self.services, self.size = markets, services, size
        pools, tick = markets.stack.pools, markets.stack.tick_seconds
        blank = Service.of(
            1,
            ticks=services.ticks,
            tick_seconds=tick,
            cold_start_seconds=services.cold_start_ticks[1] * tick,
            minimum_billed_seconds=services.minimum_billed_seconds,
        )
        self.batch = ServiceBatch(markets.stack, blank, 0, np.zeros(size))
        self.weight = np.ones(size)
        self.unit = np.ones(size)
        """(N,) USD of one instance of the cheapest pool for one tick, on average over the market."""
        self.returns, self.episode = np.zeros(size), np.zeros(size, np.int64)
        self.features = len(GLOBAL_NAMES) + pools * len(POOL_NAMES)
        self._since = np.full((3, size, pools), _NEVER, np.int64)  # refusal, loss, held for
        self._before = np.zeros((size, pools), np.int64)
        self._cheapest = np.array(
            [
                markets.stack.spot_price[m, :, :ticks].min(axis=0).mean()
                for m, ticks in enumerate(markets.stack.ticks)
            ]
        )
        self.seed(seed)

    def seed(self, seed: int | None) -> None:
        """Choose the episodes that begin from now on."""
        root = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self.stream = streams(root, self.size)
        self.episode[:] = 0

    def draw(self, rows: IntArray) -> ServiceEpisodes:
        """The next episodes of `rows`."""
        drawn = uniforms(self.stream[rows], self.episode[rows], SERVICE_DRAWS)
        return self.services.draw(drawn, self.markets)

    def begin(self, rows: IntArray, episodes: ServiceEpisodes) -> None:
        """Begin `episodes` in `rows`."""
        self.batch.begin(rows, episodes.services, episodes.market, episodes.start)
        self.batch.spot_scale[rows] = episodes.spot_scale
        self.weight[rows] = episodes.weight
        hours = self.markets.stack.tick_seconds / 3600.0
        self.unit[rows] = self._cheapest[episodes.market] * episodes.spot_scale * hours
        self.episode[rows] += 1
        self.returns[rows] = 0.0
        self._since[:2, rows] = _NEVER
        self._since[2, rows] = 0
        self._before[rows] = 0

    def step(self, asked: IntArray) -> FloatArray:
        """Run a tick; (N,) rewards: -(cost / demand + weight x unavailable) / (1 + weight / 20).

        Cost is in ticks of a spot instance, see `unit`; what is not counted (the cold start) is not rewarded.
        """
        batch = self.batch
        need = np.maximum(batch.demand[np.arange(self.size), np.minimum(batch.tick, batch.length - 1)], 1)
        available = batch.counts[:, 3:].copy()
        cost = batch.step(asked) / (self.unit * need)
        seen = batch.counts[:, 3:] - available
        reward = -(cost + self.weight * (seen[:, 1] - seen[:, 0])) / (1.0 + self.weight / WEIGHT_UNIT)
        self.returns += reward
        return np.asarray(reward)

    def look(self, observation: ServiceObservation, *, fold: bool = True) -> Float32Array:
        """(N, F) float32 description, see `GLOBAL_NAMES` and, per pool, `POOL_NAMES`.

        Args:
            observation: What the batch shows.
            fold: Take the last tick into the memory first; once per tick.
        """
        o = observation
        if fold:
            self._note(o)
        need = np.maximum(o.demand, 1).astype(np.float64)
        mean = self.unit * 3600.0 / o.tick_seconds
        held = o.granted / need[:, None]
        described = np.empty((self.size, self.features), np.float32)
        described[:, 0] = np.log1p(o.demand) / 2.0
        described[:, 1] = (o.ready - o.demand) / need
        described[:, 2] = o.cold_start_ticks / 10.0
        described[:, 3] = np.log(o.on_demand_price / np.maximum(mean, 1e-12))
        described[:, 4] = np.log(self.weight / WEIGHT_UNIT) / 2.0
        described[:, 5] = held[:, -1]
        described[:, 6] = (o.granted.sum(axis=1) - o.demand) / need
        pools = described[:, len(GLOBAL_NAMES) :].reshape(self.size, -1, len(POOL_NAMES))
        pools[:, :, 0] = held[:, :-1]
        pools[:, :, 1] = o.granted[:, :-1] < o.asked[:, :-1]
        pools[:, :, 2:5] = np.moveaxis(np.log1p(self._since), 0, 2) / 5.0
        pools[:, :, 5] = np.log(np.maximum(o.spot_price, 1e-12) / o.on_demand_price[:, None]) / 2.0
        return np.clip(described, -LIMIT, LIMIT, out=described)

    def asked_from_counts(self, counts: NDArray[Any]) -> IntArray:
        """(N, P + 1) int64 counts.

        Raises:
            InputError: The shape is another, or a count is negative.
        """
        asked = np.ascontiguousarray(counts, np.int64)
        if asked.shape != (self.size, self.markets.stack.pools + 1):
            raise InputError(
                f"actions of shape {asked.shape}; accepted: ({self.size}, {self.markets.stack.pools + 1})"
            )
        return asked

    def report(self, row: int) -> dict[str, Any]:
        """How the episode in `row` went so far."""
        batch = self.batch
        return {
            "cost_usd": float(batch.cost[row]),
            "availability": float(batch.availability[row]),
            "served_fraction": float(batch.served_fraction[row]),
            "weight": float(self.weight[row]),
            "launches": int(batch.counts[row, 0]),
            "interruptions": int(batch.counts[row, 1]),
            "failed_launches": int(batch.counts[row, 2]),
        }

    def _note(self, o: ServiceObservation) -> None:
        granted, asked = o.granted[:, :-1], o.asked[:, :-1]
        begun = (o.ticks_elapsed > 0)[:, None]
        self._since += begun
        refused, lost, held = self._since
        refused[begun & (granted < asked)] = 0
        lost[begun & (granted < np.minimum(self._before, asked))] = 0
        held[begun & (granted == 0)] = 0
        np.minimum(self._since, _NEVER, out=self._since)
        self._before[:] = granted
