"""YAML, read safely and within bounds: no Python objects, no file too large, no alias that multiplies itself."""

from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**18
"""Largest file: a recipe has a few kilobytes, and the parser needs seconds for a megabyte."""
MOST_CHARACTERS = 2**20
"""Most characters with every alias written out: a few lines of aliases of aliases stand for billions."""


def read_yaml(path: Path) -> tuple[Any, list[str]]:
    """The content of a file, and keys that are given twice.

    Raises:
        yaml.YAMLError, UnicodeDecodeError, ValueError, OSError: it is no such file, or too large.
    """
    with open(path, "rb") as file:  # not by its size: a pipe has none
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise yaml.YAMLError(f"it is larger than {MOST_BYTES:,} bytes, too large for a recipe")
    return parse_yaml(content.decode("utf-8"))


def parse_yaml(text: str) -> tuple[Any, list[str]]:
    """The value of a YAML text, and keys that are given twice.

    Raises:
        yaml.YAMLError, ValueError: it is not valid, nested too deeply, or grows beyond bounds by its aliases.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        if _size(node, {}, set()) > MOST_CHARACTERS:
            raise yaml.YAMLError(f"with its aliases written out it is longer than {MOST_CHARACTERS:,} characters")
        return loader.construct_document(node), loader.problems
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also reports a key given twice instead of keeping the last one silently."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.problems: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):  # `!!map` may stand before anything
            seen: set[str] = set()
            for key_node, _ in node.value:
                key = str(key_node.value)
                if key in seen:
                    self.problems.append(f"line {key_node.start_mark.line + 1}: the key {key!r} is given twice")
                seen.add(key)
        return super().construct_mapping(node, deep)


def _size(node: yaml.Node, known: dict[int, int], inside: set[int]) -> int:
    """Characters with aliases written out; each node is counted once, however often it is referred to."""
    key = id(node)
    if key in inside:
        raise yaml.YAMLError("an alias refers to the very value that holds it")
    if key not in known:
        inside.add(key)
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        own = 1 if isinstance(node, yaml.CollectionNode) else 1 + len(node.value)
        known[key] = own + sum(_size(child, known, inside) for child in children)
        inside.discard(key)
    return known[key]
