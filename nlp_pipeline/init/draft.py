"""A recipe in the making: settings with comments, and the YAML text they become."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass
class Draft:
    """Settings by section, each with its comments."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    comments: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def set(self, section: str, key: str, value: Any, *why: str) -> None:
        """A setting and its comments; section "" is the top level, and None takes a setting away."""
        self.comments[section, key] = [text for text in why if text]
        self.sections.setdefault(section, {})[key] = value
        if value is None:
            del self.sections[section][key]

    def settings(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What YAML would read, with changes to the data section (None takes a setting away)."""
        changed = {key: value for key, value in {**self.sections["data"], **data}.items() if value is not None}
        nested = {name: values for name, values in self.sections.items() if name}
        return {**self.sections[""], **nested, "data": changed}

    def text(self, head: str) -> str:
        """The file's text."""
        lines = _comment(head, "")
        for section, values in self.sections.items():
            lines += [f"{section}:"] if section else []
            indent = "  " if section else ""
            for key, value in values.items():
                for why in self.comments[section, key]:
                    lines += _comment(why, indent)
                lines.append(f"{indent}{key}: {scalar(value)}")
        return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """A value as YAML on one line."""
    width = float("inf")
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=width, sort_keys=False)
    return text.strip().removesuffix("...").strip()


def _comment(text: str, indent: str) -> list[str]:
    # Joined to one line first: nothing from the data may end the comment.
    lead = f"{indent}# "
    words = " ".join(text.split())
    wrapper = textwrap.TextWrapper(100, lead, lead, break_long_words=False, break_on_hyphens=False)
    return wrapper.wrap(words)
