"""What every test can rely on: hypothesis profiles, the real data, and no silent skips in CI."""

import json
import os
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

from simulator.deadline import MarketStack
from simulator.market import Market, Pool

REPO_ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA_ABSENT = "shared data is absent"
IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}

# Wall time says nothing on a shared machine: no deadlines. CI must give the same verdict twice.
settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real public data, which is never part of this repository.

    It is `$SPOTWISE_SHARED_DATA`, otherwise `../shared/data` beside the checkout. Where it is absent the test
    is skipped, and in CI (`CI` set) failed.
    """
    path = Path(os.environ.get("SPOTWISE_SHARED_DATA", REPO_ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"{SHARED_DATA_ABSENT}: no folder {path}; set SPOTWISE_SHARED_DATA")
    return path


@pytest.fixture(scope="session")
def shared_reference(shared_data: Path) -> Path:
    """Return the folder of recorded runs and reference figures beside `shared_data`."""
    path = shared_data.parent / "reference"
    if not path.is_dir():
        pytest.skip(f"{SHARED_DATA_ABSENT}: no folder {path}")
    return path


@pytest.fixture(scope="session")
def golden_deadline_runs(shared_data: Path, shared_reference: Path) -> tuple[MarketStack, pd.DataFrame]:
    """Return the 576 recorded runs of the published simulator and the markets that they ran on.

    One row per run, with the columns of the file and `market`, the run's market in the stack. The series
    are resampled from 195 s to 600 s by taking sample floor(i * 600 / 195).
    """
    runs = pd.read_csv(shared_reference / "golden_deadline_2023.csv.gz")
    folder = shared_data / "traces/skypilot_spot_traces/availability/1-node/aws-02-15-2023"
    names = sorted(runs["series"].unique())
    markets = []
    for name in names:
        samples = np.array(json.loads((folder / f"{name}.json").read_text())["data"])
        ticks = len(samples) * 195 // 600
        markets.append(
            Market.build(
                [Pool("aws", name[:9], name.split("_")[0], "v100")],
                tick_seconds=600,
                start=datetime(2023, 2, 15, tzinfo=UTC),
                spot_price=0.9731,
                spot_capacity=samples[None, np.arange(ticks) * 600 // 195],
                on_demand_price=3.06,
            )
        )
    runs["market"] = [names.index(name) for name in runs["series"]]
    return MarketStack.of(markets), runs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail in CI what was skipped for want of the shared data: a green CI means the golden runs ran."""
    report = yield
    if IN_CI and report.skipped and SHARED_DATA_ABSENT in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"In CI the shared data must be there. {report.longrepr}"
    return report
