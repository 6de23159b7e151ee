"""Controllers whose journals are closed at the end of the test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizer.controller.config import ControllerSettings
from optimizer.controller.journal import Journal
from optimizer.controller.lease import Lease
from optimizer.controller.loop import Controller
from optimizer.controller.providers import Provider
from optimizer.plan import Plan
from tests.optimizer.controller.postgres import Cluster, missing
from tests.optimizer.controller.scene import Run


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of these tests' own; they skip where there is no server to start."""
    if reason := missing():
        pytest.skip(reason)
    made = Cluster()
    yield made
    made.stop()


@pytest.fixture
def state_root(tmp_path: Path) -> Iterator[Path]:
    """A folder for journals: in memory where there is such, since thousands of fsyncs prove nothing."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="spotwise-", dir=memory))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def begin(state_root: Path) -> Any:
    """Make controllers; each journal is closed at the end of the test."""
    opened: list[Journal] = []

    def make(
        the_plan: Plan,
        cloud: Any,
        *,
        provider: Provider | None = None,
        mode: str = "apply",
        folder: str = "state",
        lease: Lease | None = None,
        **settings: Any,
    ) -> Run:
        state_dir = state_root / folder
        settings.setdefault("guards", {"keep_ready": False})
        # a busy machine that compiles a planner must not turn its decisions into the baseline's
        settings.setdefault("policy_seconds", 600.0)
        made = ControllerSettings.model_validate(
            {
                "state_dir": state_dir,
                "mode": mode,
                "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
                **settings,
            }
        )
        journal = Journal(state_dir / "journal.sqlite")
        opened.append(journal)
        events: list[tuple[str, str, str]] = []
        controller = Controller(
            the_plan,
            made,
            provider or cloud.provider(),
            journal,
            lambda *event: events.append(event),
            lease=lease,
        )
        return Run(controller, journal, cloud, events)

    yield make
    for journal in opened:
        journal.close()
