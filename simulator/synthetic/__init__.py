"""Synthetic markets: the semi-Markov model of availability, its fit, and markets drawn from it."""

from simulator.synthetic.generate import mean_correlation, simulate_availability, synthetic_market
from simulator.synthetic.semi_markov import SemiMarkovModel, fit_semi_markov, load_model

__all__ = [
    "SemiMarkovModel",
    "fit_semi_markov",
    "load_model",
    "mean_correlation",
    "simulate_availability",
    "synthetic_market",
]
