"""Runs schedules in a process of its own, which has no threads when it forks. Prints one JSON line per seed.

python -m tests.optimizer.controller.crashes.runner FIRST LAST
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from optimizer.controller.config import ControllerSettings
from optimizer.controller.journal import Journal
from optimizer.controller.loop import Controller
from optimizer.controller.providers.simulated import SimulatedCloud
from tests.optimizer.controller.crashes.schedule import Schedule, scenario
from tests.optimizer.controller.postgres import Cluster


class MotoTable:
    """The leases' table in moto."""

    def __init__(self) -> None:
        import boto3
        from moto import mock_aws

        os.environ |= {"AWS_ACCESS_KEY_ID": "fake", "AWS_SECRET_ACCESS_KEY": "fake"}
        self._mock = mock_aws()
        self._mock.start()
        self._client = boto3.client("dynamodb", region_name="us-east-1")
        self._client.create_table(
            TableName="leases",
            KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def clear(self) -> None:
        self._client.delete_item(TableName="leases", Key={"name": {"S": "crash"}})

    def update(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(self._client.update_item(**request))
        except self._client.exceptions.ClientError as error:
            return dict(error.response)


class Journals:
    """The cluster, with a session of the runner's own to strike with."""

    def __init__(self, cluster: Cluster) -> None:
        import psycopg

        self.folder, self._cluster = cluster.folder, cluster
        self._session = psycopg.connect(cluster.url, autocommit=True)

    def at(self, folder: Path) -> str:
        return self._cluster.at(folder)

    def end_session(self, pid: int) -> None:
        self._session.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    def clear(self) -> None:
        self._session.execute("DROP SCHEMA IF EXISTS spotwise_crash CASCADE")


def warm_up(folder: Path) -> None:
    """Run a plan here: what is compiled now need not be compiled in each process."""
    of, the_plan = scenario(0)
    cloud = SimulatedCloud(of, the_plan)
    settings = ControllerSettings.model_validate(
        {
            "state_dir": folder,
            "mode": "apply",
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
        }
    )
    with Journal(folder / "journal.sqlite") as journal:
        controller = Controller(the_plan, settings, cloud.provider(), journal, lambda *_: None)
        while not cloud.over:
            controller.run_tick()
            cloud.advance()


def main(first: int, last: int) -> int:
    """Run seeds from first to before last; the exit code is 1 if one failed."""
    table = MotoTable()
    cluster = Cluster()
    folder = Path(tempfile.mkdtemp(prefix="spotwise-crash-", dir=cluster.folder.parent))
    failed = 0
    try:
        warm_up(folder / "warm")
        journals = Journals(cluster)
        for seed in range(first, last):
            table.clear()
            journals.clear()
            mine = folder / str(seed)
            mine.mkdir()
            verdict = Schedule(seed, mine, table, journals).run()
            shutil.rmtree(mine)
            failed += bool(verdict.problems)
            line = {name: getattr(verdict, name) for name in verdict.__dataclass_fields__}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
