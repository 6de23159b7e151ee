from pathlib import Path

import pytest

from optimizer.presets import find_config, presets_dir
from simulator.errors import InputError


def test_the_checkout_is_searched_when_no_wheel_is_installed() -> None:
    assert presets_dir() == Path(__file__).parents[2] / "configs"


def test_an_existing_file_comes_before_a_preset(tmp_path: Path) -> None:
    own = tmp_path / "README.md"
    own.write_text("mine")
    assert find_config(own) == own


def test_a_bare_name_finds_the_shipped_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path("configs/README.md")) == presets_dir() / "README.md"


def test_an_unknown_name_says_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.yaml.*shipped preset"):
        find_config(tmp_path / "missing.yaml")
