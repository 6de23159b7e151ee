"""YAML files of users, read as hostile input: no aliases, no key twice, no depth; errors name the line."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from simulator.errors import InputError

DEEPEST = 40
"""Nesting that is accepted; plans and workloads need less than ten."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(path: Path, what: str, highest_bytes: int, source: str) -> str:
    """The text of a file.

    Args:
        path: The file.
        what: What it should be, for messages: `a plan file`.
        highest_bytes: A larger file is refused unread.
        source: Where such files come from, for messages.

    Raises:
        InputError: It cannot be read, is larger, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(highest_bytes + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {source}") from error
    if len(content) > highest_bytes:
        raise InputError(f"{path}: larger than {highest_bytes >> 20} MiB; accepted: {what}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; accepted: {what}") from error


def compose(path: Path, text: str, what: str, source: str) -> yaml.MappingNode:
    """The YAML tree of a text; `what` and `source` as for `read_text`.

    Raises:
        InputError: It is no YAML mapping, is deep, shares nodes (aliases) or gives a key twice.
    """
    try:
        depth = 0
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise InputError(f"{path}, line {_line(event.start_mark)}: nested too deeply for {what}")
            if isinstance(event, yaml.AliasEvent):
                raise InputError(f"{path}, line {_line(event.start_mark)}: aliases (*name) are not accepted")
        root = yaml.compose(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not {what} ({_shortly(error)})") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}, line 1: not {what}; accepted: {source}")
    _refuse_doubles(path, root)
    return root


def construct(path: Path, root: yaml.MappingNode, what: str) -> Any:
    """The values of a tree.

    Raises:
        InputError: A value is not what its tag says.
    """
    loader = _Loader("")
    try:
        return loader.construct_document(root)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not {what} ({_shortly(error)})") from error
    finally:
        loader.dispose()


def located(path: Path, root: yaml.Node, where: Sequence[str | int], problem: str, whole: str) -> str:
    """A problem with file, line and field; `where` leads to it from the root, empty for the `whole`."""
    node = root
    for part in where:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
        if found is None:
            break
        node = found
    field = ".".join(str(part) for part in where) or f"({whole})"
    return f"{path}, line {_line(node.start_mark)}, field {field}: {problem}"


def _refuse_doubles(path: Path, node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{path}, line {_line(key.start_mark)}: a key is not plain text")
            if key.value in seen:
                raise InputError(f"{path}, line {_line(key.start_mark)}: {key.value[:100]} is given twice")
            seen.add(key.value)
            _refuse_doubles(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_doubles(path, value)


def _line(mark: Any) -> int:
    return int(mark.line) + 1 if mark is not None else 1


def _shortly(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error).splitlines() or [""]
    return f"line {mark.line + 1}: {problem[0][:200]}" if mark else problem[0][:200]
