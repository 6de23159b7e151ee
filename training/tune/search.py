"""The search: proposes trials, hears their scores, prunes, notes all, writes the best configuration."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import TrialState

from policies.baselines import UniformProgress
from simulator.errors import InputError, SpotwiseError
from simulator.whole_file import write_whole
from training.config import TrainingConfig
from training.data import Data
from training.interruptions import interruptions
from training.tracking import NoTracker, Status, Tracker, flat, git_revision
from training.tune.backend import Backend
from training.tune.space import SearchSpace, replaced
from training.tune.study import FILE, ask, best, count, held, open_study, reported, unfinished
from training.tune.trial import WORST, Ended, Reported, Scale, Task

BEST = "best.yaml"
LISTENING_SECONDS = 0.2
"""How long a signal may go unnoticed."""
PARENT = "mlflow.parentRunId"
"""Tag by which MLflow nests runs."""
RUN = "run"
"""User attribute of study and trials: id of the tracked run."""
WHY = "why"
"""User attribute of a trial: why it has no score, or the worst."""


@dataclass(frozen=True, slots=True)
class State:
    """How a search stands, for whoever watches.

    Attributes:
        finished: Trials that came to their end.
        trials: Trials of the whole study.
        best: Best score so far.
        news: What went wrong, if something did.
    """

    finished: int
    trials: int
    best: float | None
    news: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    Attributes:
        study: The study file.
        configuration: What `spotwise train` takes; the best trial's values.
        number: Of the best trial.
        score: Its share of the gap closed.
        parameters: Its values.
        base_score: Score of the configuration as it was given; None if it lies outside the space or has none.
        complete: Trials with a score.
        pruned: Trials that were ended early.
        failed: Trials that broke.
        run: Id of the tracked run.
    """

    study: Path
    configuration: Path
    number: int
    score: float
    parameters: dict[str, Any]
    base_score: float | None
    complete: int
    pruned: int
    failed: int
    run: str


@dataclass
class _Running:
    trial: optuna.Trial
    tracker: Tracker
    score: float = WORST
    pruned: bool = False


