"""Jobs that may run on other types and in other regions: from workloads.yaml to the plan."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from optimizer.plan import DeadlineWorkload, read_plan
from optimizer.recommend.jobs import JobCase, job_bound, replay_job
from optimizer.recommend.markdown import render_markdown
from optimizer.recommend.match import NamedMarket
from optimizer.recommend.run import Found
from optimizer.recommend.sharing import shared_in_part
from optimizer.recommend.write import write_report
from policies.registry import load_policy
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.terms import PoolTerms
from simulator.market import Market, Pool
from simulator.synthetic import load_model, synthetic_market
from tests.optimizer.recommend.scene import Scene

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OWN, FASTER = "c5.2xlarge", "c5.4xlarge"
HOME, OTHER = "us-east-1", "us-west-2"
TERMS = {
    "throughput": {FASTER: 1.9},
    "regions": [OTHER],
    "checkpoint_size_gb": 50,
    "bandwidth_mb_per_second": 200,
    "transfers": [{"from_region": OTHER, "to_region": HOME, "egress_usd_per_gb": 0.01}],
}


def drawn(
    instance_type: str,
    region: str,
    spot: float,
    on_demand: float,
    *,
    seed: int = 0,
    day: int = 1,
    tick: int = 600,
) -> Market:
    """40 days of two zones, as if they had been recorded."""
    made = synthetic_market(
        load_model(),
        [Pool("aws", region, f"{region}{zone}", instance_type) for zone in "ab"],
        ticks=40 * 144,
        seed=seed,
        spot_price=spot,
        on_demand_price=on_demand,
        capacity=20,
        start=datetime(2024, 3, day, tzinfo=UTC),
    )
    return Market(
        made.pools,
        tick,
        made.start,
        made.spot_price,
        made.spot_capacity,
        made.on_demand_price,
        "made for tests",
    )


def side_by_side(one: Market, other: Market) -> Market:
    def both(name: str) -> Any:
        return np.concatenate([getattr(one, name), getattr(other, name)])

    pools = one.pools + other.pools
    made = (both("spot_price"), both("spot_capacity"), both("on_demand_price"))
    return Market(pools, 600, one.start, *made, "made for tests")


@pytest.fixture(scope="module")
def markets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Market files: the job's own pools, the faster type beside them, its own type in another region."""
    folder = tmp_path_factory.mktemp("markets")
    made = {
        "own": drawn(OWN, HOME, 0.14, 0.34, seed=2),
        "faster": drawn(FASTER, HOME, 0.24, 0.68, seed=3, day=3),
        "west": drawn(OWN, OTHER, 0.10, 0.36, seed=4),
        "slow tick": drawn(OWN, OTHER, 0.10, 0.36, seed=4, tick=1200),
    }
    for name, market in made.items():
        market.save(folder / f"{name}.npz")
    return {name: folder / f"{name}.npz" for name in made}


@pytest.fixture(scope="module")
def workloads(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes the scene's job with other terms."""

    def write(**terms: Any) -> Path:
        folder = tmp_path_factory.mktemp("wide")
        data = yaml.safe_load(scene.workloads.read_text())
        data["workloads"] = [one for one in data["workloads"] if one["name"] == "nightly-etl"]
        data["workloads"][0]["job"] |= terms
        shutil.copy(scene.workloads.parent / data["demand_file"], folder)
        path = folder / "workloads.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return write


def spotwise(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "optimizer.cli", *arguments], capture_output=True, text=True, check=False
    )


def all_of(markets: dict[str, Path], *names: str) -> tuple[Path, ...]:
    return tuple(markets[name] for name in names)


