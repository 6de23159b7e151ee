"""The checkpoint hook: a command that lets a job save its work before it is moved on purpose."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from optimizer.controller.observe import Tell


@dataclass(frozen=True, slots=True)
class CheckpointHook:
    """Runs a command without a shell.

    The environment has `SPOTWISE_WORKLOAD`, `SPOTWISE_INSTANCES` (ids that are about to go, separated by
    commas) and `SPOTWISE_DESTINATION_REGION`, where the job goes on. A command that fails or takes too long
    is told; the move goes on, since its replacement is paid for already.

    Attributes:
        command: Command and arguments.
        seconds: It is ended after this long.
        tell: Takes events.
    """

    command: tuple[str, ...]
    seconds: float
    tell: Tell

    def __call__(self, workload: str, instances: Sequence[str], destination_region: str) -> None:
        """Run it."""
        environment = {
            **os.environ,
            "SPOTWISE_WORKLOAD": workload,
            "SPOTWISE_INSTANCES": ",".join(instances),
            "SPOTWISE_DESTINATION_REGION": destination_region,
        }
        try:
            done = subprocess.run(
                self.command, env=environment, timeout=self.seconds, capture_output=True, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.tell("warning", "checkpoint-hook", f"{workload}: {error}")
            return
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            self.tell(
                "warning", "checkpoint-hook", f"{workload}: exit code {done.returncode} {' '.join(last)}"
            )
