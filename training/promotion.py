"""What follows from the gate's verdict: a bundle with its model card, and an alias in the registry."""

from __future__ import annotations

from pathlib import Path

from policies.bundle import Bundle, write_bundle
from simulator.errors import SpotwiseError
from training.gate import Verdict
from training.tracking import MLflowTracker

CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases of model versions in the MLflow registry: passed the gate, and did not."""


def write_promoted(path: Path, bundle: Bundle, verdict: Verdict, name: str) -> str:
    """Write the bundle under a new name with the gate's table as its evaluation.

    Returns:
        SHA-256 of the file.
    """
    manifest = bundle.manifest.model_copy(
        update={
            "name": name,
            "evaluation": [
                *(dict(row) for row in verdict.rows),
                {
                    "saving_over": verdict.baseline,
                    "mean": round(verdict.saving, 4),
                    "low": round(verdict.interval[0], 4),
                    "high": round(verdict.interval[1], 4),
                },
                *({"check": c.name, "passed": c.passed, "found": c.found} for c in verdict.checks),
            ],
        }
    )
    return write_bundle(path, manifest, bundle.weights)


def register(path: Path, verdict: Verdict, model: str, tracking_uri: str) -> str:
    """Log the bundle to MLflow and give its version the alias `champion` or `challenger`.

    Returns:
        The version.

    Raises:
        SpotwiseError: The tracking server cannot be used.
    """
    tracker = MLflowTracker(tracking_uri)
    checks = {
        f"gate.check_{number}": f"{'pass' if check.passed else 'fail'}: {check.name}: {check.found}"
        for number, check in enumerate(verdict.checks, 1)
    }
    tracker.begin(f"gate-{model}", {"baseline": verdict.baseline}, checks, None)
    from mlflow.exceptions import MlflowException

    try:
        low, high = verdict.interval
        tracker.metrics(0, {"saving": verdict.saving, "saving_low": low, "saving_high": high})
        version = tracker.bundle(path, model)
        tracker.alias(model, CHAMPION if verdict.passed else CHALLENGER, version)
    except MlflowException as error:
        tracker.end("FAILED")
        raise SpotwiseError(f"MLflow at {tracking_uri}: {error.message}") from error
    tracker.end("FINISHED")
    return version
