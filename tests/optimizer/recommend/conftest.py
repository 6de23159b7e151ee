"""A ledger, its workloads and markets of its three instance types, made once for all tests of the report."""

from collections.abc import Callable
from typing import Any

import pytest

from optimizer.billing.ingest import ingest
from optimizer.billing.sample import demo_scenario, write_cur
from optimizer.billing.workloads import derive, write_workloads
from optimizer.recommend.run import Found, Options, recommend
from tests.optimizer.recommend.scene import TYPES, Scene, made_market


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Return the sample bill of AWS, its workloads and three markets."""
    folder = tmp_path_factory.mktemp("recommend")
    write_cur(demo_scenario("aws"), folder / "export")
    ledger, workloads = folder / "ledger.duckdb", folder / "workloads.yaml"
    ingest([str(folder / "export")], ledger)
    write_workloads(derive(ledger), workloads)
    markets = []
    for seed, name in enumerate(TYPES):
        path = folder / f"{name}.npz"
        made_market(name, seed).save(path)
        markets.append(path)
    return Scene(ledger, workloads, tuple(markets))


@pytest.fixture(scope="session")
def recommended(scene: Scene) -> Found:
    """Return the report of the scene with few windows."""
    return recommend(
        scene.ledger, scene.workloads, scene.markets, Options(windows=8, service_policy="spothedge-2")
    )


@pytest.fixture
def quick(scene: Scene) -> Callable[..., Found]:
    """Return a function that recommends with other files or options, with few windows."""

    def run(**changes: Any) -> Found:
        files = {name: changes.pop(name, getattr(scene, name)) for name in ("ledger", "workloads", "markets")}
        options: dict[str, Any] = {"windows": 6, "service_policy": "spothedge-2", **changes}
        return recommend(files["ledger"], files["workloads"], files["markets"], Options(**options))

    return run
