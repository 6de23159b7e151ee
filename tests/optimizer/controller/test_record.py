"""What the controller saw becomes a market that replay can use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from optimizer.cli import app
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.record import recorded_market
from optimizer.plan import write_plan
from simulator.errors import InputError
from simulator.market import Market
from simulator.market.market import UNLIMITED_CAPACITY
from tests.optimizer.controller.scene import Begin, job, market, plan, service


def test_a_pool_that_is_always_asked_is_recorded_as_it_was(begin: Begin) -> None:
    capacity = np.random.default_rng(2).integers(0, 3, (1, 60))
    of = market(capacity, spot=np.linspace(1.0, 2.0, 60)[None])
    the_plan = plan(of, service(of, cold_start_minutes=0.0, demand={"source": "fixed", "instances": 2}))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    for _ in range(59):
        run.controller.run_tick()
        cloud.advance()
    found = recorded_market(run.journal.seen(), the_plan)
    assert (found.tick_seconds, found.start, found.ticks) == (600, of.start, 59)
    np.testing.assert_array_equal(found.spot_price, of.spot_price[:, :59])
    np.testing.assert_array_equal(np.minimum(found.spot_capacity, 2), capacity[:, :59])
    np.testing.assert_array_equal(found.on_demand_price, of.on_demand_price[:, :59])


def test_what_was_not_tried_keeps_what_was_known() -> None:
    of = market([[1] * 10, [1] * 10])
    the_plan = plan(of, job(of))
    start = of.start.timestamp()
    one, two = "aws/us-east-1a/m5.large", "aws/us-east-1b/m5.large"
    seen = [
        (start, one, 1.0, 0, False),
        (start, two, 1.5, 0, False),
        (start + 600, one, None, 0, True),
        (start + 3000, one, 2.0, 1, False),
    ]
    found = recorded_market(seen, the_plan)
    many = UNLIMITED_CAPACITY
    assert found.spot_capacity.tolist() == [[many, 0, 0, 0, 0, many], [many] * 6]
    assert found.spot_price.tolist() == [[1.0] * 5 + [2.0], [1.5] * 6]
    with pytest.raises(InputError, match="seen no pool"):
        recorded_market([], the_plan)
    with pytest.raises(InputError, match="no price of pool"):
        recorded_market(seen[:1], the_plan)


def test_the_command_writes_a_market_file(tmp_path: Path) -> None:
    of = market([[9] * 120])
    of.save(tmp_path / "market.npz")
    write_plan(plan(of, job(of)), tmp_path / "plan.yaml")
    (tmp_path / "c.yaml").write_text(
        f"state_dir: {tmp_path}/state\nmode: apply\n"
        f"provider: {{kind: simulated, simulated: {{market: {tmp_path}/market.npz}}}}\n"
    )
    both = ["--plan", str(tmp_path / "plan.yaml"), "--config", str(tmp_path / "c.yaml")]
    runner = CliRunner()
    out = ["--out", str(tmp_path / "seen.npz")]
    early = runner.invoke(app, ["controller", "record", *both, *out])
    assert isinstance(early.exception, InputError)
    assert runner.invoke(app, ["controller", "run", *both, "--ticks", "20"]).exit_code == 0
    done = runner.invoke(app, ["controller", "record", *both, *out, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["ticks"] == 20
    assert Market.load(tmp_path / "seen.npz").ticks == 20
