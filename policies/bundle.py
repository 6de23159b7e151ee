"""Policy bundles: one file with a manifest and weights. Reading one runs no code."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from simulator.errors import InputError
from simulator.whole_file import write_whole

FORMAT_VERSION = 1
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
HIGHEST_BYTES = {MANIFEST: 16 << 20, WEIGHTS: 256 << 20}
"""A bundle that claims more is refused unread."""

Kind = Literal["deadline", "service"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Weights = Mapping[str, NDArray[Any]]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
_ACCEPTED = "accepted: a .policy file that `spotwise train` or `spotwise promote` wrote"


class BundleManifest(BaseModel):
    """What a bundle says about itself.

    Attributes:
        name: What the policy is called in reports.
        kind: The workload that it decides for.
        algorithm: Which class of this code runs it, by its name in `policies.registry`.
        feature_names: Inputs of the policy in their order; empty if it takes none.
        parameters: Settings that the algorithm needs beside the weights.
        training_config: The configuration that it was trained with.
        data_sha256: SHA-256 of every market file that it was trained on, by name.
        git_revision: Revision of the code that trained it; empty if unknown.
        evaluation: Rows of its evaluation table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: _Name
    kind: Kind
    algorithm: _Name
    feature_names: list[str] = Field(default_factory=list)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    training_config: dict[str, JsonValue] = Field(default_factory=dict)
    data_sha256: dict[str, _Sha256] = Field(default_factory=dict)
    git_revision: str = ""
    evaluation: list[dict[str, JsonValue]] = Field(default_factory=list)


class _FileManifest(BundleManifest):
    """The manifest as stored: with what `write_bundle` adds."""

    format_version: Literal[1]
    weights_sha256: _Sha256


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that was read.

    Attributes:
        manifest: What it says about itself.
        weights: Its arrays by name, read-only.
        sha256: SHA-256 of the whole file, which identifies the policy in reports.
    """

    manifest: BundleManifest
    weights: Weights
    sha256: str


def write_bundle(path: Path, manifest: BundleManifest, weights: Weights) -> str:
    """Write a bundle, whole or not at all; the same content gives the same bytes.

    Args:
        path: Where; its folder is made if need be.
        manifest: What the bundle says about itself.
        weights: Arrays by name.

    Returns:
        SHA-256 of the file.

    Raises:
        InputError: The manifest is not plain JSON, an array has no portable type, or the file cannot be
            written.
    """
    try:
        tensors = save_tensors(
            {
                name: np.ascontiguousarray(weights[name]).reshape(weights[name].shape)
                for name in sorted(weights)
            }
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: weights cannot be stored ({error!r}); accepted: numeric arrays") from error
    stored = {
        "format_version": FORMAT_VERSION,
        "weights_sha256": hashlib.sha256(tensors).hexdigest(),
        **manifest.model_dump(),
    }
    try:
        text = json.dumps(stored, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise InputError(f"{path}: the manifest holds a number that is not finite") from error
    content = _zipped({MANIFEST: text.encode(), WEIGHTS: tensors})
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def read_bundle(path: Path, kind: Kind | None = None) -> Bundle:
    """Read a bundle.

    Args:
        path: The file.
        kind: Refuse bundles for another kind of workload.

    Raises:
        InputError: The file is missing, damaged, has other entries than a manifest and weights (a path, a
            link, a duplicate, a compressed or oversized entry), is of another version or kind, has an unknown
            key, or its weights do not have the hash that the manifest states.
    """
    content = _read(path)
    entries = _unzipped(path, content)
    manifest = _manifest(path, entries[MANIFEST])
    if kind is not None and manifest.kind != kind:
        raise InputError(f"{path}: a policy for {manifest.kind} workloads; accepted here: {kind}")
    found = hashlib.sha256(entries[WEIGHTS]).hexdigest()
    if found != manifest.weights_sha256:
        raise InputError(
            f"{path}: {WEIGHTS} has SHA-256 {found}, the manifest says {manifest.weights_sha256}; "
            "the file was damaged or changed"
        )
    try:
        weights = load_tensors(entries[WEIGHTS])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {WEIGHTS} cannot be read ({error}); {_ACCEPTED}") from error
    for array in weights.values():
        array.flags.writeable = False
    described = BundleManifest.model_validate(
        manifest.model_dump(exclude={"format_version", "weights_sha256"})
    )
    return Bundle(described, weights, hashlib.sha256(content).hexdigest())


def _manifest(path: Path, text: bytes) -> _FileManifest:
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {MANIFEST} is not JSON ({error}); {_ACCEPTED}") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path}: {MANIFEST} is not a JSON object; {_ACCEPTED}")
    version = stored.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise InputError(f"{path}: bundle of format version {version!r}; this release reads {FORMAT_VERSION}")
    try:
        return _FileManifest.model_validate(stored)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: {MANIFEST}, field {where}: {first['msg']} ({error.error_count()} problem(s) in all)"
        ) from error


def _read(path: Path) -> bytes:
    highest = sum(HIGHEST_BYTES.values())
    try:
        with path.open("rb") as file:
            content = file.read(highest + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_ACCEPTED}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_ACCEPTED}") from error
    if len(content) > highest:
        raise InputError(f"{path}: larger than {highest >> 20} MiB; {_ACCEPTED}")
    return content


def _unzipped(path: Path, content: bytes) -> dict[str, bytes]:
    """The two entries. Only stored (uncompressed) ones are taken, so none can grow when read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            names = [member.orig_filename for member in members]
            if sorted(names) != sorted(HIGHEST_BYTES):
                raise InputError(
                    f"{path}: a zip archive with the entries {_shown(names)}; "
                    f"accepted: {MANIFEST} and {WEIGHTS}, once each"
                )
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                    raise InputError(f"{path}: {member.filename} is compressed; accepted: stored entries")
                if member.file_size > HIGHEST_BYTES[member.filename]:
                    raise InputError(
                        f"{path}: {member.filename} claims {member.file_size} bytes; "
                        f"accepted: at most {HIGHEST_BYTES[member.filename]}"
                    )
            return {member.filename: archive.read(member) for member in members}
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,  # a zip feature that Python does not know
        RuntimeError,  # an encrypted entry
        ValueError,
    ) as error:
        raise InputError(f"{path}: not a whole policy bundle ({error}); {_ACCEPTED}") from error


def _shown(names: list[str]) -> str:
    few = ", ".join(repr(name[:80]) for name in names[:5]) or "none"
    return few if len(names) <= 5 else f"{few}, ... ({len(names)} in all)"


def _zipped(entries: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, wherever it is written: the same bytes everywhere
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()
