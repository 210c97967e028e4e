"""From a YAML file and `key.sub=value` overrides to a checked Config; every problem is listed at once."""

import difflib
import os
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import ConfigError
from .schema import Config
from .yaml_text import parse_yaml, read_yaml

M = TypeVar("M", bound=BaseModel)
UNUSABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
"""Control characters but tab and line breaks, and halves of surrogate pairs, which UTF-8 can't write."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe file and apply overrides.

    Args:
        path: a YAML file.
        overrides: texts of the form `training.epochs=4`; the value is read as YAML. A setting's own name is
            enough where only one section has it (`epochs=4`).

    Raises:
        ConfigError: with every problem of the file, the overrides and the settings together.
    """
    raw, problems = read_recipe(Path(path))
    raw.setdefault("name", Path(path).stem)
    problems += apply_overrides(raw, overrides)
    return build_config(raw, problems)


def build_config(
    raw: Mapping[str, Any], problems: Iterable[str] = (), in_memory: Mapping[str, Any] | None = None
) -> Config:
    """Validate nested settings as far as they go and raise one ConfigError with everything that is wrong."""
    from .checks import check_config

    found, unusable = list(problems), _unusable(raw)
    if unusable:  # not even a message may hold such a value
        raise ConfigError(found + unusable)
    config, schema_problems = validate(Config, raw)
    found += schema_problems
    if config is not None:
        found += check_config(config, in_memory or {}, reported=found)
    if found or config is None:
        raise ConfigError(found)
    return config


