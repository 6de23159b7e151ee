import json
from pathlib import Path

import pytest

from benchmarks.run import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bench_quick.py").write_text(
        "def run():\n    print('noise')\n    return {'steps_per_second': 7.0}\n"
    )
    (tmp_path / "bench_other.py").write_text("def run():\n    return {'p50': 1}\n")
    return tmp_path


def test_prints_one_json_object_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folder, []) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"machine", "quick", "other"}
    assert result["quick"]["steps_per_second"] == 7.0
    assert result["machine"]["cores"] >= 1


def test_names_choose_benchmarks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folder, ["other"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"machine", "other"}


def test_an_unknown_name_is_an_error_that_lists_the_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(folder, ["quik"]) == 2
    assert "there are: other, quick" in capsys.readouterr().err
