"""Trials on a Ray cluster, or on a Ray of this machine; the cluster needs the same release, spotwise[scale].

The study stays where the search was started. Scores and verdicts pass through one actor, the mailbox.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from pathlib import Path
from typing import Any

from simulator.errors import SpotwiseError
from training.data import Data
from training.tune.trial import Ended, Reported, Task, run_trial


class Mailbox:
    """Carries scores to the search and verdicts back; run as an actor."""

    def __init__(self) -> None:
        """Empty."""
        self._told: asyncio.Queue[Reported] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._stopping = False

    async def report(self, reported: Reported) -> bool:
        """For trials: tell a score and wait for the verdict."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[reported.number] = answer
        await self._told.put(reported)
        return await answer

    async def stopping(self) -> bool:
        """For trials: whether all of them are to stop."""
        return self._stopping

    async def told(self) -> Reported:
        """For the search: the next score."""
        return await self._told.get()

    async def answer(self, number: int, go_on: bool) -> None:
        """For the search: the verdict on a trial."""
        if (waiting := self._answers.pop(number, None)) is not None:
            waiting.set_result(go_on)

    async def stop(self) -> None:
        """For the search: stop all trials; those that wait for a verdict wait no longer."""
        self._stopping = True
        while self._answers:
            self._answers.popitem()[1].set_result(True)


class _MailLine:
    """A trial's side of the mailbox."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._get = importlib.import_module("ray").get

    def report(self, reported: Reported) -> bool:
        return bool(self._get(self._mailbox.report.remote(reported)))

    def stopping(self) -> bool:
        return bool(self._get(self._mailbox.stopping.remote()))


def _train(task: Task, data: Data, mailbox: Any) -> Ended:
    return run_trial(task, data, _MailLine(mailbox))


class RayBackend:
    """One Ray task with one CPU for each trial; the markets are sent once."""

    def __init__(self, data: Data, slots: int, address: str | None = None) -> None:
        """Connect to a cluster.

        Args:
            data: What every trial is trained and judged on.
            slots: Trials at the same time.
            address: Of the cluster, `auto` for the one that runs on this machine; None starts a Ray of
                `slots` CPUs here.

        Raises:
            SpotwiseError: Ray is not installed, or the cluster cannot be reached.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise SpotwiseError("--backend ray needs Ray: pip install 'spotwise[scale]'") from error
        local = {} if address else {"num_cpus": slots, "include_dashboard": False}
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level="error", **local)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise SpotwiseError(f"Ray at {address or 'this machine'}: {error}") from error
        self._most = slots
        self._mailbox = self._ray.remote(num_cpus=0, max_concurrency=2 * slots + 4)(Mailbox).remote()
        self._remote = self._ray.remote(num_cpus=1, max_retries=0)(_train)
        self._data = self._ray.put(data)
        self._running: dict[Any, int] = {}
        self._told: Any = self._mailbox.told.remote()

    @property
    def slots(self) -> int:
        """Trials at the same time at most."""
        return self._most

    def start(self, task: Task) -> None:
        """Hand a trial to the cluster."""
        whole = Task(task.number, task.config, task.seed, Path(task.folder).absolute(), task.scale)
        self._running[self._remote.remote(whole, self._data, self._mailbox)] = task.number

    def wait(self, seconds: float) -> Reported | Ended | None:
        """The next thing that a trial tells; that its worker or node died, for example."""
        done, _ = self._ray.wait([self._told, *self._running], num_returns=1, timeout=seconds)
        if not done:
            return None
        ready = done[0]
        if ready == self._told:
            reported: Reported = self._ray.get(ready)
            self._told = self._mailbox.told.remote()
            return reported
        number = self._running.pop(ready)
        try:
            ended: Ended = self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            return Ended(number, "crashed", str(error).strip().splitlines()[-1])
        return ended

    def answer(self, number: int, go_on: bool) -> None:
        """Let a trial go on, or end it."""
        self._ray.get(self._mailbox.answer.remote(number, go_on))

    def stop(self) -> None:
        """Ask all trials to write a checkpoint and end; those that wait for a CPU do so after a rollout."""
        self._ray.get(self._mailbox.stop.remote())

    def close(self) -> None:
        """Leave the cluster; what was started here ends."""
        for running in self._running:
            self._ray.cancel(running, force=True)
        self._ray.kill(self._mailbox)
        self._ray.shutdown()
