"""The shipped parameters: made by the documented command from the six training zones and nothing else."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from simulator.market.build import BuildOptions, build_market
from simulator.market.market import Market, Pool
from simulator.synthetic import SemiMarkovModel, load_model
from simulator.synthetic.fit import main

TRAINING_ZONES = ("us-east-1a", "us-east-1c", "us-east-1f", "us-east-2a", "us-west-2b", "us-west-2c")


def test_shipped_parameters_come_from_the_training_zones_only(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "traces/skypilot_spot_traces/availability/1-node/aws-02-15-2023"
    market = build_market(
        [folder / f"{zone}_v100_1.json" for zone in TRAINING_ZONES],
        BuildOptions(spot_price=0.9731, on_demand_price=3.06),
    )
    market.save(tmp_path / "six.npz")
    assert main([str(tmp_path / "six.npz"), "--out", str(tmp_path / "model.json")]) == 0
    again, shipped = load_model(tmp_path / "model.json"), load_model()
    np.testing.assert_allclose(again.hazard, shipped.hazard, rtol=1e-9)
    np.testing.assert_allclose(again.prior, shipped.prior, rtol=1e-9)
    assert again.persistence == pytest.approx(shipped.persistence)
    assert again.source == shipped.source


def test_shipped_parameters_name_no_validation_zone() -> None:
    source = load_model().source
    assert all(zone in source for zone in TRAINING_ZONES)
    assert not any(zone in source for zone in ("us-west-2a", "us-east-1d", "us-east-2b"))


def test_settings_of_the_shipped_model() -> None:
    model = load_model()
    assert model.hazard.shape == (6, 2, 6)
    assert model.age_edges == (1, 2, 4, 8, 20, 60)
    assert (model.tick_seconds, model.chunk_ticks) == (600, 276)


def market_of(values: np.ndarray, tick_seconds: int = 600) -> Market:
    return Market.build(
        [Pool("aws", "us-east-1", "us-east-1a", "v100")],
        tick_seconds=tick_seconds,
        start=datetime(2023, 2, 15, tzinfo=UTC),
        spot_price=1.0,
        spot_capacity=values[None, :],
        on_demand_price=3.0,
    )


def test_markets_of_different_ticks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for tick in (300, 600):
        paths.append(tmp_path / f"{tick}.npz")
        market_of(np.arange(2000) // 7 % 2, tick).save(paths[-1])
    assert main([*map(str, paths), "--out", str(tmp_path / "model.json")]) == 2
    assert "ticks of [300, 600] s" in capsys.readouterr().err
    assert not (tmp_path / "model.json").exists()


def test_types_and_chunks_are_options(tmp_path: Path) -> None:
    market_of(np.arange(2000) // 7 % 2).save(tmp_path / "m.npz")
    out = tmp_path / "model.json"
    assert main([str(tmp_path / "m.npz"), "--out", str(out), "--types", "2", "--chunk-ticks", "100"]) == 0
    model = SemiMarkovModel.from_json(out.read_text())
    assert (model.types, model.chunk_ticks) == (2, 100)
    assert json.loads(out.read_text())["format"] == "spotwise-semi-markov"


def test_missing_market_and_unwritable_output_exit_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.npz"), "--out", str(tmp_path / "x.json")]) == 2
    market_of(np.arange(2000) // 7 % 2).save(tmp_path / "m.npz")
    assert main([str(tmp_path / "m.npz"), "--types", "1", "--out", str(tmp_path / "no" / "x.json")]) == 2
    errors = capsys.readouterr().err
    assert "no such file" in errors
    assert "cannot be written" in errors
