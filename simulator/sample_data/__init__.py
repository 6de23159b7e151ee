"""Sample markets that ship with Spotwise, and how they are made: all synthetic, so ours to give away.

`python -m simulator.sample_data` writes them again from the shipped availability model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simulator.errors import InputError
from simulator.market.market import Market, Pool

SAMPLES = {"v100": 2023, "v100-unseen": 2024, "fleet": 2025}
"""Seed of each sample market by name."""
ZONES = ("east-1a", "east-1b", "east-1c", "east-2a", "east-2b", "west-1a", "west-1b", "west-1c")
DAYS = 45
FLEET_ZONES = {
    "east-1a": 0.92,
    "east-1b": 0.98,
    "east-2a": 0.95,
    "east-2b": 1.02,
    "west-1a": 0.90,
    "west-1b": 1.05,
}
"""Zones of the sample for services, and the level of their spot prices in USD per hour."""
FLEET_DAYS = 28
FLEET_TICK_SECONDS = 60
FEWEST, MOST = 2, 6
"""Instances that a pool of the fleet has while it has any; drawn anew each time it comes back."""


def sample_market(name: str = "v100") -> Market:
    """Load a sample market.

    Args:
        name: One of `SAMPLES`. `v100`: 8 zones, 45 days at 600 s, spot 0.9731 and on-demand 3.06 USD/h;
            `v100-unseen`: a second draw of the same kind, to test on; `fleet`, for services: 6 zones of 3
            regions with none or 2 to 6 instances each, 28 days at 60 s, prices that vary.

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

    zones, days = (tuple(FLEET_ZONES), FLEET_DAYS) if name == "fleet" else (ZONES, DAYS)
    pools = [Pool("synthetic", zone[:-1], zone, "v100") for zone in zones]
    ticks, seed = days * 144, SAMPLES[name]
    if name != "fleet":
        return synthetic_market(load_model(), pools, ticks=ticks, seed=seed)
    levels = list(FLEET_ZONES.values())
    drawn = synthetic_market(
        load_model(), pools, ticks=ticks, seed=seed, spot_price=levels, price_variation=0.05
    )
    return _fleet(drawn, np.random.default_rng(seed))


def _fleet(drawn: Market, rng: np.random.Generator) -> Market:
    """Several instances per pool instead of one, on a finer clock.

    The model knows only every tenth minute. What changes from one to the next does so at a random minute in
    between, the same for all pools: what is lost together stays together.
    """
    up = drawn.spot_capacity > 0
    spell = np.cumsum(np.diff(up, axis=1, prepend=False), axis=1)
    room = np.take_along_axis(rng.integers(FEWEST, MOST + 1, up.shape), spell, axis=1)
    fine = drawn.tick_seconds // FLEET_TICK_SECONDS
    late = rng.integers(0, fine, drawn.ticks)
    late[0] = 0
    tick = np.arange(drawn.ticks * fine)
    taken = tick // fine - (tick % fine < late[tick // fine])
    return Market.build(
        drawn.pools,
        tick_seconds=FLEET_TICK_SECONDS,
        start=drawn.start,
        spot_price=np.round(drawn.spot_price, 4)[:, taken],  # equal on every machine
        spot_capacity=np.where(up, room, 0)[:, taken],
        on_demand_price=drawn.on_demand_price[:, taken],
        source=f"{drawn.source}; {FEWEST} to {MOST} instances per pool that is up",
    )
