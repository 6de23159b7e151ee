"""The plan's policies, loaded and checked against what the plan was computed with."""

from __future__ import annotations

from pathlib import Path

from optimizer.plan import PolicyReference, file_sha256
from policies.protocol import DeadlinePolicy
from policies.registry import CHAMPIONS, load_policy
from policies.service import ServicePolicy
from simulator.errors import InputError


def bundle_file(reference: PolicyReference) -> Path | None:
    """The bundle file that a reference means, None for a policy that is code."""
    for path in (Path(reference.name), CHAMPIONS / f"{reference.name}.policy"):
        if path.is_file():
            return path
    return None


def load_deadline_policy(reference: PolicyReference) -> DeadlinePolicy:
    """The policy without its shield, which the controller applies itself, so that it can be named.

    Raises:
        InputError: It cannot be loaded, or its bundle is not the one that the plan names.
    """
    _check(reference)
    return load_policy(reference.name, "deadline").policy


def load_service_policy(reference: PolicyReference) -> ServicePolicy:
    """A policy for services.

    Raises:
        InputError: It cannot be loaded, or its bundle is not the one that the plan names.
    """
    _check(reference)
    return load_policy(reference.name, "service")


def _check(reference: PolicyReference) -> None:
    path = bundle_file(reference)
    found = file_sha256(path) if path is not None else None
    if found != reference.bundle_sha256:
        raise InputError(
            f"policy {reference.name}: the plan was computed with bundle "
            f"{reference.bundle_sha256 or 'none'}, found "
            f"{f'{found} in {path}' if path else 'no bundle'}; recommend again, or restore that bundle"
        )
