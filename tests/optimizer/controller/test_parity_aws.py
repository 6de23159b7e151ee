"""One market through the environment, replay, the simulated cloud and the fake AWS, tick for tick.

Policies here decide by what they hold and what they were refused: AWS tells no capacity before one asks, so
planners that look at pools which they do not use see more in replay than on AWS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.fake_aws import FakeAws
from policies.registry import load_policy
from simulator.deadline import DeadlineJob, MarketStack
from simulator.market import Market
from simulator.service import Service, ServiceBatch
from tests.optimizer.controller.scene import Begin, Run, job, market, on_fake, plan, service
from tests.optimizer.controller.test_parity import replayed, stepped

TICKS, SERVICE_TICKS = 95, 50


def a_market(seed: int, most: int) -> Market:
    """Three pools whose capacity comes and goes, at prices that move."""
    rng = np.random.default_rng(seed)
    rows = [np.repeat(rng.integers(0, most + 1, TICKS), rng.integers(1, 12, TICKS))[:TICKS] for _ in "abc"]
    return market(rows, spot=rng.uniform(0.5, 1.5, (3, TICKS)).round(4))


def run_both(
    begin: Begin, of: Market, the_plan: Any, ticks: int, look: Any
) -> tuple[list[Any], list[Any], Any]:
    """What `look` gives after each tick on the simulated cloud and on the fake AWS, and the fake's bill."""
    cloud = SimulatedCloud(of, the_plan)
    simulated = begin(the_plan, cloud, folder="simulated")
    one = []
    for _ in range(ticks):
        simulated.controller.run_tick()
        one.append(look(simulated))
        cloud.advance()
    two = []
    with FakeAws(of) as fake:
        on_aws = begin(the_plan, fake, provider=on_fake(fake, the_plan), folder="aws")
        for _ in range(ticks):
            on_aws.controller.run_tick()
            two.append(look(on_aws))
            fake.advance(of.tick_seconds)
        bill = fake.bill()
    return one, two, bill


@pytest.mark.parametrize("policy", ["on-demand", "spot-when-available", "greedy", "uniform-progress"])
def test_a_job_is_placed_and_billed_the_same_everywhere(begin: Begin, policy: str) -> None:
    of = a_market(3, most=1)
    the_plan = plan(of, job(of, policy=policy))

    def look(run: Run) -> tuple[int, float, float]:
        fleet, _ = run.controller.jobs[0]
        return int(fleet.placement[0]), float(fleet.work_left[0]), float(fleet.cost[0])

    on_simulated, on_aws, bill = run_both(begin, of, the_plan, 90, look)
    placements, batch = replayed(of, policy, DeadlineJob(36000, 50400, 600), 0)
    assert [placement for placement, _, _ in on_simulated[: len(placements)]] == placements
    assert on_aws == on_simulated, "placement, work left and cost at every tick, to the last bit"
    assert on_aws[-1][2] == batch.cost[0] == stepped(of, DeadlineJob(36000, 50400, 600), 0, placements)
    assert float(bill.total) == pytest.approx(batch.cost[0], abs=0.005), "to the cent"


@pytest.mark.parametrize("policy", ["even-spread", "spothedge-1"])
@pytest.mark.parametrize("cold_minutes", [0.0, 30.0])
def test_a_service_is_held_and_billed_the_same_everywhere(
    begin: Begin, policy: str, cold_minutes: float
) -> None:
    of = a_market(5, most=4)
    demand = np.random.default_rng(6).integers(0, 7, TICKS - 1)
    series = {
        "source": "series",
        "start": of.start,
        "step_seconds": of.tick_seconds,
        "instances": [int(count) for count in demand],
    }
    the_plan = plan(of, service(of, policy=policy, cold_start_minutes=cold_minutes, demand=series))

    def look(run: Run) -> tuple[list[int], list[int], float]:
        fleet, _ = run.controller.services[0]
        return fleet.asked[0].tolist(), fleet.granted[0].tolist(), float(fleet.cost[0])

    on_simulated, on_aws, bill = run_both(begin, of, the_plan, SERVICE_TICKS, look)
    terms = Service.of(demand, tick_seconds=of.tick_seconds, cold_start_seconds=60 * cold_minutes)
    batch = ServiceBatch(MarketStack.of([of]), terms, 0, [0])
    decider = load_policy(policy, "service")
    memory = decider.reset(1, 3)
    expected = []
    for _ in range(SERVICE_TICKS):
        asked, memory = decider.act(batch.observe(), memory)
        batch.step(asked)
        expected.append((asked[0].tolist(), batch.observe().granted[0].tolist()))
    assert on_aws == on_simulated, "what was asked, what was granted and cost, to the last bit"
    assert [(asked, granted) for asked, granted, _ in on_aws] == expected
    # replay does not charge the first cold start, in which nothing can be ready
    _, _, warm_up = on_aws[round(60 * cold_minutes / of.tick_seconds)]
    assert float(bill.total) - warm_up == pytest.approx(batch.cost[0], abs=0.005), "to the cent"