@pytest.mark.parametrize("policy", ["on-demand", "greedy", "planner"])
def test_a_replay_works_at_each_pools_pace_and_pays_for_copies(policy: str) -> None:
    parts = [drawn(OWN, HOME, 0.14, 0.34, seed=2), drawn(FASTER, OTHER, 0.12, 0.68, seed=3)]
    market = side_by_side(*parts)
    terms = PoolTerms(
        throughput=tuple((pool.name, 1.9) for pool in market.pools[2:]),
        move_seconds=500.0,
        move_usd=0.05,
        data_region=HOME,
    )
    job = DeadlineJob(9 * 3600.0, 24 * 3600.0, 720.0, nodes=2, terms=terms)
    starts = np.array([0, 300, 700, 2000])
    rate = 2 * 0.34
    case = JobCase((NamedMarket("m", market),), np.zeros(4, np.int64), starts, 1, 144, job, rate, (0, 1))
    found = replay_job(case, policy)
    # all on-demand prices are twice the market's
    twice = Market(
        market.pools,
        600,
        market.start,
        market.spot_price,
        market.spot_capacity,
        2 * market.on_demand_price,
        "",
    )
    batch = DeadlineBatch.of(MarketStack.of([twice], terms), job, np.zeros(4, np.int64), starts)
    decider = load_policy(policy)
    memory = decider.reset(4, len(market.pools))
    while not batch.done.all():
        action, memory = decider.act(batch.observe(), memory)
        batch.step(action)
    assert found.cost == pytest.approx(batch.cost)
    # compared with the pools that were billed: 9.2 h of two instances
    assert found.on_demand == pytest.approx(np.ceil(9.2 * 6) / 6 * 2 * rate)
    if policy == "on-demand":
        assert found.cost == pytest.approx(found.on_demand)
        assert not found.egress.any()
    else:
        copies = found.egress / 0.05
        assert copies.sum() >= 1
        assert copies == pytest.approx(np.rint(copies))
    assert (found.cost >= job_bound(case) - 1e-9).all()


def test_types_and_regions_go_from_the_file_through_the_report_into_the_plan(
    workloads: Callable[..., Path], markets: dict[str, Path], quick: Callable[..., Found], tmp_path: Path
) -> None:
    files = all_of(markets, "own", "faster", "west")
    found = quick(workloads=workloads(**TERMS), markets=files)
    (workload,) = found.report.workloads
    assert workload.market is not None, workload.decision
    assert len(workload.market.pools) == 6
    assert workload.market.files == ("own.npz + faster.npz + west.npz",)
    told = workload.differences
    assert told is not None
    assert told.throughput["aws/us-east-1a/c5.4xlarge"] == 1.9
    assert told.throughput["aws/us-west-2b/c5.2xlarge"] == 1.0
    assert (told.checkpoint_region, told.checkpoint_size_gb) == (HOME, 50.0)
    copies = {(one.from_region, one.to_region): (one.minutes, one.usd) for one in told.copies}
    assert copies == {
        (HOME, OTHER): pytest.approx((50_000 / 200 / 60, 1.0)),
        (OTHER, HOME): pytest.approx((50_000 / 200 / 60, 0.5)),
    }
    said = " ".join(workload.decision.assumptions)
    assert "1.9 in aws/us-east-1a/c5.4xlarge, aws/us-east-1b/c5.4xlarge; 1 in all others" in said
    assert "its checkpoint of 50 GB is in us-east-1" in said
    assert "4.2 min and 0.50 to 1.00 USD" in said

    champion = workload.scenario("champion")
    alone = (
        quick(workloads=workloads(), markets=all_of(markets, "own")).report.workloads[0].scenario("champion")
    )
    assert champion is not None
    assert alone is not None
    assert champion.monthly_usd < alone.monthly_usd
    written = write_report(found, tmp_path, NOW)
    assert written.plan is not None, workload.decision
    page = written.report.read_text()
    assert "its checkpoint of 50 GB is in us-east-1" in page
    (planned,) = read_plan(written.plan, now=NOW).workloads
    assert isinstance(planned, DeadlineWorkload)
    assert len(planned.pools) == 6
    prices = {pool.name: pool.on_demand_price for pool in planned.pools}
    rate = workload.billed.on_demand_rate
    assert rate is not None
    assert prices["aws/us-east-1a/c5.2xlarge"] == pytest.approx(rate)
    assert prices["aws/us-east-1a/c5.4xlarge"] == pytest.approx(2 * rate)
    assert prices["aws/us-west-2a/c5.2xlarge"] == pytest.approx(rate * 0.36 / 0.34)
    terms = planned.job.terms
    assert terms is not None
    assert terms.of_pool(planned.pools[2].pool) == 1.9
    assert (terms.between(HOME, OTHER), terms.between(OTHER, HOME)) == ((250.0, 1.0), (250.0, 0.5))
    assert any("its checkpoint of 50 GB" in text for text in planned.reasons)


