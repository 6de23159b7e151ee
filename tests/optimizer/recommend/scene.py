"""Files that a report is made from."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simulator.market import Market, Pool
from simulator.synthetic import load_model, synthetic_market

TYPES = {"m5.large": (0.0361, 0.096), "c5.2xlarge": (0.1399, 0.34), "r5.xlarge": (0.0908, 0.252)}
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")


@dataclass(frozen=True)
class Scene:
    """Where the files are."""

    ledger: Path
    workloads: Path
    markets: tuple[Path, ...]


def made_market(instance_type: str, seed: int, *, days: int = 40, provider: str = "aws") -> Market:
    """A market as if it had been recorded: synthetic availability, but not called so."""
    spot, on_demand = TYPES[instance_type]
    drawn = synthetic_market(
        load_model(),
        [Pool(provider, "us-east-1", zone, instance_type) for zone in ZONES],
        ticks=days * 144,
        seed=seed,
        spot_price=spot,
        on_demand_price=on_demand,
        capacity=20,
        start=datetime(2024, 3, 1, tzinfo=UTC),
    )
    return Market(
        drawn.pools,
        drawn.tick_seconds,
        drawn.start,
        drawn.spot_price,
        drawn.spot_capacity,
        drawn.on_demand_price,
        "made for tests",
    )
