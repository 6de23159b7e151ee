"""How near the limit is: who is told the type of zone is the best; another season has others."""

from pathlib import Path

import numpy as np
import pytest

from policies.planner import SemiMarkovPlanner
from policies.planner.fit import SHIPPED
from simulator.synthetic import SemiMarkovModel, load_model
from training.champion.limit import TOLD, limit, main, zone_of
from training.gate import Variant

VARIANT = Variant(work_hours=20, deadline_hours=26, restart_overhead_minutes=12)


@pytest.fixture(scope="module")
def model() -> SemiMarkovModel:
    return load_model(SHIPPED)


def test_the_type_is_worth_knowing_and_room_for_unlike_zones_pays_in_another_season(
    model: SemiMarkovModel,
) -> None:
    policies = {"fitted": SemiMarkovPlanner(model, unlike=0.0), "broad": SemiMarkovPlanner(model)}
    gaps = limit(model, policies, [VARIANT], spread=1.2, zones=25, windows=20)
    assert gaps["fitted"][0] < gaps["broad"][0] < gaps[TOLD][0] < 1.0


def test_zones_of_no_spread_are_the_fitted_ones_and_the_same_seed_draws_the_same(
    model: SemiMarkovModel,
) -> None:
    zone = zone_of(model, 0.0, np.random.default_rng(1))
    assert any((zone.hazard[0] == fitted).all() for fitted in model.hazard)
    other = zone_of(model, 1.0, np.random.default_rng(1))
    assert not any((other.hazard[0] == fitted).all() for fitted in model.hazard)
    policies = {"planner": SemiMarkovPlanner(model)}
    first, second = (
        limit(model, policies, [VARIANT], spread=0.5, zones=2, windows=3, seed=4) for _ in range(2)
    )
    assert first == second


def test_the_command_prints_a_table_per_spread(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--zones", "1", "--windows", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("spread") == 3
    assert printed.count("| champion |") == 3
    assert main(["--zones", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert main(["--champion", str(tmp_path / "none.policy")]) == 2
