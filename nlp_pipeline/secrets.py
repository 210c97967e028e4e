"""Secrets: `${NAME}` in a setting is read from the environment when it is used, and what is secret is never shown.

The config itself always holds the `${NAME}` form, so that nothing that is made from it can give the value away.
Standard library only: errors are made with it.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

VARIABLE = re.compile(r"(\$?)\$\{([A-Za-z_]\w*)\}", re.ASCII)
SECRET_NAME = re.compile(
    r"(?i)(?!PWD$)(?:^|.*_)"
    r"(?:tokens?|secrets?|passw(?:or)?d|passphrase|pwd|api_?keys?|access_?key|private_?key|credentials?)(?:_|$)"
)
"""Names of environment variables whose values are taken for secrets; PWD is the shell's working folder."""
SHORTEST_SECRET = 8
SHORTEST_EXPANDED = 4
"""Shorter values are left alone: replacing each `1` or `dev` would spoil messages and hide nothing."""
HIDDEN = "***"

_expanded: dict[str, str] = {}


class MissingVariableError(LookupError):
    """A setting names an environment variable that isn't set. The text of the error is meant for the user."""


def expand(text: str) -> str:
    """`${NAME}` replaced by the environment variable; `$${NAME}` stands for `${NAME}` itself.

    Raises:
        MissingVariableError: a variable isn't set, or is empty.
    """
    missing = sorted({name for escaped, name in VARIABLE.findall(text) if not escaped and not os.environ.get(name)})
    if missing:
        names = ", ".join(f"${{{name}}}" for name in missing)
        raise MissingVariableError(
            f"{names}: no such environment variable is set; set it before the run, e.g. export {missing[0]}=…"
        )

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        _expanded[match[2]] = os.environ[match[2]]
        return _expanded[match[2]]

    return VARIABLE.sub(value, text)


def literal(path: Path) -> str:
    """A path as a setting in which nothing is read from the environment."""
    return str(path).replace("${", "$${")


def expanded_path(text: str) -> Path:
    """A path as a setting names it, with `${NAME}` and `~` resolved; where there is no such user, `~` stays.

    Raises:
        MissingVariableError: as `expand`.
    """
    return Path(os.path.expanduser(expand(text)))


def hide_password(url: str) -> str:
    """A URL without its secrets, for messages."""
    url = re.sub(r"(://[^:/@\s]*:)(?!\*\*\*@)(?!\$\{\w+\}@).*@", rf"\1{HIDDEN}@", url)
    return re.sub(
        r"(?i)([?&;][^=&;]*(?:password|passwd|pwd|secret|token)=)(?!\$\{\w+\})[^&;\s'\"]*", rf"\1{HIDDEN}", url
    )


def hide(text: str) -> str:
    """A text without passwords of URLs and without the values of environment variables named like secrets."""
    if "://" in text or "=" in text:
        text = hide_password(text)
    secrets = (v for k, v in os.environ.items() if len(v) >= SHORTEST_SECRET and v in text and SECRET_NAME.match(k))
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def redact(text: str) -> str:
    """`hide`, and values that came from the environment as they were written: `${NAME}`. For messages, not for files
    that are read again: there a value of another origin may be the same by chance."""
    for name, value in sorted(_expanded.items(), key=lambda item: -len(item[1])):
        for form in {value, unquote(value)}:
            if len(form) >= SHORTEST_EXPANDED:
                text = text.replace(form, f"${{{name}}}")
    return hide(text)


def public(value: Any) -> Any:
    """Nested settings as they may be written into a file: `hide` on every text."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {public(key): public(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public(inner) for inner in value]
    return value
