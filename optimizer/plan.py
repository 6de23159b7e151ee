"""The plan file: what a recommendation hands to the controller. Read as hostile input, sealed by a checksum.

A plan says which workloads run where under which policy, what that is expected to cost, and the caps nobody
may exceed. It is written by `spotwise recommend` and read by `spotwise controller run`. The checksum covers
the content, not the layout: a plan that was edited by hand, or that has expired, is refused with the reason.
It guards against mistakes, not against somebody who can write the file and compute a checksum.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from optimizer.plan_parts import (
    Caps,
    DeadlineWorkload,
    Expected,
    FixedDemand,
    GroupDemand,
    Moment,
    Name,
    PlanPart,
    PlanPool,
    PolicyReference,
    SeriesDemand,
    ServiceWorkload,
    Sha256,
    Workload,
)
from optimizer.yaml_nodes import compose, construct, located, read_text
from simulator.errors import InputError
from simulator.whole_file import write_whole

__all__ = [
    "Caps",
    "DeadlineWorkload",
    "Expected",
    "FixedDemand",
    "GroupDemand",
    "Name",
    "Plan",
    "PlanPool",
    "PolicyReference",
    "SeriesDemand",
    "ServiceWorkload",
    "checksum_of",
    "file_sha256",
    "read_plan",
    "write_plan",
]

VERSION = 3
"""3: throughputs of pools, and copies of a job's checkpoint between regions. 2: due times, costs of lateness,
commitments and checkpoints of jobs. Version 1 is refused: it lives for a week, its checksum is of other
fields, and recommending again is one command."""
READ = (2, 3)
SINCE_3 = ("data_region", "checkpoint_size_gb", "egress_usd_per_gb", "bandwidth_mb_per_second", "transfers")
"""Fields of jobs that version 2 has not, beside `throughput` of pools."""
HIGHEST_BYTES = 64 << 20
"""A plan that is larger is refused unread; 10,000 workloads take about 8 MB."""
HIGHEST_WORKLOADS = 100_000

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Plan(PlanPart):
    """The whole file. `seal` computes the checksum; `read_plan` refuses a plan whose checksum is another.

    Attributes:
        version: Of this format.
        created: When it was made.
        expires: After this the controller refuses to begin with it, and holds if it is running.
        tick_seconds: Decisions are made this often; policies are judged at this tick.
        inputs: SHA-256 of each file it was computed from, by name.
        policies: Every policy that a workload names.
        caps: What is never exceeded.
        workloads: What is to be placed.
        checksum: SHA-256 of everything else (`checksum_of`).
    """

    version: Literal[2, 3]
    created: Moment
    expires: Moment
    tick_seconds: Annotated[int, Field(ge=1, le=21_600)]
    inputs: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=500)], Sha256], Field(max_length=1000)
    ]
    policies: Annotated[tuple[PolicyReference, ...], Field(strict=False, max_length=100)]
    caps: Caps
    workloads: Annotated[
        tuple[Workload, ...], Field(strict=False, min_length=1, max_length=HIGHEST_WORKLOADS)
    ]
    checksum: Sha256

    @model_validator(mode="after")
    def _it_holds_together(self) -> Plan:
        if self.version == 2:
            self._has_only_fields_of_version_2()
        if self.expires <= self.created:
            raise ValueError(f"expires at {self.expires}, not after it was created ({self.created})")
        known = [(one.kind, one.name) for one in self.policies]
        if len(set(known)) != len(known):
            raise ValueError("policies: one is there twice")
        seen: set[str] = set()
        for workload in self.workloads:
            if workload.name in seen:
                raise ValueError(f"workload {workload.name} is there twice")
            seen.add(workload.name)
            if (workload.kind, workload.policy) not in known:
                raise ValueError(
                    f"workload {workload.name}: {workload.kind} policy {workload.policy!r} is not "
                    "under policies"
                )
        return self

    def _has_only_fields_of_version_2(self) -> None:
        for workload in self.workloads:
            given = workload.model_fields_set.intersection(SINCE_3)
            if any("throughput" in pool.model_fields_set for pool in workload.pools):
                given = given | {"pools.throughput"}
            if given:
                raise ValueError(
                    f"workload {workload.name}: {', '.join(sorted(given))}: not in a plan of version 2"
                )

    @classmethod
    def seal(cls, **content: Any) -> Plan:
        """Make a plan and give it the checksum of its content.

        Args:
            content: Every field but `version` and `checksum`.

        Raises:
            InputError: A field is wrong.
        """
        try:
            draft = cls(version=3, checksum="0" * 64, **content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "plan"
            raise InputError(f"plan: field {where}: {first['msg']}") from error
        return draft.model_copy(update={"checksum": checksum_of(draft)})

    def policy_of(self, workload: DeadlineWorkload | ServiceWorkload) -> PolicyReference:
        """The policy that a workload of this plan names."""
        return next(p for p in self.policies if p.name == workload.policy and p.kind == workload.kind)

    def refuse_expired(self, now: datetime) -> None:
        """Check that the plan may still be used.

        Raises:
            InputError: It has expired, or comes from the future.
        """
        if now >= self.expires:
            raise InputError(
                f"the plan expired at {self.expires:%Y-%m-%d %H:%M} UTC (now {now:%Y-%m-%d %H:%M}); "
                "run `spotwise recommend` again"
            )
        if (self.created - now).total_seconds() > 300:
            raise InputError(
                f"the plan was created at {self.created:%Y-%m-%d %H:%M} UTC, after now "
                f"({now:%Y-%m-%d %H:%M}); check the clock of this machine"
            )


def checksum_of(plan: Plan) -> str:
    """SHA-256 (hex) of the plan's canonical JSON: sorted keys, no spaces, times in UTC, no checksum."""
    content = _content(plan)
    del content["checksum"]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _content(plan: Plan) -> dict[str, Any]:
    """The plan as the file of its version has it."""
    content: dict[str, Any] = plan.model_dump(mode="json")
    for workload in content["workloads"] if plan.version == 2 else ():
        for name in SINCE_3:
            workload.pop(name, None)
        for pool in workload["pools"]:
            del pool["throughput"]
    return content


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, for `inputs` and `bundle_sha256`.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan, whole or not at all.

    Raises:
        InputError: The checksum is not that of the content, or the file cannot be written.
    """
    if plan.checksum != checksum_of(plan):
        raise InputError(f"{path}: the plan's checksum is not that of its content; make plans with Plan.seal")
    text = _HEADER + yaml.dump(_content(plan), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    write_whole(path, text)


_HEADER = """\
# Written by `spotwise recommend` for `spotwise controller run`. The checksum at the end covers the content: a
# plan that is edited by hand is refused. Change workloads.yaml or the options and recommend again.
"""


def read_plan(path: Path, *, now: datetime | None = None) -> Plan:
    """Read a plan file and check it.

    Args:
        path: The file.
        now: If given, an expired plan is refused.

    Returns:
        The plan, its checksum verified.

    Raises:
        InputError: The file cannot be read, is no plan, was edited or has expired; says where and why.
    """
    text = read_text(path, "a plan file", HIGHEST_BYTES, "`spotwise recommend` writes plans")
    root = compose(path, text, "a plan file", "what `spotwise recommend` wrote")
    values = construct(path, root, "a plan file")
    if isinstance(values, dict) and values.get("version") not in READ:
        raise InputError(
            f"{path}: plan of version {values.get('version')!r}; this release reads "
            f"{' and '.join(map(str, READ))}; run `spotwise recommend` again"
        )
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        raise InputError("\n".join(_message(path, root, each) for each in error.errors()[:10])) from error
    computed = checksum_of(plan)
    if plan.checksum != computed:
        raise InputError(
            f"{path}: the checksum ({plan.checksum[:12]}…) is not that of the content ({computed[:12]}…): "
            "the plan was edited or damaged after it was written; run `spotwise recommend` again"
        )
    if now is not None:
        try:
            plan.refuse_expired(now)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return plan


def _message(path: Path, root: yaml.Node, error: Any) -> str:
    """What is wrong, with line and field; pydantic puts a union's tag into the location, which is no key."""
    where = [
        part
        for k, part in enumerate(error["loc"])
        if not (k == 2 and error["loc"][0] == "workloads") and not (k and error["loc"][k - 1] == "demand")
    ]
    return located(path, root, where, error["msg"], "plan")