def test_what_copies_cost_is_shown_in_the_report(
    workloads: Callable[..., Path], markets: dict[str, Path], quick: Callable[..., Found]
) -> None:
    wide = workloads(regions=[OTHER], checkpoint_size_gb=1)
    report = quick(workloads=wide, markets=all_of(markets, "own", "west")).report
    (workload,) = report.workloads
    champion = workload.scenario("champion")
    assert champion is not None
    # going where it is cheaper is worth 2 cents to the job
    assert 0 < champion.egress_usd < champion.monthly_usd
    total = {one.role: one.egress_usd for one in report.total}
    assert total["champion"] == pytest.approx(champion.egress_usd)
    assert f"copies between regions {champion.egress_usd:,.2f} USD a month" in champion.extra_words
    decision = workload.decision.model_copy(
        update={"action": "move", "role": "champion", "policy": champion.policy}
    )
    moved = report.model_copy(update={"workloads": (workload.model_copy(update={"decision": decision}),)})
    assert champion.extra_words in render_markdown(moved)


def test_pools_that_differ_in_price_only_have_no_terms(
    workloads: Callable[..., Path], markets: dict[str, Path], quick: Callable[..., Found]
) -> None:
    found = quick(workloads=workloads(regions=[OTHER]), markets=all_of(markets, "own", "west"))
    (workload,) = found.report.workloads
    assert workload.differences is None
    assert workload.market is not None
    assert len(workload.market.pools) == 4
    # on-demand capacity is compared at what it was billed for, though the other region's costs more
    on_demand = workload.scenario("on-demand")
    assert on_demand is not None
    assert on_demand.monthly_usd == pytest.approx(
        workload.commitment.covered_cost + found.judged[0].subject.residual_on_demand
    )


@pytest.mark.parametrize(
    ("terms", "names", "says"),
    [
        ({"throughput": {"p9.large": 2.0}}, ("own",), "own.npz: no pool of p9.large"),
        ({"regions": ["eu-west-1"]}, ("own", "west"), "no pool in eu-west-1"),
        (
            {"throughput": {"aws/us-east-1q/c5.2xlarge": 0.5}, "regions": [OTHER]},
            ("own", "west"),
            "no pool aws/us-east-1q/c5.2xlarge",
        ),
        ({"regions": [OTHER]}, ("own", "slow tick"), "if they have the same tick and share time"),
        ({"regions": [OTHER]}, ("west",), "every type and region that the job names"),
        (
            {
                "throughput": {f"aws/{OTHER}a/{OWN}": 0.5, f"aws/{OTHER}b/{OWN}": 0.5},
                "regions": [OTHER],
                "checkpoint_size_gb": 5,
            },
            ("own", "west"),
            "region us-west-2: no pool has a throughput of 1 or more",
        ),
    ],
)
def test_what_no_market_has_changes_nothing_and_says_so(
    workloads: Callable[..., Path],
    markets: dict[str, Path],
    quick: Callable[..., Found],
    terms: dict[str, Any],
    names: tuple[str, ...],
    says: str,
) -> None:
    (workload,) = quick(workloads=workloads(**terms), markets=all_of(markets, *names)).report.workloads
    assert workload.decision.action == "change-nothing"
    assert says in " ".join((*workload.decision.reasons, *workload.decision.missing_data))


