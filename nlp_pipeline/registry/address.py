"""How a registered model is named: `file:models/topics`, `s3://bucket/models/topics:3`, `hub:user/topics@production`.

The last part is the model's name; all before it is the registry. Without `:VERSION` or `@ALIAS` the newest version is
meant where one is read.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConfigError
from ..secrets import MissingVariableError, expand, hide_password

NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
"""What models and aliases may be called: a plain file name anywhere, and a name that the Hub takes."""
MODEL = re.compile(rf"({NAME})(?:@({NAME})|:([1-9][0-9]{{0,8}}))?", re.ASCII)
URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII)
LOCAL = "file:"
HUB, MLFLOW, WANDB = "hub:", "mlflow:", "wandb:"
SERVICES = {HUB: "hub:USER/NAME", MLFLOW: "mlflow:NAME", WANDB: "wandb:PROJECT/NAME or wandb:ENTITY/PROJECT/NAME"}
"""Registries that are services, and how a model in each is named."""
OWNERS = {HUB: (1,), MLFLOW: (0,), WANDB: (1, 2)}
"""How many parts a name may have before its last one."""
FORMS = (
    "expected file:FOLDER/NAME, hub:USER/NAME, mlflow:NAME, wandb:PROJECT/NAME, or a URL that fsspec knows such as "
    "s3://BUCKET/FOLDER/NAME; followed by :VERSION or @ALIAS to mean one version"
)
RESERVED = re.compile(r"main|latest|v?[0-9]+", re.ASCII)
"""Names that services give to versions themselves, so that no alias may have them anywhere."""


@dataclass(frozen=True)
class Address:
    """A model in a registry, or a version of it."""

    root: str
    """The registry: a folder, a URL, `hub:USER`, `wandb:ENTITY/PROJECT`; empty on no account."""
    name: str
    version: int | None = None
    alias: str | None = None

    @property
    def model(self) -> str:
        """The model without a version, as it is written; passwords hidden."""
        if self.root.startswith(tuple(SERVICES)):
            return f"{self.root}{'' if self.root.endswith(':') else '/'}{self.name}"
        scheme = "" if URL.match(self.root) else LOCAL
        return hide_password(f"{scheme}{self.root.rstrip('/')}/{self.name}")

    def __str__(self) -> str:
        which = f":{self.version}" if self.version else f"@{self.alias}" if self.alias else ""
        return self.model + which

    def at(self, version: int) -> "Address":
        """One version of the same model."""
        return replace(self, version=version, alias=None)


def is_address(text: str) -> bool:
    """Whether a text names a place in a registry, and no folder."""
    return text.startswith((LOCAL, *SERVICES)) or URL.match(text) is not None


def parse(text: str, place: str = "registry") -> Address:
    """The parts of an address; `${NAME}` in it is read from the environment.

    Args:
        place: the setting or argument that it comes from, for messages.

    Raises:
        ConfigError: it is none.
    """
    found = f"{place}: found {hide_password(text)!r}"
    root, name = _split(text, place)
    if not (match := MODEL.fullmatch(name)):
        raise ConfigError(f"{found}, {FORMS}. Names are letters, digits, '.', '_' and '-'")
    if not URL.match(root) and not root.startswith(tuple(SERVICES)) and is_registry(Path(root) / match[1]):
        raise ConfigError(f"{found}, which is a registry itself; add the model's name: {text.rstrip('/')}/NAME")
    return Address(root, match[1], int(match[3]) if match[3] else None, match[2])


def parse_root(text: str, place: str = "registry") -> tuple[str, Address | None]:
    """A registry, and the model in it if the text names one.

    Raises:
        ConfigError: it is neither.
    """
    if text.startswith(LOCAL) and is_registry(Path(os.path.join(*_split(text, place)))):
        return os.path.join(*_split(text, place)), None
    if URL.match(text) and text.endswith("/"):
        return _expanded(text, place).rstrip("/"), None
    service, rest = _service(_expanded(text, place))
    owners = rest.removesuffix("/")  # with a slash at the end all of it is the registry
    if service and (owners != rest or "/" not in rest) and _are_owners(service, owners):
        return service + owners, None
    address = parse(text, place)
    return address.root, address


def check_alias(alias: str, place: str = "--alias") -> str:
    """The alias itself, where it may be one.

    Raises:
        ConfigError: it may not.
    """
    if not re.fullmatch(NAME, alias, re.ASCII) or RESERVED.fullmatch(alias):
        raise ConfigError(
            f"{place}: found {alias!r}, expected a name such as `production`: letters, digits, '.', '_', '-'; "
            "not `main`, `latest`, a number or `v` with a number"
        )
    return alias


def is_registry(folder: Path) -> bool:
    """Whether a folder is the root of a registry."""
    return (folder / "blobs").is_dir() and (folder / "models").is_dir()


def _split(text: str, place: str) -> tuple[str, str]:
    """The registry and the last part."""
    if not is_address(text):
        raise ConfigError(f"{place}: found {text!r}, {FORMS}")
    whole = _expanded(text, place)
    service, rest = _service(whole)
    if service:
        owners, _, name = rest.rpartition("/")
        if not _are_owners(service, owners):
            raise ConfigError(f"{place}: found {hide_password(text)!r}, expected {SERVICES[service]}")
        return service + owners, name
    if whole.startswith(LOCAL):
        path = whole.removeprefix(LOCAL)
        path = os.path.expanduser("/" + path.lstrip("/") if path.startswith("///") else path)
        root, name = os.path.split(path.rstrip("/") or path)
        return root or ".", name
    root, _, name = whole.rstrip("/").rpartition("/")
    return (root + "/" if root.endswith(":/") else root), name


def _service(text: str) -> tuple[str, str]:
    """The service that an address begins with, or nothing, and the rest."""
    service = next((start for start in SERVICES if text.startswith(start)), "")
    return service, text.removeprefix(service)


def _are_owners(service: str, text: str) -> bool:
    """Whether a text is what comes before a model's name in a service."""
    owners = text.split("/") if text else []
    return len(owners) in OWNERS[service] and all(re.fullmatch(NAME, owner, re.ASCII) for owner in owners)


def _expanded(text: str, place: str) -> str:
    try:
        return expand(text)
    except MissingVariableError as error:
        raise ConfigError(f"{place}: {error}") from None
