"""Trials in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

from training.data import Data
from training.tune.trial import Ended, Reported, Task, run_trial

SPAWN = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
ENDING_SECONDS = 10.0
"""How long a process may take to end when asked."""
GO_ON, END, STOP = "go on", "end", "stop"


class _PipeLine:
    """The worker's end of the pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stopping = False

    def report(self, reported: Reported) -> bool:
        self._connection.send(reported)
        answer = self._connection.recv()
        # a search that is stopped may owe the verdict: the trial is gone on with later
        self._stopping |= answer == STOP
        return bool(answer != END)

    def stopping(self) -> bool:
        while self._connection.poll():
            self._stopping |= self._connection.recv() == STOP
        return self._stopping


def _work(connection: Connection, data: Data) -> None:
    """Run the trials that arrive, one after the other, until the pipe is closed."""
    # a session of its own: Ctrl-C reaches only the parent, which stops each trial exactly once
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also drops one that came while this process began
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        while True:
            task = connection.recv()
            if not isinstance(task, Task):  # was meant for a trial that had ended
                continue
            try:
                ended = run_trial(task, data, _PipeLine(connection))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # noqa: BLE001 -- told to the parent, which goes on with other trials
                ended = Ended(task.number, "crashed", f"{type(error).__name__}: {error}")
            connection.send(ended)


@dataclass
class _Slot:
    process: SpawnProcess
    connection: Connection
    running: int = field(default=-1)
    """Number of the trial, or -1."""


class LocalBackend:
    """Each slot is one process, started when first needed and kept for the next trial."""

    def __init__(self, data: Data, slots: int) -> None:
        """Nothing is started yet.

        Args:
            data: What every trial is trained and judged on.
            slots: Processes at most.
        """
        self._data = data
        self._most = slots
        self._slots: list[_Slot] = []

    @property
    def slots(self) -> int:
        """Processes at most."""
        return self._most

    def start(self, task: Task) -> None:
        """Begin a trial in a free process."""
        slot = next((each for each in self._slots if each.running < 0), None) or self._new()
        slot.running = task.number
        try:
            slot.connection.send(task)
        except BrokenPipeError:  # it died while idle
            self._slots.remove(slot)
            slot.process.join()
            self.start(task)

    def wait(self, seconds: float) -> Reported | Ended | None:
        """The next thing that a trial tells; that its process died, for example."""
        busy = {slot.connection: slot for slot in self._slots if slot.running >= 0}
        ready = wait(list(busy), seconds)
        if not ready:
            return None
        slot = busy[cast(Connection, ready[0])]
        try:
            told: Reported | Ended = slot.connection.recv()
        except (EOFError, ConnectionResetError):
            self._slots.remove(slot)
            slot.process.join()
            return Ended(slot.running, "crashed", f"its process ended with {slot.process.exitcode}")
        if isinstance(told, Ended):
            slot.running = -1
        return told

    def answer(self, number: int, go_on: bool) -> None:
        """Let a trial go on, or end it; one whose process died is told by `wait`."""
        slot = next(each for each in self._slots if each.running == number)
        with suppress(BrokenPipeError):
            slot.connection.send(GO_ON if go_on else END)

    def stop(self) -> None:
        """Ask all trials to write a checkpoint and end."""
        for slot in self._slots:
            if slot.running >= 0:
                with suppress(BrokenPipeError):
                    slot.connection.send(STOP)

    def close(self) -> None:
        """End all processes."""
        for slot in self._slots:
            slot.connection.close()
            if slot.running >= 0:
                slot.process.terminate()
        for slot in self._slots:
            slot.process.join(ENDING_SECONDS)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
        self._slots.clear()

    def _new(self) -> _Slot:
        mine, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_work, args=(theirs, self._data), daemon=True)
        with _interrupts_held_back():
            process.start()
        theirs.close()
        self._slots.append(_Slot(process, mine))
        return self._slots[-1]


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A process begun in here gets no Ctrl-C; one that comes meanwhile reaches this process afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