def test_a_single_pool_that_no_market_has_is_told_too(
    workloads: Callable[..., Path], markets: dict[str, Path], quick: Callable[..., Found]
) -> None:
    wide = workloads(throughput={"aws/us-east-1q/c5.2xlarge": 0.5})
    (workload,) = quick(workloads=wide, markets=all_of(markets, "own")).report.workloads
    assert workload.decision.action == "change-nothing"
    assert "no pool aws/us-east-1q/c5.2xlarge" in " ".join(workload.decision.reasons)


def test_a_pool_that_two_want_and_has_not_enough_for_both_is_told(
    workloads: Callable[..., Path], markets: dict[str, Path], quick: Callable[..., Found]
) -> None:
    found = quick(workloads=workloads(regions=[OTHER]), markets=all_of(markets, "own", "west"))
    (one,) = found.judged
    move = found.report.workloads[0].decision.model_copy(update={"action": "move", "role": "champion"})
    few = quick(workloads=workloads(), markets=all_of(markets, "own")).judged[0]
    assert shared_in_part([one, few], [move, move]) == ()
    scarce = [
        replace(named, market=replace(named.market, spot_capacity=np.minimum(named.market.spot_capacity, 5)))
        for named in few.subject.match.markets
    ]
    match = replace(few.subject.match, markets=tuple(scarce))
    few = replace(few, subject=replace(few.subject, match=match))
    (note,) = shared_in_part([one, few], [move, move])
    assert note.startswith("nightly-etl, nightly-etl may ask for more of aws/us-east-1a/c5.2xlarge, aws/us-")
    assert shared_in_part([few, few], [move, move]) == ()
    stays = move.model_copy(update={"action": "change-nothing"})
    assert shared_in_part([one, few], [move, stays]) == ()


def test_from_the_file_to_placements_as_the_user_types_it(
    workloads: Callable[..., Path], markets: dict[str, Path], scene: Scene, tmp_path: Path
) -> None:
    arguments = [
        "recommend",
        "--ledger",
        str(scene.ledger),
        "--windows",
        "6",
        "--out",
        str(tmp_path / "report"),
    ]
    for name in ("own", "faster", "west"):
        arguments += ["--market", str(markets[name])]
    done = spotwise(*arguments, "--workloads", str(workloads(**TERMS)))
    assert done.returncode == 0, done.stderr
    (planned,) = read_plan(tmp_path / "report" / "plan.yaml").workloads
    assert isinstance(planned, DeadlineWorkload)
    assert planned.data_region == HOME
    assert planned.deadline - planned.begins > timedelta(hours=1)

    files = ", ".join(str(markets[name]) for name in ("own", "faster", "west"))
    (tmp_path / "c.yaml").write_text(
        f"state_dir: {tmp_path}/state\nprovider: {{kind: simulated, simulated: {{market: [{files}]}}}}\n"
    )
    words = ["controller", "run", "--plan", str(tmp_path / "report" / "plan.yaml"), "--mode", "apply"]
    done = spotwise(*words, "--config", str(tmp_path / "c.yaml"), "--ticks", "300", "--json")
    assert done.returncode == 0, done.stderr
    (status,) = json.loads(done.stdout)["workloads"]
    assert status["state"] == "done", status
    assert status["data_region"] in (HOME, OTHER)
    on_demand = planned.nodes * planned.work_hours * planned.pools[0].on_demand_price
    assert 0 < status["cost_usd"] < on_demand

    wrong = workloads(**(TERMS | {"checkpoint_size_gb": float("nan")}))
    done = spotwise(*arguments, "--workloads", str(wrong))
    assert done.returncode == 2
    assert "field workloads.0.job.checkpoint_size_gb: " in done.stderr
    assert "Traceback" not in done.stderr
