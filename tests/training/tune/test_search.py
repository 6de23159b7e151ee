"""The search over a scripted backend: scores, pruning, failures, sittings. No network is trained."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import optuna
import pytest

from simulator.errors import InputError, SpotwiseError
from simulator.market import sample_market
from training.config import EvaluationJob, EvaluationSettings, TrainingConfig, load_config
from training.data import Data
from training.tune.search import Found, Search, State
from training.tune.space import SearchSpace
from training.tune.trial import WORST, Ended, Reported, Task

BASE = TrainingConfig(
    name="small",
    evaluation=EvaluationSettings(
        stride_hours=200.0, jobs=(EvaluationJob(work_hours=4.0, deadline_hours=6.0),)
    ),
)
DATA = Data([sample_market().select([0, 1])], {"sample.npz": "0" * 64})
SPACE = SearchSpace.model_validate(
    {
        "trials": 8,
        "steps": 400,
        "evaluations": 4,
        "startup_trials": 3,
        "parameters": {"ppo.learning_rate": {"log_uniform": [1e-4, 1e-2]}, "ppo.epochs": {"int": [1, 5]}},
    }
)
Script = Callable[[Task], float | str]


class Scripted:
    """A backend whose trials have the score that a script gives them at every evaluation."""

    def __init__(self, script: Script, slots: int = 1, interrupt_after: int | None = None) -> None:
        self.script, self.slots, self.left = script, slots, interrupt_after
        self.queue: list[Reported | Ended] = []
        self.begun: list[Task] = []
        self.reports: dict[int, int] = {}
        self.stopping = self.closed = False

    def start(self, task: Task) -> None:
        self.begun.append(task)
        self.reports[task.number] = 0
        self._next(task)

    def wait(self, seconds: float) -> Reported | Ended | None:
        if not self.stopping and self.left is not None:
            self.left -= 1
            if self.left < 0:
                signal.raise_signal(signal.SIGINT)
                return None
        return self.queue.pop(0)

    def answer(self, number: int, go_on: bool) -> None:
        task = next(each for each in self.begun if each.number == number)
        if go_on and not (self.stopping and self.reports[number] < 4):
            self._next(task)
        else:
            self.queue.append(Ended(number, "stopped"))

    def stop(self) -> None:
        self.stopping = True

    def close(self) -> None:
        self.closed = True

    def _next(self, task: Task) -> None:
        score = self.script(task)
        if isinstance(score, str):
            self.queue.append(Ended(task.number, cast(Any, score), "because"))
        elif self.reports[task.number] == 4:
            self.queue.append(Ended(task.number, "done"))
        else:
            self.reports[task.number] += 1
            self.queue.append(Reported(task.number, 100 * self.reports[task.number], score, {}))


def by_rate(task: Task) -> float:
    return task.config.ppo.learning_rate * 50


def search(out: Path, script: Script = by_rate, space: SearchSpace = SPACE) -> tuple[Found, Scripted]:
    backend = Scripted(script)
    return Search(space, BASE, DATA, out).run(lambda: backend), backend


def test_the_best_trial_is_written_as_a_configuration_that_train_takes(tmp_path: Path) -> None:
    found, backend = search(tmp_path)
    assert found.complete + found.pruned == 8
    best = max(backend.begun, key=by_rate)
    assert found.number == best.number
    assert found.score == pytest.approx(by_rate(best))
    config = load_config(found.configuration)
    assert config.ppo.learning_rate == best.config.ppo.learning_rate == found.parameters["ppo.learning_rate"]
    # budget and selection of trials stay out of it
    assert config.ppo.total_steps == BASE.ppo.total_steps
    assert config.evaluation == BASE.evaluation
    assert backend.closed


def test_the_first_trial_is_the_configuration_as_given(tmp_path: Path) -> None:
    found, backend = search(tmp_path)
    assert backend.begun[0].config.ppo.learning_rate == BASE.ppo.learning_rate
    assert found.base_score == pytest.approx(by_rate(backend.begun[0]))


def test_trials_get_the_budget_and_their_last_network_is_scored(tmp_path: Path) -> None:
    _, backend = search(tmp_path)
    for task in backend.begun:
        assert (task.config.ppo.total_steps, task.config.evaluation.every_steps) == (400, 100)
        assert task.config.evaluation.select == "last"


def test_trials_below_the_median_are_ended_early_but_never_startup_trials(tmp_path: Path) -> None:
    found, backend = search(tmp_path, lambda task: 1.0 - 0.1 * task.number)
    assert [backend.reports[number] for number in range(8)] == [4, 4, 4, 1, 1, 1, 1, 1]
    assert (found.complete, found.pruned, found.number) == (3, 5, 0)


def test_a_trial_that_diverges_has_the_worst_score_and_one_that_breaks_none(tmp_path: Path) -> None:
    ends = {1: "diverged", 2: "crashed", 3: "refused"}
    seen: list[State] = []
    backend = Scripted(lambda task: ends.get(task.number, 0.5))
    found = Search(SPACE, BASE, DATA, tmp_path, watch=seen.append).run(lambda: backend)
    assert (found.complete, found.pruned, found.failed, found.score) == (6, 0, 2, 0.5)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{found.study}")
    assert study.trials[1].value == WORST
    assert [state.news for state in seen if state.news] == [
        f"trial {number} {how}: because" for number, how in ends.items()
    ]


def test_a_search_without_any_score_says_why(tmp_path: Path) -> None:
    with pytest.raises(SpotwiseError, match="no trial of 8 came to a score: because"):
        search(tmp_path / "a", lambda task: "crashed")
    with pytest.raises(SpotwiseError, match="deadlines missed"):
        search(tmp_path / "b", lambda task: WORST)


@pytest.mark.parametrize("after", [1, 7, 9, 22])
def test_an_interrupted_search_gone_on_with_proposes_and_finds_the_same(tmp_path: Path, after: int) -> None:
    whole, backend = search(tmp_path / "whole")
    parts = Scripted(by_rate, interrupt_after=after)
    with pytest.raises(KeyboardInterrupt):
        Search(SPACE, BASE, DATA, tmp_path / "parts").run(lambda: parts)
    assert parts.closed
    rest = Scripted(by_rate)
    found = Search(SPACE, BASE, DATA, tmp_path / "parts").run(lambda: rest, resume=True)
    proposed = {task.number: task.config for task in (*parts.begun, *rest.begun)}
    assert proposed == {task.number: task.config for task in backend.begun}
    assert (found.number, found.score, found.parameters) == (whole.number, whole.score, whole.parameters)
    # what was under way is gone on with, nothing that had ended is repeated
    assert len(parts.begun) + len(rest.begun) <= 8 + 1


def test_trials_can_be_added_to_a_finished_study(tmp_path: Path) -> None:
    search(tmp_path)
    backend = Scripted(by_rate)
    more = SPACE.model_copy(update={"trials": 10})
    found = Search(more, BASE, DATA, tmp_path).run(lambda: backend, resume=True)
    assert [task.number for task in backend.begun] == [8, 9]
    assert found.complete + found.pruned == 10


def test_studies_of_others_are_not_gone_on_with_nor_overwritten(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such study"):
        Search(SPACE, BASE, DATA, tmp_path).run(lambda: Scripted(by_rate), resume=True)
    search(tmp_path)
    with pytest.raises(InputError, match="add --resume"):
        search(tmp_path)
    for other in (
        Search(SPACE, BASE, DATA, tmp_path, seed=1),
        Search(SPACE.model_copy(update={"steps": 500}), BASE, DATA, tmp_path),
        Search(SPACE, BASE, Data(DATA.markets, {"sample.npz": "1" * 64}), tmp_path),
    ):
        with pytest.raises(InputError, match="study of other settings or data"):
            other.run(lambda: Scripted(by_rate), resume=True)
    (tmp_path / "study.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(InputError, match="not a study"):
        Search(SPACE, BASE, DATA, tmp_path).run(lambda: Scripted(by_rate), resume=True)


def test_two_searches_do_not_share_a_folder(tmp_path: Path) -> None:
    def second(task: Task) -> float:
        with pytest.raises(InputError, match="another `spotwise tune` runs"):
            Search(SPACE, BASE, DATA, tmp_path).run(lambda: Scripted(by_rate), resume=True)
        return 0.5

    search(tmp_path, second, SPACE.model_copy(update={"trials": 1}))


class Watched(Scripted):
    """Notes how many trials have something to tell at the same time."""

    def __init__(self, script: Script, slots: int) -> None:
        super().__init__(script, slots)
        self.together: list[int] = []

    def wait(self, seconds: float) -> Reported | Ended | None:
        self.together.append(len(self.queue))
        return super().wait(seconds)


def test_several_slots_run_side_by_side(tmp_path: Path) -> None:
    backend = Watched(by_rate, slots=3)
    Search(SPACE, BASE, DATA, tmp_path).run(lambda: backend)
    assert max(backend.together) == 3
