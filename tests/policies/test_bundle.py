"""Bundles round-trip, are the same bytes for the same content, and refuse everything hostile."""

import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.bundle import BundleManifest, Weights, read_bundle, write_bundle
from simulator.errors import InputError

MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"


def manifest(**changes: Any) -> BundleManifest:
    return BundleManifest.model_validate(
        {
            "name": "champion",
            "kind": "deadline",
            "algorithm": "network-deadline",
            "feature_names": ["slack", "spot"],
            "parameters": {"activation": "tanh", "sizes": [64, 64]},
            "training_config": {"seed": 0, "lr": 3e-4},
            "data_sha256": {"markets/v100.npz": "0" * 64},
            "git_revision": "481b7a0",
            "evaluation": [{"policy": "champion", "gap_closed": 0.9, "missed": 0}],
            **changes,
        }
    )


def weights() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(-0.5),
        "counts": np.arange(4)[::2],
        "empty": np.zeros((0, 3)),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "champion.policy"
    write_bundle(file, manifest(), weights())
    return file


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo()
            info.filename = name  # the constructor would cut it at a NUL
            archive.writestr(info, content, compress_type=compression)


def with_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    stored = entries(path)
    fields = json.loads(stored[MANIFEST])
    change(fields)
    rezip(path, [(MANIFEST, json.dumps(fields).encode()), (WEIGHTS, stored[WEIGHTS])])


def test_a_bundle_reads_back_as_written(path: Path) -> None:
    bundle = read_bundle(path, "deadline")
    assert bundle.manifest == manifest()
    assert bundle.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert bundle.weights.keys() == weights().keys()
    for name, array in weights().items():
        np.testing.assert_array_equal(bundle.weights[name], array)
        assert bundle.weights[name].dtype == array.dtype
        assert bundle.weights[name].shape == array.shape


