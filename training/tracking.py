"""Tracking of training runs in MLflow; MLflow is imported only when a run begins."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from simulator.errors import SpotwiseError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
HIGHEST_PARAMETER = 500
"""MLflow refuses longer parameter values."""

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Environment of MLflow where the user set nothing: no telemetry, and a dead server is told in seconds."""
BUNDLE_FOLDER = "policy"
"""Where the bundle lies among the artefacts of a run."""

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """What the trainer tells about a run."""

    def begin(
        self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], run: str | None
    ) -> str:
        """Begin a run, or go on with `run`; returns the run's id."""
        ...

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Note the metrics of one rollout."""
        ...

    def bundle(self, path: Path, registered_model: str) -> str:
        """Keep the policy bundle with the run and register it; returns the version of the model."""
        ...

    def end(self, status: Status) -> None:
        """End the run."""
        ...


class TrackingError(SpotwiseError):
    """The tracking store cannot be used; what was trained so far is in the checkpoint."""


class NoTracker:
    """Tells nobody."""

    def begin(
        self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], run: str | None
    ) -> str:
        """Nothing is begun."""
        del name, parameters, tags
        return run or ""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing is noted."""

    def bundle(self, path: Path, registered_model: str) -> str:
        """Nothing is kept."""
        del path, registered_model
        return ""

    def end(self, status: Status) -> None:
        """Nothing is ended."""


class MLflowTracker:
    """Runs in an MLflow tracking server or database."""

    def __init__(self, tracking_uri: str = DEFAULT_TRACKING_URI, experiment: str = "spotwise") -> None:
        """Nothing is contacted before `begin`."""
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self._client: MlflowClient | None = None
        self._run = ""

    def begin(
        self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], run: str | None
    ) -> str:
        """Begin a run, or go on with `run` if the server knows it; returns the run's id.

        Raises:
            TrackingError: The tracking server cannot be reached or used.
        """
        for variable, value in SETTINGS.items():
            os.environ.setdefault(variable, value)
        self._check_database()
        from mlflow.entities import Param, RunTag
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        # importing MLflow sets their levels; creating a database is chatty
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        try:
            self._client = client = MlflowClient(self.tracking_uri)
            found = client.get_experiment_by_name(self.experiment)
            experiment = found.experiment_id if found else client.create_experiment(self.experiment)
            if run and self._known(client, run, experiment):
                self._run = run
                client.update_run(run, status="RUNNING")
                return run
            self._run = client.create_run(experiment, run_name=name).info.run_id
            client.log_batch(
                self._run,
                params=[Param(k, str(v)[:HIGHEST_PARAMETER]) for k, v in sorted(parameters.items())],
                tags=[RunTag(k, v) for k, v in sorted(tags.items())],
            )
        except MlflowException as error:
            raise TrackingError(f"MLflow at {self.tracking_uri}: {error.message}") from error
        return self._run

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Note the metrics of one rollout."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(name, value, now, step) for name, value in values.items()]
        with self._reported():
            self._begun().log_batch(self._run, metrics=batch)

    def bundle(self, path: Path, registered_model: str) -> str:
        """Keep the policy bundle with the run and register it; returns the version of the model."""
        from mlflow.exceptions import MlflowException

        client = self._begun()
        with self._reported():
            client.log_artifact(self._run, str(path), BUNDLE_FOLDER)
            # a model version is a folder: what `models:/NAME/VERSION` downloads
            source = f"{client.get_run(self._run).info.artifact_uri}/{BUNDLE_FOLDER}"
            try:
                client.get_registered_model(registered_model)
            except MlflowException:
                client.create_registered_model(registered_model)
            return str(client.create_model_version(registered_model, source, run_id=self._run).version)

    def alias(self, registered_model: str, alias: str, version: str) -> None:
        """Let an alias of a registered model point to one of its versions."""
        with self._reported():
            self._begun().set_registered_model_alias(registered_model, alias, version)

    def end(self, status: Status) -> None:
        """End the run.

        A store that fails now is logged, not raised: what ended the run must not be hidden behind it.
        """
        if self._client is not None and self._run:
            try:
                with self._reported():
                    self._client.set_terminated(self._run, status)
            except TrackingError as error:
                logging.getLogger("spotwise").warning("%s; the run stays open there", error)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what a tracking store throws into one error that names it."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except MlflowException as error:
            raise TrackingError(f"MLflow at {self.tracking_uri}: {error.message}") from error
        except (SQLAlchemyError, OSError) as error:
            raise TrackingError(f"MLflow at {self.tracking_uri}: {error}") from error

    def _begun(self) -> MlflowClient:
        if self._client is None:
            raise SpotwiseError("no MLflow run was begun")
        return self._client

    def _check_database(self) -> None:
        """Refuse a SQLite file that cannot be written; MLflow would go on trying for minutes."""
        if not self.tracking_uri.startswith("sqlite:///"):
            return
        path = Path(self.tracking_uri.removeprefix("sqlite:///"))
        target = path if path.exists() else path.parent
        if path.is_dir() or not target.exists() or not os.access(target, os.W_OK):
            raise TrackingError(
                f"MLflow at {self.tracking_uri}: {path} cannot be written; accepted: a file in a "
                "folder that can, a server's address, or none"
            )

    def _known(self, client: MlflowClient, run: str, experiment: str) -> bool:
        found = client.search_runs([experiment], f"attributes.run_id = '{run}'", max_results=1)
        return bool(found)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `outer.inner` names."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_revision() -> str:
    """Revision of the checkout of this code, `-dirty` if files were changed; empty outside of one."""
    root = Path(__file__).resolve().parents[1]
    try:
        return subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607 -- the user's git
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
