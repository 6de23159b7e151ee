"""Finds export files: single files, globs, folders and `s3://` prefixes."""

from __future__ import annotations

import glob
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.errors import InputError, SpotwiseError

SUFFIXES = (
    ".parquet",
    ".csv",
    ".csv.gz",
    ".jsonl",
    ".jsonl.gz",
    ".ndjson",
    ".ndjson.gz",
    ".json",
    ".json.gz",
)
"""What is taken from a folder or a prefix. A file that is named itself may have any name."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read.

    Attributes:
        path: Where it lies on this machine.
        name: How the user knows it; what the ledger and the messages say.
        sha256: Hash of its bytes.
        copies: Names of other files with the same bytes, which are not read.
    """

    path: Path
    name: str
    sha256: str
    copies: tuple[str, ...] = ()


@contextmanager
def find_files(paths: Iterable[str]) -> Iterator[list[SourceFile]]:
    """Yield the files behind `paths`, in a stable order, each content once: a copy bills nothing anew.

    Args:
        paths: Files, glob patterns, folders (searched recursively) or `s3://bucket/prefix`. What comes from
            S3 is
            in a temporary folder that is removed at the end of the `with` block.

    Raises:
        InputError: A path leads to no file, or a file is empty or of a kind that cannot be read.
        SpotwiseError: S3 did not answer.
    """
    with tempfile.TemporaryDirectory(prefix="spotwise-s3-") as scratch:
        found: dict[Path, str] = {}
        for path in paths:
            if path.startswith("s3://"):
                found.update(_download(path, Path(scratch)))
            else:
                found.update(dict.fromkeys(_local(path), ""))
        if not found:
            raise InputError("no billing export given; accepted: files, globs, folders, s3://bucket/prefix")
        by_content: dict[str, SourceFile] = {}
        for file, name in sorted(found.items()):
            one = SourceFile(file, name or str(file), _hash(file))
            first = by_content.setdefault(one.sha256, one)
            # Another spelling of one path is no copy.
            if first.path.resolve() != file.resolve():
                by_content[one.sha256] = replace(first, copies=(*first.copies, one.name))
        yield list(by_content.values())


def _local(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        files = [p for p in sorted(path.rglob("*")) if p.is_file() and _is_data(p.name, p.parts)]
        if not files:
            raise InputError(f"{text}: no export in this folder; accepted: {', '.join(SUFFIXES)}")
        return files
    if path.is_file():
        return [path]
    # The pattern may be absolute, which Path.glob refuses.
    matches = [Path(m) for m in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 (as said)
    files = [p for p in matches if p.is_file()]
    for folder in (p for p in matches if p.is_dir()):
        files += _local(str(folder))
    if not files:
        raise InputError(
            f"{text}: no such file or folder; accepted: a file, a glob, a folder, s3://bucket/prefix"
        )
    return files


def _is_data(name: str, parts: tuple[str, ...]) -> bool:
    lower = name.lower()
    # AWS puts a manifest beside the data, Azure too; both are JSON.
    is_manifest = lower.endswith("manifest.json") or "metadata" in parts
    return lower.endswith(SUFFIXES) and not is_manifest and not lower.startswith((".", "_"))


def _hash(path: Path) -> str:
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; accepted: a billing export with at least a header")
    digest = hashlib.sha256()
    with path.open("rb") as source:
        if source.read(4) == b"PK\x03\x04":
            raise InputError(f"{path}: a zip archive; unpack it first; accepted: {', '.join(SUFFIXES)}")
        source.seek(0)
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _download(url: str, scratch: Path) -> dict[Path, str]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError(f"{url}: no bucket; accepted: s3://bucket/prefix")
    found: dict[Path, str] = {}
    try:
        client = boto3.client("s3")
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                key = item["Key"]
                if key != prefix and not _is_data(Path(key).name, Path(key).parts):
                    continue
                # Numbered, so that a key like `../x` cannot leave the folder.
                target = scratch / f"{len(list(scratch.iterdir())):06d}-{Path(key).name}"
                client.download_file(bucket, key, str(target))
                found[target] = f"s3://{bucket}/{key}"
    except (BotoCoreError, ClientError) as error:
        raise SpotwiseError(f"{url}: {error}") from error
    if not found:
        raise InputError(f"{url}: no export under this prefix; accepted: {', '.join(SUFFIXES)}")
    return found
