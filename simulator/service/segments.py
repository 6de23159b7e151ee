"""Windows cut into segments in which an optimal layout need not change: what makes the bound fast.

While ready capacity, prices, demand and launch cost stand still, a layout that changes inside can be replaced
by its cheapest tick: the cost of moves is sublinear, so going there at once and staying costs no more. If
ticks may be missed, moving missed ticks from one place of such a run to another changes the cost linearly, so
one stretch of them at the begin or end of a run is enough, no longer than the ticks that may be missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.deadline.observation import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class CountedWindow:
    """The counted ticks C of a window, after the cold start; sources Q are its pools and on-demand.

    Attributes:
        ready: (Q, C) most instances that can be ready.
        price: (Q, C) USD per instance-tick.
        launch: (Q, C) USD for the billed ticks of cold start of an instance that becomes ready then.
        demand: (C,) instances.
    """

    ready: FloatArray
    price: FloatArray
    launch: FloatArray
    demand: FloatArray

    @classmethod
    def of(
        cls, capacity: FloatArray, price: FloatArray, demand: FloatArray, cold_start_ticks: int
    ) -> CountedWindow:
        """Leave out the cold start.

        Args:
            capacity: (Q, T) instances.
            price: (Q, T) USD per instance-tick.
            demand: (T,) instances.
            cold_start_ticks: D, less than T.
        """
        cold, ticks = cold_start_ticks, capacity.shape[1]
        ready = np.minimum(capacity, demand.max(initial=0.0))
        for ago in range(1, cold + 1):
            ready[:, ago:] = np.minimum(ready[:, ago:], capacity[:, : ticks - ago])
        billed = np.array(price)
        billed[:, :cold] = 0.0
        paid = np.concatenate([np.zeros((len(price), 1)), billed.cumsum(axis=1)], axis=1)
        launch = paid[:, cold:ticks] - paid[:, : ticks - cold]
        return cls(ready[:, cold:], price[:, cold:], launch, demand[cold:])


def runs(window: CountedWindow) -> IntArray:
    """First ticks of the runs in which a layout need not change if no tick is missed, ascending from 0."""
    cut: BoolArray = np.zeros(len(window.demand), np.bool_)
    cut[0] = True
    cut[1:] |= _changes(window.ready) | _changes(window.price) | _changes(window.demand[None])
    # Moves inside a run are put off to the tick after it: the launch cost must be the same there too.
    moved = _changes(window.launch)
    cut[1:] |= moved
    cut[:-1] |= moved
    return np.flatnonzero(cut).astype(np.int64)


def cut_ends(begins: IntArray, ticks: int, missed: int) -> IntArray:
    """Cut off the first and the last `missed` ticks of longer runs.

    That is all where missed ticks have a price instead of a limit: of a run, none or as many as
    possible are missed.
    """
    ends = np.append(begins[1:], ticks)
    long = ends - begins > missed
    return np.unique(np.concatenate([begins, begins[long] + missed, ends[long] - missed]))


def cut_ticks(begins: IntArray, ticks: int, missed: int, allowed: BoolArray) -> IntArray:
    """Cut the first and last `missed` ticks of each run with a tick in `allowed` (C,) into single ticks."""
    cut = np.zeros(ticks + 1, np.bool_)
    cut[begins] = True
    for begin, end in zip(begins, np.append(begins[1:], ticks), strict=True):
        if allowed[begin:end].any():
            cut[begin : min(begin + missed, end) + 1] = True
            cut[max(end - missed, begin) : end] = True
    return np.flatnonzero(cut[:-1]).astype(np.int64)


def _changes(values: FloatArray) -> BoolArray:
    # Launch costs are differences of running sums: equal ones differ in the last digits.
    tolerance = 1e-9 * max(float(np.abs(values).max(initial=0.0)), 1e-300)
    return np.asarray((np.abs(np.diff(values, axis=1)) > tolerance).any(axis=0))
