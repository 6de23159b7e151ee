"""Sample markets that ship with Spotwise, and how they are made: all synthetic, so ours to give away.

`python -m simulator.sample_data` writes them again from the shipped availability model.
"""

from __future__ import annotations

from pathlib import Path

from simulator.errors import InputError
from simulator.market.market import Market, Pool

SAMPLES = {"v100": 2023, "v100-unseen": 2024}
"""Seed of each sample market by name."""
ZONES = ("east-1a", "east-1b", "east-1c", "east-2a", "east-2b", "west-1a", "west-1b", "west-1c")
DAYS = 45


def sample_market(name: str = "v100") -> Market:
    """Load a sample market: 8 zones, 45 days at 600 s, spot 0.9731 and on-demand 3.06 USD/h.

    Args:
        name: One of `SAMPLES`; `v100-unseen` is a second draw of the same kind, to test on.

    Raises:
        InputError: There is no such sample.
    """
    if name not in SAMPLES:
        raise InputError(f"no sample market {name!r}; accepted: {', '.join(SAMPLES)}")
    return Market.load(sample_path(name))


def sample_path(name: str) -> Path:
    """Where the file of a sample market lies."""
    return Path(__file__).with_name(f"{name}.npz")


def make_sample(name: str) -> Market:
    """Draw a sample market anew; gives what `sample_market` loads."""
    from simulator.synthetic import load_model, synthetic_market  # late: loading a sample needs no numba

    pools = [Pool("synthetic", zone[:-1], zone, "v100") for zone in ZONES]
    return synthetic_market(load_model(), pools, ticks=DAYS * 144, seed=SAMPLES[name])