def test_the_same_content_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "deep" / "other.policy"
    backwards: Weights = dict(reversed(weights().items()))
    digest = write_bundle(other, manifest(), backwards)
    assert other.read_bytes() == path.read_bytes()
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@given(values=st.lists(st.floats(width=32), max_size=20))
def test_every_float32_survives(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    file = tmp_path_factory.mktemp("bundle") / "x.policy"
    array = np.array(values, np.float32)
    write_bundle(file, manifest(), {"x": array})
    assert read_bundle(file).weights["x"].tobytes() == array.tobytes()


def test_a_failed_write_leaves_the_previous_bundle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"champion\.policy: cannot be written \(No space left on device\)"):
        write_bundle(path, manifest(name="other"), {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_is_not_json_or_not_numeric_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not finite"):
        write_bundle(tmp_path / "x.policy", manifest(evaluation=[{"cost": float("nan")}]), {})
    with pytest.raises(InputError, match="numeric arrays"):
        write_bundle(tmp_path / "x.policy", manifest(), {"w": np.array([object()])})
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_version_is_refused_before_anything_else(path: Path) -> None:
    with_manifest(path, lambda fields: fields.update(format_version=2, new_key=1))
    with pytest.raises(InputError, match="format version 2; this release reads 1"):
        read_bundle(path)


def test_a_wrong_kind_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="a policy for deadline workloads; accepted here: service"):
        read_bundle(path, "service")
    with_manifest(path, lambda fields: fields.update(kind="batch"))
    with pytest.raises(InputError, match="field kind"):
        read_bundle(path)


def test_an_unknown_key_is_refused(path: Path) -> None:
    with_manifest(path, lambda fields: fields.update(onload="import os"))
    with pytest.raises(InputError, match="field onload"):
        read_bundle(path)


def test_a_wrong_hash_is_refused(path: Path) -> None:
    stored = entries(path)
    changed = bytearray(stored[WEIGHTS])
    changed[-1] ^= 1
    rezip(path, [(MANIFEST, stored[MANIFEST]), (WEIGHTS, bytes(changed))])
    with pytest.raises(InputError, match="damaged or changed"):
        read_bundle(path)


def test_weights_that_are_no_safetensors_are_refused(path: Path) -> None:
    junk = b"\x80\x04cos\nsystem\n."
    stored = json.loads(entries(path)[MANIFEST]) | {"weights_sha256": hashlib.sha256(junk).hexdigest()}
    rezip(path, [(MANIFEST, json.dumps(stored).encode()), (WEIGHTS, junk)])
    with pytest.raises(InputError, match="cannot be read"):
        read_bundle(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(path: Path, text: bytes) -> None:
    rezip(path, [(MANIFEST, text), (WEIGHTS, entries(path)[WEIGHTS])])
    with pytest.raises(InputError, match=r"not (JSON|a JSON object)"):
        read_bundle(path)


@pytest.mark.parametrize(
    "extra",
    [
        "../../etc/cron.d/x",
        "/etc/passwd",
        "C:\\x",
        "sub/manifest.json",
        "code.py",
        "manifest.json\x00.py",
        "",
    ],
)
def test_a_malicious_or_extra_entry_is_refused(path: Path, extra: str) -> None:
    stored = entries(path)
    rezip(path, [*stored.items(), (extra, b"x")])
    with pytest.raises(InputError, match=r"accepted: manifest\.json and weights\.safetensors, once each"):
        read_bundle(path)


def test_an_entry_renamed_to_a_path_is_refused(path: Path) -> None:
    stored = entries(path)
    rezip(path, [(MANIFEST, stored[MANIFEST]), (f"../{WEIGHTS}", stored[WEIGHTS])])
    with pytest.raises(InputError, match="once each"):
        read_bundle(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twice", [MANIFEST, WEIGHTS])
def test_a_duplicate_entry_is_refused(path: Path, twice: str) -> None:
    stored = entries(path)
    rezip(path, [*stored.items(), (twice, stored[twice])])
    with pytest.raises(InputError, match="once each"):
        read_bundle(path)


def test_a_missing_entry_is_refused(path: Path) -> None:
    rezip(path, [(MANIFEST, entries(path)[MANIFEST])])
    with pytest.raises(InputError, match="once each"):
        read_bundle(path)


def test_a_zip_bomb_is_refused_unread(path: Path) -> None:
    bomb = b"\0" * (32 << 20)
    rezip(path, [(MANIFEST, entries(path)[MANIFEST]), (WEIGHTS, bomb)], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="compressed; accepted: stored entries"):
        read_bundle(path)


def test_an_oversized_manifest_is_refused(path: Path) -> None:
    rezip(path, [(MANIFEST, b" " * (17 << 20)), (WEIGHTS, b"")])
    with pytest.raises(InputError, match=r"manifest\.json claims"):
        read_bundle(path)


def test_a_symbolic_link_entry_is_only_bytes(path: Path) -> None:
    stored = entries(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, stored[MANIFEST])
        link = zipfile.ZipInfo(WEIGHTS)
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="damaged or changed"):
        read_bundle(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_bundle(tmp_path / "nothing.policy")
    with pytest.raises(InputError, match="cannot be read"):
        read_bundle(tmp_path)


@given(data=st.data())
def test_any_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("bundle") / "x.policy"
    write_bundle(file, manifest(), weights())
    content = bytearray(file.read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    content = content[:cut] if data.draw(st.booleans()) else content
    if content:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        bundle = read_bundle(file)
    except InputError:
        return
    for name, array in weights().items():
        np.testing.assert_array_equal(bundle.weights[name], array)


def test_what_follows_or_precedes_the_archive_changes_the_identity(path: Path) -> None:
    before = read_bundle(path).sha256
    buffer = io.BytesIO(path.read_bytes())
    path.write_bytes(b"#!/bin/sh\n" + buffer.getvalue())
    assert read_bundle(path).sha256 != before
