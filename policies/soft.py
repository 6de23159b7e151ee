"""Soft due times: what policies that know only hard deadlines see of a job that may be late at a price."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.deadline.observation import DeadlineObservation


def binding(observation: DeadlineObservation) -> DeadlineObservation:
    """The observation with the due time in place of the deadline wherever being late does not pay.

    An hour of waiting saves at most the price of an hour on on-demand capacity less that of the same work in
    the cheapest pool. Where being late costs at least that much per hour, the due time binds: it is shown
    as the deadline, and a job that can no longer be done by then is shown without slack, so that it runs on
    on-demand capacity until it is done. Where it costs less, the deadline stays what it is.
    """
    most_saved = observation.on_demand_price - observation.price_of_work.min(axis=1)
    binds = observation.lateness_price >= np.maximum(most_saved, 0.0)
    binds &= observation.lateness_price > 0.0
    due_left = np.minimum(np.maximum(observation.due_left, observation.work_left), observation.time_left)
    late = observation.time_left - observation.due_left
    return replace(
        observation,
        time_left=np.where(binds, due_left, observation.time_left),
        time_total=np.where(binds, observation.time_total - late, observation.time_total),
        due_left=np.where(binds, due_left, observation.due_left),
    )
