"""What a server allows, and how it gathers requests. Every default of serving stands here."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError

KEYS_VARIABLE = "NLP_PIPELINE_API_KEYS"
"""Environment variable with the API keys, separated by commas or line breaks."""
SHORTEST_KEY = 16


@dataclass(frozen=True)
class Limits:
    """What a request may ask for; one that asks for more is refused."""

    body_bytes: int = 1 << 20
    """Bytes of a request's body (413)."""
    rows: int = 256
    """Texts, pairs or conversations in a request (422)."""
    characters: int = 50_000
    """Characters of a text (422). The model reads its maximum length of tokens, whatever is sent."""
    new_tokens: int = 512
    """Tokens that a generated text may have (422)."""
    queue: int = 1024
    """Rows that may wait for the model; a request that finds more waiting is turned away (429)."""
    body_seconds: float = 10.0
    """How long a client may take to send its request, once for the head and once for the body (408)."""
    answer_seconds: float = 60.0
    """How long a request may wait for the model (503)."""
    connections: int = 1000
    """Open connections (503)."""


@dataclass(frozen=True)
class Batching:
    """How the requests of all clients become forward passes."""

    tokens: int = 8192
    """Tokens of one batch, estimated before they are made; a single request may exceed it."""
    wait_seconds: float = 0.002
    """How long a model that is free waits for as many requests as it found the time before."""


@dataclass(frozen=True)
class Settings:
    """A server's settings."""

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = field(default=(), repr=False)
    """API keys; without any, anyone who reaches the server may use it."""
    reload_seconds: float = 5.0
    """How often to look whether the address stands for another version; 0 for never."""
    shutdown_seconds: float = 30.0
    """How long to go on answering after a signal to stop."""
    limits: Limits = Limits()
    batching: Batching = Batching()


def read_keys(file: Path | None) -> tuple[str, ...]:
    """The API keys of a file (one a line) and of the environment variable.

    Raises:
        ConfigError: the file can't be read or is empty, or a key is too short to keep anyone out.
    """
    text = os.environ.get(KEYS_VARIABLE, "").replace(",", "\n")
    if file is not None:
        try:
            given = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--api-keys: {file} can't be read: {error}") from None
        if not given.strip():
            raise ConfigError(f"--api-keys: {file} is empty, expected a key a line")
        text += "\n" + given
    keys = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if any(len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() for key in keys):
        raise ConfigError(
            f"API keys: found one of fewer than {SHORTEST_KEY} characters or with others than ASCII, expected random "
            'ones, such as `python -c "import secrets; print(secrets.token_urlsafe(32))"` makes'
        )
    return keys