def read_recipe(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Parse a YAML file with a safe loader. Returns the mapping and the problems found while reading."""
    if not os.path.exists(path):
        near = difflib.get_close_matches(path.name, _recipe_names(path.parent), n=1)
        hint = f" Did you mean {path.parent / near[0]}?" if near else " `nlp-pipeline init DATA_FILE` writes one."
        raise ConfigError(f"there is no recipe file {path}.{hint}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; expected a YAML recipe file in it")
    try:
        raw, problems = read_yaml(path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_yaml_reason(error)}") from None
    if not isinstance(raw, dict):
        kind = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise ConfigError(f"{path}: found {kind}, expected settings such as `task: text-classification`")
    return {str(key): value for key, value in raw.items()}, problems


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Write `key.sub=value` texts into the nested settings, in order. Returns the problems found."""
    problems = []
    for text in overrides:
        key, equals, value_text = text.partition("=")
        if not equals or not key.strip():
            problems.append(f"override {text!r}: expected key=value, e.g. training.epochs=4")
            continue
        try:
            value, repeated = parse_yaml(value_text)
        except (yaml.YAMLError, ValueError):
            problems.append(f"override {text!r}: the value is not valid YAML; put it in quotes")
            continue
        problem = set_setting(raw, key.strip(), value)
        problems += [f"override {text!r}: {line}" for line in repeated] + ([problem] if problem else [])
    return problems


def set_setting(raw: dict[str, Any], key: str, value: Any) -> str | None:
    """Set one setting by its dotted path, or by its own name where that is unique. Returns a problem or None."""
    path = key.split(".")
    if len(path) == 1 and path[0] not in Config.model_fields:
        sections = _sections_with(path[0])
        if len(sections) > 1:
            return f"{key}: several sections have it; write one of {', '.join(f'{s}.{key}' for s in sections)}"
        path = [*sections, path[0]]
    target = raw
    for i, part in enumerate(path[:-1]):
        if isinstance(target.get(part), str) and part == "model" and i == 0:
            target[part] = {"name": target[part]}
        inner = target.setdefault(part, {})
        if inner is None:
            inner = target[part] = {}
        if not isinstance(inner, dict):
            return f"{key}: {'.'.join(path[: i + 1])} is {_shown(inner)}, not a section"
        target[part] = target = dict(inner)  # a copy: the caller's nested mappings stay as they are
    target[path[-1]] = value
    return None


def validate(schema: type[M], raw: Mapping[str, Any], prefix: str = "") -> tuple[M | None, list[str]]:
    """Validate `raw`, collecting every problem.

    Returns a model even when there are problems, built without the faulty settings, so that later checks can add
    theirs to the same message; None when a required setting is missing.
    """
    problems: list[str] = []
    current: dict[str, Any] = dict(raw)
    for _ in range(100):  # each round removes at least one faulty setting
        try:
            return schema.model_validate(current), problems
        except ValidationError as error:
            details = error.errors(include_url=False)
            problems += [p for p in _describe_all(schema, details, prefix) if p not in problems]
            pruned = _without(current, [detail["loc"] for detail in details])
            if pruned == current:
                return None, problems
            current = pruned
    return None, problems


def _unusable(value: Any, place: str = "") -> list[str]:
    """Values that no setting takes and that the file system, JSON or the terminal would stumble over."""
    if isinstance(value, Mapping):
        return [
            problem
            for key, inner in value.items()
            for problem in (*_unusable(key, place), *_unusable(inner, f"{place}.{key}" if place else str(key)))
        ]
    if isinstance(value, list | tuple):
        return [problem for i, inner in enumerate(value) for problem in _unusable(inner, f"{place}.{i}")]
    if isinstance(value, str) and UNUSABLE.search(value):
        return [f"{place or 'the recipe'}: found {ascii(value)[:60]}, expected text without control characters"]
    if isinstance(value, int) and value.bit_length() > 63:
        return [f"{place or 'the recipe'}: found a whole number of {value.bit_length()} bits, expected 63 at most"]
    if isinstance(value, bytes | set):
        return [f"{place or 'the recipe'}: found {type(value).__name__}, expected text, a number, a list or a section"]
    return []


def _yaml_reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {reason}" if mark else reason


def _recipe_names(folder: Path) -> list[str]:
    return [p.name for p in folder.glob("*.y*ml")] if os.path.isdir(folder) else []


def _sections_with(setting: str) -> list[str]:
    """Top-level sections of Config that have a setting of this name."""
    return [
        name
        for name, field in Config.model_fields.items()
        if (section := _section_type(field.annotation)) and setting in section.model_fields
    ]


def _section_type(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model behind an annotation such as `LoraConfig | None`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType):
        return next((found for part in get_args(annotation) if (found := _section_type(part))), None)
    return None


def _describe_all(schema: type[BaseModel], details: Sequence[Any], prefix: str) -> list[str]:
    """One line a setting; the alternatives of a union (`int or 'epoch'`) are joined."""
    by_place: dict[str, list[str]] = {}
    for detail in details:
        known = _known_path(schema, detail["loc"])
        place = prefix + ".".join(str(part) for part in known)
        by_place.setdefault(place, []).append(_describe(schema, detail, known))
    lines = []
    for place, texts in by_place.items():
        unique = list(dict.fromkeys(texts))
        found = {text.partition(", expected ")[0] for text in unique}
        if len(unique) > 1 and len(found) == 1:
            expected = " or ".join(text.partition(", expected ")[2] for text in unique)
            unique = [f"{found.pop()}, expected {expected}"]
        lines += [f"{place}: {text}" for text in unique]
    return lines


def _known_path(schema: type[BaseModel], loc: Sequence[Any]) -> list[Any]:
    """The part of pydantic's location that a user wrote (it also names union branches)."""
    path: list[Any] = []
    section: type[BaseModel] | None = schema
    for part in loc:
        if section is not None and part in section.model_fields:
            path.append(part)
            section = _section_type(section.model_fields[part].annotation)
        elif section is not None or (isinstance(part, int) and path):
            path.append(part)
            break
    return path


def _describe(schema: type[BaseModel], detail: Any, path: Sequence[Any]) -> str:
    kind, value = detail["type"], detail.get("input")
    if kind == "missing":
        return "missing; it must be given"
    if kind == "extra_forbidden":
        section: type[BaseModel] | None = schema
        for part in path[:-1]:
            section = _section_type(section.model_fields[part].annotation) if section else None
        names = list(section.model_fields) if section else []
        near = difflib.get_close_matches(str(path[-1]), names, n=1, cutoff=0.5)
        elsewhere = _sections_with(str(path[-1])) if len(path) else []
        hint = f"did you mean {near[0]}? " if near else ""
        if elsewhere and not near:
            hint = f"did you mean {elsewhere[0]}.{path[-1]}? "
        return f"unknown key; {hint}Known here: {', '.join(names)}"
    message = detail["msg"]
    for lead in ("Input should be ", "Value error, "):
        message = message.removeprefix(lead)
    return f"found {_shown(value)}, expected {message}"


def _shown(value: Any) -> str:
    """A value as a message shows it: cut if it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _without(raw: Mapping[str, Any], locations: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """A copy of `raw` without the settings that the locations point at."""
    result = dict(raw)
    for loc in locations:
        _remove(result, list(loc))
    return result


def _remove(target: dict[str, Any], loc: list[Any]) -> None:
    if not loc or loc[0] not in target:
        return
    inner = target[loc[0]]
    if len(loc) > 1 and isinstance(inner, Mapping) and loc[1] in inner:
        target[loc[0]] = inner = dict(inner)
        _remove(inner, loc[1:])
    else:
        del target[loc[0]]
