"""YAML configurations checked by pydantic: messages name file, line and field; the environment overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from simulator.errors import InputError

HIGHEST_BYTES = 1 << 20
"""A configuration that is larger is refused unread."""

Model = TypeVar("Model", bound=BaseModel)
Lines = dict[tuple[str | int, ...], int]


def read_configuration(
    path: Path, model: type[Model], *, prefix: str, environ: Mapping[str, str] | None = None
) -> Model:
    """Read a YAML file into a pydantic model.

    Args:
        path: The file: one mapping, without aliases and without a key given twice.
        model: What it must hold; it should forbid unknown keys.
        prefix: Environment variables `PREFIX__FIELD__FIELD` replace fields; their values are YAML.
        environ: Instead of the process's environment.

    Raises:
        InputError: The file cannot be read, is not such YAML, or a field is unknown or out of range.
    """
    text = _text(path)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InputError(f"{path}: aliases (*name) are not accepted; write the value out")
        root = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML ({getattr(error, 'problem', None) or error})") from error
    if root is None:
        values = {}
    elif not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}, line 1: accepted: one mapping of settings")
    lines: Lines = {}
    if root is not None:
        _note_lines(path, root, (), lines)
    variables = _override(values, prefix, os.environ if environ is None else environ)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(
            "\n".join(_message(path, each, lines, variables) for each in error.errors())
        ) from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(HIGHEST_BYTES + 1)
        if len(content) > HIGHEST_BYTES:
            raise InputError(f"{path}: larger than {HIGHEST_BYTES >> 20} MiB; accepted: a YAML configuration")
        return content.decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; accepted: a YAML configuration") from error


def _note_lines(path: Path, node: yaml.Node, where: tuple[str | int, ...], lines: Lines) -> None:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*where, str(key.value))
            if inner in lines:
                raise InputError(
                    f"{path}, line {key.start_mark.line + 1}: {key.value} is given twice (first in line "
                    f"{lines[inner]})"
                )
            lines[inner] = key.start_mark.line + 1
            _note_lines(path, value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for k, value in enumerate(node.value):
            _note_lines(path, value, (*where, k), lines)


def _override(
    values: dict[str, Any], prefix: str, environ: Mapping[str, str]
) -> dict[tuple[str | int, ...], str]:
    variables: dict[tuple[str | int, ...], str] = {}
    for variable in sorted(environ):
        if not variable.startswith(f"{prefix}__"):
            continue
        where = tuple(part.lower() for part in variable.removeprefix(f"{prefix}__").split("__"))
        place: Any = values
        for part in where[:-1]:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
            if not isinstance(place, dict):
                raise InputError(f"environment variable {variable}: {part} is not a mapping of settings")
        try:
            place[where[-1]] = yaml.safe_load(environ[variable])
        except yaml.YAMLError as error:
            raise InputError(f"environment variable {variable}: its value is not YAML") from error
        variables[where] = variable
    return variables


def _message(path: Path, error: Any, lines: Lines, variables: Mapping[tuple[str | int, ...], str]) -> str:
    where = tuple(error["loc"])
    field = ".".join(str(part) for part in where)
    for length in range(len(where), -1, -1):
        if where[:length] in variables:
            return f"environment variable {variables[where[:length]]}, field {field}: {error['msg']}"
        if where[:length] in lines:
            return f"{path}, line {lines[where[:length]]}, field {field}: {error['msg']}"
    return f"{path}, field {field}: {error['msg']}"
