"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.whole_file import whole_file, write_whole


def test_text_and_bytes_are_written_with_their_folders(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b.txt", "é\n")
    write_whole(tmp_path / "a" / "c.bin", b"\x00")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "é\n"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.txt", "c.bin"]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("before", encoding="utf-8")

    def fail() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/x: checkpoint cannot be written .*unchanged"):
        write_whole(tmp_path / "file" / "x", "text", "checkpoint")
