"""Configurations: messages name file, line and field; unknown keys are errors; the environment overrides."""

from pathlib import Path

import pytest

from optimizer.presets import presets_dir
from simulator.errors import InputError
from training.config import TrainingConfig, load_config

GOOD = "name: mine\nppo:\n  total_steps: 1000\n  gamma: 0.99\njobs:\n  - {work_hours: 3}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def test_the_shipped_configuration_is_valid() -> None:
    config = load_config(presets_dir() / "deadline.yaml")
    assert config.name == "deadline"
    assert len(config.distribution().kinds) == 2


def test_what_is_not_given_has_its_default(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, GOOD))
    assert config.ppo.total_steps == 1000
    assert config.ppo.epochs == TrainingConfig().ppo.epochs
    assert config.jobs[0].work_hours == (3.0, 3.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gamma: 0.99", "gama: 0.99", r"c\.yaml, line 4, field ppo\.gama: Extra inputs"),
        ("gamma: 0.99", "gamma: 1.5", r"c\.yaml, line 4, field ppo\.gamma: .*less than or equal to 1"),
        ("total_steps: 1000", "total_steps: many", r"c\.yaml, line 3, field ppo\.total_steps"),
        ("{work_hours: 3}", "{work_hours: -3}", r"c\.yaml, line 6, field jobs\.0: .*work_hours"),
        ("{work_hours: 3}", "{work_hours: [5, 3]}", r"c\.yaml, line 6, field jobs\.0: .*work_hours"),
        ("name: mine", "name: mine\nname: yours", r"c\.yaml, line 2: name is given twice"),
        ("name: mine", "name: [", r"c\.yaml, line \d+: not YAML"),
        ("name: mine", "name: &a mine\nfeatures: *a", "aliases"),
        ("name: mine", "features: none", "deadline-rich"),
        (GOOD, "- a\n- b\n", "one mapping"),
        ("gamma: 0.99", "gamma: !!python/name:os.system", "not YAML"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(written(tmp_path, GOOD.replace(old, new)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_the_environment_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTWISE_TRAIN__PPO__TOTAL_STEPS", "77")
    monkeypatch.setenv("SPOTWISE_TRAIN__EVALUATION__PATIENCE", "4")
    config = load_config(written(tmp_path, GOOD))
    assert (config.ppo.total_steps, config.evaluation.patience) == (77, 4)


def test_a_wrong_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTWISE_TRAIN__PPO__TOTAL_STEP", "77")
    with pytest.raises(InputError, match="environment variable SPOTWISE_TRAIN__PPO__TOTAL_STEP"):
        load_config(written(tmp_path, GOOD))
