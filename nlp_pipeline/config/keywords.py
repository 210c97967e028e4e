"""Keyword arguments as settings: sections, settings by their own name, and data objects that stay in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .loading import set_setting

SPLITS = ("train", "validation", "test")


def take_keywords(raw: dict[str, Any], settings: Mapping[str, Any], in_memory: dict[str, Any]) -> list[str]:
    """Write keyword arguments into nested settings, setting data objects aside. Returns problems."""
    problems = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and key == "data":
            value = {name: _set_aside(name, item, in_memory) for name, item in value.items()}
        if isinstance(value, Mapping) and isinstance(raw.get(key), Mapping):
            value = {**raw[key], **value}
        problem = set_setting(raw, key, _set_aside(key, value, in_memory))
        if problem:
            problems.append(problem)
    return problems


def _set_aside(name: str, value: Any, in_memory: dict[str, Any]) -> Any:
    """Keep a data object in memory and put a placeholder in its place; paths stay as they are."""
    if name not in SPLITS or value is None or isinstance(value, str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, (str, Path)) for item in value):
        return [str(item) for item in value]
    in_memory[name] = value
    return f"memory:{name}"
