"""From a finished run to a version: packed, checked in a clean process, stored, published, named."""

import shlex
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, NlpPipelineError
from ..run_directory import utc_now
from ..secrets import redact
from .address import check_alias, parse
from .packing import Pack, pack_run
from .verification import check
from .versions import Registry, Version, open_registry

if TYPE_CHECKING:
    from ..recipe import Recipe


def push(
    run: Path, target: str, alias: str | None = None, verify: bool = True, trust_remote_code: bool = False
) -> Version:
    """Publish a run's model as the next version, and let an alias stand for it.

    Nothing is published before the packed model has given the run's predictions in a clean process. Killed at any
    moment it leaves the versions and aliases as they were, or the version whole; it can be repeated.

    Args:
        verify: False leaves the check out; the version says so.
        trust_remote_code: run code that the model names in that check.

    Raises:
        ConfigError, RegistryError, StorageError: with everything that is wrong.
    """
    address = parse(target, "TARGET")
    if address.version or address.alias:
        raise ConfigError(f"TARGET: found {address}; a push makes a version of its own: {address.model}, and --alias")
    if alias is not None:
        check_alias(alias)
    registry = open_registry(address.root)
    pack = pack_run(run)
    rows = _verify(pack, trust_remote_code) if verify else 0
    manifest = {
        "name": address.name,
        "created": utc_now(),
        **pack.about,
        "verified_rows": rows,
        "files": pack.files,
    }
    version = registry.publish(address, manifest, pack.sources())
    if alias is not None:
        registry.promote(version, alias)
        version = replace(version, aliases=(alias,))
    return version


def push_after_run(recipe: "Recipe", finished: bool) -> Version | None:
    """What `registry:` in a recipe asks for. A push that fails is said, with the command to repeat; the run stands.

    Args:
        finished: the run was finished before; then nothing is pushed that is there already.
    """
    wanted, path = recipe.config.registry, recipe.run_directory.path
    if wanted is None or not recipe.is_main_process:
        return None
    say = recipe.reporter.say
    try:
        address = parse(wanted.target, "registry.target")
        registry = open_registry(address.root)
        if finished and (there := _pushed(registry, address.name, pack_run(path))):
            say(f"registry     {address}:{there} is this run")
            return None
        trusted = bool(recipe.config.recipe or recipe.config.model.trust_remote_code) and recipe._code_is_named
        version = push(path, wanted.target, wanted.alias, trust_remote_code=trusted)
    except Exception as error:  # whatever a store raises: the run is finished and stays so
        words = ["nlp-pipeline", "push", str(path), wanted.target, *(["--alias", wanted.alias] if wanted.alias else [])]
        text = str(error) if isinstance(error, NlpPipelineError) else f"{type(error).__name__}: {error}"
        warn = f"warning: the model was not pushed: {redact(text)}\nThe run is whole. Push it with: "
        print(warn + redact(shlex.join(words)), flush=True)
        return None
    say(f"registry     {version.address}{''.join(f' @{alias}' for alias in version.aliases)}")
    say(f"use it       echo 'your text' | nlp-pipeline predict {version.address}")
    say(f"serve it     nlp-pipeline serve {version.address}    (pip install 'nlp-pipeline[serving]')")
    return version


def _pushed(registry: Registry, name: str, pack: Pack) -> int | None:
    """The newest version that holds exactly these files."""
    for number in reversed(registry.numbers(name)):
        if registry.manifest(name, number)["files"] == pack.files:
            return number
    return None


def _verify(pack: Pack, trust_remote_code: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="nlp-pipeline-push-") as folder:
        packed = Path(folder) / "model"
        for name in pack.files:
            (packed / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pack.folder / name, packed / name)
        return check(packed, pack.sample, trust_remote_code)