@dataclass
class Search:
    """One search, over one or several sittings.

    Attributes:
        space: What is searched.
        base: The training configuration that trials change.
        data: What trials are trained and judged on.
        out: Folder of study file, best configuration and checkpoints.
        seed: Of proposals and of every training run, which are so compared on the same episodes.
        new_tracker: Makes one tracker for the search and one for each trial.
        watch: Called whenever a trial ended.
    """

    space: SearchSpace
    base: TrainingConfig
    data: Data
    out: Path
    seed: int = 0
    new_tracker: Callable[[], Tracker] = NoTracker
    watch: Callable[[State], None] = lambda state: None
    _running: dict[int, _Running] = field(default_factory=dict, init=False)

    def run(self, make_backend: Callable[[], Backend], *, resume: bool = False) -> Found:
        """Run all trials that are missing.

        Args:
            make_backend: Makes where they run; it is closed in the end.
            resume: Go on with the study in `out`. Trials that were under way go on from their checkpoints.

        Raises:
            InputError: The space does not fit the configuration, the jobs not the markets, or the study in
                `out` is missing, in the way or another.
            SpotwiseError: No trial came to a score.
            KeyboardInterrupt: Ctrl-C or SIGTERM, whose number it carries; checkpoints are written and the
                study can be gone on with. A second signal ends at once.
        """
        scale = self._scale()
        with held(self.out), reported(self.out):
            study = open_study(self.out, self.space, self._identity(), self.seed, resume=resume)
            values = self.space.of_base(self.base)
            if not study.get_trials(deepcopy=False) and values is not None:
                study.enqueue_trial(values, {"base": True})
            tracker = self.new_tracker()
            run = self._begin(tracker, study)
            status: Status = "FAILED"
            try:
                self._trials(study, make_backend(), scale, run, tracker)
                found = self._found(study, run)
                status = "FINISHED"
            except KeyboardInterrupt:
                status = "KILLED"
                raise
            finally:
                tracker.end(status)
            return found

    def _scale(self) -> Scale:
        _, windows = self.data.parts(self.base.evaluation)
        scale = Scale(windows.score(UniformProgress()).relative_cost, windows.optimum())
        if scale.baseline - scale.optimum < 1e-6:
            raise InputError(
                "evaluation: Uniform Progress is as good as the clairvoyant optimum on the held-out windows; "
                "accepted: markets and jobs that leave something to gain"
            )
        return scale

    def _identity(self) -> dict[str, Any]:
        return {
            "space": self.space.model_dump(mode="json", exclude={"trials"}),
            "config": self.base.model_dump(mode="json"),
            "seed": self.seed,
            "data_sha256": dict(self.data.sha256),
        }

    def _begin(self, tracker: Tracker, study: optuna.Study) -> str:
        run = tracker.begin(
            f"{self.base.name}-tune",
            {**flat(self.space.model_dump(mode="json", exclude_none=True)), "seed": self.seed},
            {
                "git_revision": git_revision(),
                **{f"data_sha256.{name}": digest for name, digest in self.data.sha256.items()},
            },
            study.user_attrs.get(RUN),
        )
        study.set_user_attr(RUN, run)
        return run

    def _trials(
        self, study: optuna.Study, backend: Backend, scale: Scale, run: str, tracker: Tracker
    ) -> None:
        left = deque(unfinished(study))
        stopping = False
        try:
            # a signal is only noted: raised anywhere, it could part a trial from its bookkeeping
            with interruptions() as interrupted:
                while True:
                    if interrupted() and not stopping:
                        stopping = True
                        backend.stop()
                    while not stopping and len(self._running) < backend.slots:
                        trial = left.popleft() if left else self._propose(study)
                        if trial is None:
                            break
                        self._start(backend, trial, scale, run)
                    if not self._running:
                        break
                    if (told := backend.wait(LISTENING_SECONDS)) is not None:
                        self._hear(study, backend, told, tracker)
                if stopping:
                    raise KeyboardInterrupt(interrupted())
        finally:
            backend.close()
            for each in self._running.values():
                each.tracker.end("KILLED")

    def _propose(self, study: optuna.Study) -> optuna.Trial | None:
        begun = count(study, *TrialState) - count(study, TrialState.WAITING)
        return ask(study, self.space, self.seed) if begun < self.space.trials else None

    def _start(self, backend: Backend, trial: optuna.Trial, scale: Scale, run: str) -> None:
        tracker, values = self.new_tracker(), trial.params
        settings = {name: self.space.parameters[name].setting(value) for name, value in values.items()}
        own = tracker.begin(
            f"{self.base.name}-trial{trial.number}",
            {**settings, "seed": self.seed, "ppo.total_steps": self.space.steps},
            {PARENT: run} if run else {},
            trial.user_attrs.get(RUN),
        )
        trial.set_user_attr(RUN, own)
        self._running[trial.number] = _Running(trial, tracker)
        try:
            config = self._budgeted(self.space.configure(self.base, values))
        except InputError as error:  # a combination that the configuration refuses, though each value is fine
            self._ended(trial.study, Ended(trial.number, "refused", str(error)))
            return
        folder = self.out / "trials" / str(trial.number)
        backend.start(Task(trial.number, config, self.seed, folder, scale))

    def _budgeted(self, config: TrainingConfig) -> TrainingConfig:
        every = max(self.space.steps // self.space.evaluations, 1)
        return replaced(
            config,
            {
                "ppo.total_steps": self.space.steps,
                "evaluation.every_steps": every,
                "evaluation.patience": None,
                # the best of several noisy scores would reward noise
                "evaluation.select": "last",
            },
        )

    def _hear(self, study: optuna.Study, backend: Backend, told: Reported | Ended, tracker: Tracker) -> None:
        if isinstance(told, Ended):
            state = self._ended(study, told)
            found = best(study)
            if found is not None and state == TrialState.COMPLETE:
                tracker.metrics(told.number, {"best_gap_closed": found.value or 0.0})
                if found.number == told.number:
                    self._write(study, found)
            return
        running = self._running[told.number]
        last = told.steps >= self.space.steps
        # settings differ in steps per rollout: evaluations are compared by their number
        evaluation = told.steps * self.space.evaluations // self.space.steps
        evaluation = self.space.evaluations if last else max(evaluation, 1)
        running.score = told.score
        running.tracker.metrics(told.steps, {**told.metrics, "gap_closed": told.score})
        frozen = study.get_trials(deepcopy=False)[told.number]
        if evaluation not in frozen.intermediate_values:  # told before in an earlier sitting
            running.trial.report(told.score, evaluation)
        running.pruned = not last and running.trial.should_prune()
        backend.answer(told.number, not running.pruned)

    def _ended(self, study: optuna.Study, ended: Ended) -> TrialState | None:
        running = self._running.pop(ended.number)
        if ended.why:
            running.trial.set_user_attr(WHY, ended.why)
        state: TrialState | None = None
        status: Status
        if ended.how == "done":
            study.tell(ended.number, running.score)
            state, status = TrialState.COMPLETE, "FINISHED"
        elif ended.how == "diverged":
            study.tell(ended.number, WORST)
            state, status = TrialState.COMPLETE, "FAILED"
        elif ended.how == "stopped":
            status = "KILLED"
            if running.pruned:
                study.tell(ended.number, state=TrialState.PRUNED)
                state = TrialState.PRUNED
        else:
            study.tell(ended.number, state=TrialState.FAIL)
            state, status = TrialState.FAIL, "FAILED"
        running.tracker.end(status)
        if state is not None:
            found = best(study)
            finished = count(study, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
            news = f"trial {ended.number} {ended.how}: {ended.why}" if ended.why else ""
            self.watch(State(finished, self.space.trials, found.value if found else None, news))
        return state

    def _write(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> Path:
        path = self.out / BEST
        config = self.space.configure(self.base, trial.params)
        text = (
            f"# spotwise tune: trial {trial.number} of {self.out / FILE}, {trial.value:.4f} of the gap "
            f"closed after {self.space.steps} steps\n"
        ) + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_whole(path, text)
        return path

    def _found(self, study: optuna.Study, run: str) -> Found:
        found = best(study)
        trials = study.get_trials(deepcopy=False)
        if found is None or found.value is None or found.value <= WORST:
            why = next(
                (trial.user_attrs[WHY] for trial in trials if WHY in trial.user_attrs), "deadlines missed"
            )
            raise SpotwiseError(f"no trial of {len(trials)} came to a score: {why}")
        base = next((trial for trial in trials if trial.user_attrs.get("base")), None)
        return Found(
            study=self.out / FILE,
            configuration=self._write(study, found),
            number=found.number,
            score=found.value,
            parameters={k: self.space.parameters[k].setting(v) for k, v in found.params.items()},
            base_score=base.value if base else None,
            complete=count(study, TrialState.COMPLETE),
            pruned=count(study, TrialState.PRUNED),
            failed=count(study, TrialState.FAIL),
            run=run,
        )
