"""Jobs whose pools differ in more than price: how fast each pool works, and where the job's checkpoint is.

The rules are those of `simulator.deadline.terms`; the figures come from it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from optimizer.plan import DeadlineWorkload
from simulator.deadline import FIRST_SPOT, ON_DEMAND
from simulator.deadline.observation import BoolArray, DeadlineObservation, FloatArray, IntArray
from simulator.deadline.terms import NOWHERE, PoolTerms, StackTerms
from simulator.market import Market

NO_REGION = b""
"""Saved for a checkpoint that is nowhere yet."""


def locations_of(workload: DeadlineWorkload) -> int:
    """Number L of locations between which a checkpoint is copied; 0 if pools differ in price only."""
    terms = workload.job.terms
    if terms is None:
        return 0
    return len({pool.region for pool in workload.pools}) if terms.moves_cost else 1


class Ground:
    """N jobs over P pools in L locations.

    Attributes:
        home: (N,) location of each checkpoint, `NOWHERE` before the first launch if it begins anywhere.
        place: (N,) where on-demand capacity is had: there, or in the cheapest location.
        throughput: (N, P) hours of work per hour.
    """

    def __init__(self, workloads: Sequence[DeadlineWorkload]) -> None:
        """Begin with every checkpoint where the plan has it."""
        terms = StackTerms.join([StackTerms.of(_market(one), _terms(one)) for one in workloads], 1)
        self.throughput, self._location = terms.throughput, terms.location
        self._move_seconds, self._move_usd = terms.move_seconds, terms.move_usd
        self._local_price = terms.on_demand_price[:, :, 0]
        prices = np.array([[pool.on_demand_price for pool in one.pools] for one in workloads])
        there = self._location[:, None, :] == np.arange(self._local_price.shape[1])[:, None]
        self._fits = there & (self.throughput >= 1.0)[:, None, :]
        self._prices = np.where(self._fits, prices[:, None, :], np.inf)
        self._regions = [
            [pool.region.encode() for pool in one.pools]
            if _terms(one).moves_cost
            else [b"any"] * len(one.pools)
            for one in workloads
        ]
        self._first = terms.data.copy()
        self.home = terms.data.copy()
        self._rows = np.arange(len(workloads))
        self.place = self._first
        self.settle()

    @property
    def on_demand_price(self) -> FloatArray:
        """(N,) USD per instance-hour of on-demand capacity where it is had."""
        return np.asarray(self._local_price[self._rows, self.place])

    def settle(self) -> None:
        """On-demand capacity is had where the checkpoint is."""
        self.place = np.where(self.home == NOWHERE, np.argmin(self._local_price, axis=1), self.home)

    def begin_again(self, rows: IntArray) -> None:
        """The checkpoints of other runs are where the plan has them."""
        self.home[rows] = self._first[rows]
        self.settle()

    def speed(self, placement: IntArray) -> FloatArray:
        """(N,) hours of work per hour where each job is."""
        spot = self.throughput[self._rows, np.maximum(placement - FIRST_SPOT, 0)]
        return np.where(placement >= FIRST_SPOT, spot, 1.0)

    def arrive(self, arrived: BoolArray, placement: IntArray) -> None:
        """The checkpoints of jobs that began to work on spot capacity are there."""
        rows = np.flatnonzero(arrived & (placement >= FIRST_SPOT))
        self.home[rows] = self._location[rows, placement[rows] - FIRST_SPOT]
        self.settle()

    def launch(self, launched: BoolArray, placement: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N,) seconds on top of the restart overhead and (N,) USD that launches take; 0 where none is."""
        seconds, usd = np.zeros(len(self._rows)), np.zeros(len(self._rows))
        rows = np.flatnonzero(launched)
        there = self._there(rows, placement[rows])
        self.home[rows] = np.where(self.home[rows] == NOWHERE, there, self.home[rows])
        seconds[rows] = self._move_seconds[rows, self.home[rows], there]
        usd[rows] = self._move_usd[rows, self.home[rows], there]
        self.settle()
        return seconds, usd

    def _there(self, rows: IntArray, placement: IntArray) -> IntArray:
        spot = self._location[rows, np.maximum(placement - FIRST_SPOT, 0)]
        return np.where(placement == ON_DEMAND, self.place[rows], spot)

    def on_demand_fits(self, row: int, column: int | None) -> bool:
        """Whether on-demand capacity of a pool does a job's work in time: it is where the checkpoint is."""
        return column is not None and bool(self._fits[row, self.place[row], column])

    def on_demand_columns(self, row: int) -> list[int]:
        """Pools whose on-demand capacity a job may take."""
        columns: list[int] = np.flatnonzero(self._fits[row, self.place[row]]).tolist()
        return columns

    def on_demand_column(self, present: IntArray) -> IntArray:
        """(N,) pools whose on-demand capacity is asked for: the `present` ones, or the cheapest that fit."""
        cheapest = np.argmin(self._prices[self._rows, self.place], axis=1)
        return np.where(self._fits[self._rows, self.place, present], present, cheapest)

    def show(self, seen: DeadlineObservation, rows: IntArray, paid: IntArray) -> None:
        """Add to what a policy sees of jobs `rows`, (n,); commitments pay all but `paid` instances."""
        seen.throughput, seen.location = self.throughput[rows], self._location[rows]
        seen.move_seconds, seen.move_usd = self._move_seconds[rows], self._move_usd[rows]
        seen.home = self.home[rows]
        seen.local_on_demand_price = self._local_price[rows] * paid[:, None]

    def region(self, row: int) -> str:
        """Where a job's checkpoint is; empty if it is nowhere, or wherever it is needed."""
        return b"".join({name for name in self._region_names(row) if name != b"any"}).decode()

    def _region_names(self, row: int) -> set[bytes]:
        if self.home[row] == NOWHERE:
            return set()
        return {self._regions[row][k] for k in np.flatnonzero(self._location[row] == self.home[row])}

    def saved(self) -> NDArray[np.bytes_]:
        """(N,) regions of the checkpoints, for the journal: locations are numbered by plan."""
        return np.array([self.region(row).encode() or NO_REGION for row in self._rows.tolist()], dtype="S64")

    def restore(self, row: int, region: bytes | None, placement: int, pending: float) -> None:
        """Put back where a checkpoint was.

        Args:
            row: Which job.
            region: As it was saved; None if the plan before had no copies.
            placement: Where the job is.
            pending: Seconds until it works there.
        """
        if region is None and placement >= FIRST_SPOT and pending == 0.0:
            self.home[row] = self._location[row, placement - FIRST_SPOT]
        elif region is None and placement == ON_DEMAND:
            self.home[row] = self.place[row]
        elif region:
            known = [k for k, name in enumerate(self._regions[row]) if name == region]
            self.home[row] = self._location[row, known[0]] if known else self._first[row]
        self.settle()


def _terms(workload: DeadlineWorkload) -> PoolTerms:
    return workload.job.terms or PoolTerms()


def _market(workload: DeadlineWorkload) -> Market:
    """The plan's pools at their on-demand prices, for a tick; what spot costs plays no part."""
    pools = len(workload.pools)
    return Market(
        tuple(one.pool for one in workload.pools),
        1,
        datetime(2000, 1, 1, tzinfo=UTC),
        np.ones((pools, 1)),
        np.zeros((pools, 1), np.int32),
        np.array([[one.on_demand_price] for one in workload.pools]),
        "plan",
    )
