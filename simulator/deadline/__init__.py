"""Deadline jobs: the exact dynamics, what a policy sees, replay and the clairvoyant optimum."""

from simulator.deadline.batch import DeadlineBatch
from simulator.deadline.job import DeadlineJob
from simulator.deadline.observation import (
    FIRST_SPOT,
    IDLE,
    ON_DEMAND,
    DeadlineObservation,
)
from simulator.deadline.stack import MarketStack, window_starts

__all__ = [
    "FIRST_SPOT",
    "IDLE",
    "ON_DEMAND",
    "DeadlineBatch",
    "DeadlineJob",
    "DeadlineObservation",
    "MarketStack",
    "window_starts",
]
