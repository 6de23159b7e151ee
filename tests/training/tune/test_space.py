"""Search spaces: what they accept, what they refuse, how they reach the configuration."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.presets import presets_dir
from simulator.errors import InputError
from training.config import TrainingConfig, load_config
from training.tune.space import SEARCHABLE, Parameter, SearchSpace, load_space

BASE = TrainingConfig()


def space(parameters: dict[str, object]) -> SearchSpace:
    return SearchSpace.model_validate({"parameters": parameters})


def test_the_shipped_space_fits_the_shipped_configuration_and_holds_it() -> None:
    shipped, base = load_space(presets_dir() / "tune.yaml"), load_config(presets_dir() / "deadline.yaml")
    shipped.check(base, "tune.yaml")
    values = shipped.of_base(base)
    assert values is not None
    assert shipped.configure(base, values) == base


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "parameters:\n  ppo.rate: {int: [1, 2]}",
            r"line 2, field parameters\.ppo\.rate.*ppo\.learning_rate",
        ),
        ("parameters:\n  ppo.total_steps: {int: [1, 2]}", "line 2.*can be searched"),
        ("parameters:\n  evaluation.select: {categorical: [best]}", "line 2.*can be searched"),
        ("parameters:\n  ppo.epochs: {int: [3, 2]}", r"line 2.*accepted: \[lowest, highest\]"),
        (
            "parameters:\n  ppo.epochs: {int: [1, 2], uniform: [1, 2]}",
            "line 2.*one of uniform, log_uniform, int",
        ),
        ("parameters:\n  ppo.epochs: {}", "line 2.*one of"),
        ("parameters:\n  ppo.epochs: {integer: [1, 2]}", "line 2.*integer"),
        ("parameters:\n  ppo.gamma: {log_uniform: [0, 1]}", "line 2.*more than 0"),
        ("parameters:\n  ppo.layers: {categorical: [[8], [8]]}", "line 2.*twice"),
        ("parameters:\n  ppo.gamma: {categorical: [2020-01-01]}", "line 2.*a choice is neither"),
        ("parameters: {}", "line 1.*parameters"),
        ("trial: 3\nparameters:\n  ppo.epochs: {int: [1, 2]}", "line 1, field trial"),
        ("steps: 3\nevaluations: 4\nparameters:\n  ppo.epochs: {int: [1, 2]}", "4 evaluations in 3 steps"),
    ],
)
def test_wrong_spaces_are_refused_with_file_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"space.yaml.*{message}"):
        load_space(path)


@pytest.mark.parametrize(
    "parameters",
    [
        {"ppo.gae_lambda": {"uniform": [0.5, 1.5]}},
        {"ppo.epochs": {"int": [0, 3]}},
        {"ppo.activation": {"categorical": ["tanh", "sigmoid"]}},
        {"features": {"categorical": ["deadline-rich", "none"]}},
    ],
)
def test_ends_that_the_configuration_refuses_are_told_before_any_trial(parameters: dict[str, object]) -> None:
    name = next(iter(parameters))
    with pytest.raises(InputError, match=rf"tune\.yaml, field parameters\.{name}: "):
        space(parameters).check(BASE, "tune.yaml")


def test_a_configuration_outside_of_the_space_is_no_point_of_it() -> None:
    assert space({"ppo.epochs": {"int": [4, 6]}}).of_base(BASE) is None
    assert space({"ppo.layers": {"categorical": [[8]]}}).of_base(BASE) is None


@given(st.data())
def test_what_is_drawn_lies_inside_and_reaches_the_field(data: st.DataObject) -> None:
    low = data.draw(st.floats(1e-6, 1.0))
    drawn = space(
        {
            "ppo.learning_rate": {"log_uniform": [low, low * data.draw(st.floats(1.0, 100.0))]},
            "ppo.gae_lambda": {"uniform": [0.5, data.draw(st.floats(0.5, 1.0))]},
            "ppo.epochs": {"int": [2, data.draw(st.integers(2, 9))]},
            "ppo.layers": {"categorical": [[8], [16, 16]]},
        }
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=data.draw(st.integers(0, 99))))
    trial = study.ask()
    values = {name: parameter.draw(name, trial) for name, parameter in drawn.parameters.items()}
    config = drawn.configure(BASE, values)
    for name, parameter in drawn.parameters.items():
        ends = parameter.log_uniform or parameter.uniform or parameter.whole
        setting = getattr(config.ppo, name.removeprefix("ppo."))
        assert ends is None or ends[0] <= setting <= ends[1]
    assert config.ppo.layers in ((8,), (16, 16))
    assert drawn.of_base(config) == values
    assert config.evaluation == BASE.evaluation


def test_searchable_fields_leave_out_what_trials_are_judged_by() -> None:
    assert "ppo.learning_rate" in SEARCHABLE
    assert not [name for name in SEARCHABLE if name.startswith(("evaluation", "jobs", "tracking"))]
    assert Parameter.model_validate({"int": [1, 1]}).extremes() == (1, 1)
