"""The sample markets are what the documented command makes."""

from pathlib import Path

import numpy as np
import pytest

from simulator.errors import InputError
from simulator.market import sample_market
from simulator.sample_data import SAMPLES, make_sample, sample_path


@pytest.mark.parametrize("name", SAMPLES)
def test_regeneration_gives_the_shipped_market(name: str) -> None:
    shipped, made = sample_market(name), make_sample(name)
    assert shipped.pools == made.pools
    assert (shipped.start, shipped.tick_seconds, shipped.source) == (
        made.start, made.tick_seconds, made.source,
    )  # fmt: skip
    for array in ("spot_price", "spot_capacity", "on_demand_price"):
        np.testing.assert_array_equal(getattr(shipped, array), getattr(made, array))


def test_saving_a_sample_again_gives_the_same_arrays_on_disk(tmp_path: Path) -> None:
    make_sample("v100").save(tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as again, np.load(sample_path("v100")) as shipped:
        assert all(again[name].tobytes() == shipped[name].tobytes() for name in shipped.files)


def test_sample_is_like_the_v100_pools_it_stands_for() -> None:
    market = sample_market()
    assert (len(market.pools), market.tick_seconds, market.ticks) == (8, 600, 45 * 144)
    assert (market.spot_price == 0.9731).all()
    assert (market.on_demand_price == 3.06).all()
    availability = (market.spot_capacity > 0).mean(axis=1)
    assert availability.min() > 0.1
    assert availability.max() < 0.99
    assert "SYNTHETIC" in market.source
    assert (sample_market("v100-unseen").spot_capacity != market.spot_capacity).any()


def test_fleet_has_room_for_several_instances_and_loses_them_at_any_minute() -> None:
    market = sample_market("fleet")
    assert (len(market.pools), market.tick_seconds, market.ticks) == (6, 60, 28 * 1440)
    assert len({pool.region for pool in market.pools}) == 3
    assert set(np.unique(market.spot_capacity)) == {0, 2, 3, 4, 5, 6}
    assert (market.spot_price < market.on_demand_price).all()
    changes = np.flatnonzero((np.diff(market.spot_capacity, axis=1) != 0).any(axis=0)) + 1
    assert set(changes % 10) == set(range(10))
    assert "SYNTHETIC" in market.source


def test_unknown_sample_is_refused() -> None:
    with pytest.raises(InputError, match="accepted: v100, v100-unseen, fleet"):
        sample_market("h100")
