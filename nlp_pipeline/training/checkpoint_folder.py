"""The checkpoints of a run: which there are, which is whole, which are to go."""

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import START_ANEW, ConfigError
from ..run_directory import folder_hash, read_json
from .shards import shards_missing
from .train_state import STATE, name_of, read_state

MANIFEST = "manifest.json"
WHOLE = ("model.safetensors", "optimizer.safetensors")
"""What a checkpoint that isn't in shards holds beside its state."""


def find_checkpoint(folder: Path, identity: Mapping[str, Any]) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, and notes on any that were passed over.

    Raises:
        ConfigError: the checkpoint belongs to other settings; the differences are listed.
    """
    notes = []
    for path in reversed(list_checkpoints(folder)):
        problem = verify(path)
        if problem is not None:
            notes.append(f"{path.name} is damaged ({problem}); trying the one before")
            continue
        changed = _differences(read_state(path)[1], identity)
        if changed:
            raise ConfigError([f"{line}; go back to it, or {START_ANEW}" for line in changed])
        return path, notes
    return None, notes


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints by step, oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.is_dir()) if folder.is_dir() else []


def remove_after(folder: Path, step: int) -> None:
    """Delete checkpoints beyond the one that a run goes on from: they are damaged, and would pass for the newest.

    What a save left that was killed goes too.
    """
    for path in folder.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in list_checkpoints(folder):
        if path.name > name_of(step):
            shutil.rmtree(path, ignore_errors=True)


def verify(path: Path) -> str | None:
    """None when every file has its recorded SHA-256; else what is wrong.

    What this process found whole is not read again as long as no file of it was written to since.
    """
    now = _writings(path)
    if now and _whole.get(path) == now:
        return None
    problem = _what_is_wrong(path)
    if problem is None and now == _writings(path):
        _whole[path] = now
    return problem


_whole: dict[Path, dict[str, tuple[int, int, int]]] = {}


def _writings(path: Path) -> dict[str, tuple[int, int, int]]:
    """For each file the inode, its size and when it was last changed in any way."""
    try:
        return {e.name: (s.st_ino, s.st_size, s.st_ctime_ns) for e in os.scandir(path) if (s := e.stat())}
    except OSError:
        return {}


def _what_is_wrong(path: Path) -> str | None:
    expected = read_json(path / MANIFEST).get("sha256")
    if not isinstance(expected, dict) or not _complete(expected):
        return "its manifest is missing or unreadable"
    try:
        found = folder_hash(path)
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    bad = [name for name in expected if found.get(name) != expected[name]]
    return f"{', '.join(bad)} changed since it was written" if bad else None


def _complete(names: Collection[str]) -> bool:
    """Whether these are all the files of a checkpoint, in either form."""
    return STATE in names and (set(WHOLE) <= set(names) or not shards_missing(names))


def remove_old(folder: Path, keep: int, best_step: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one."""
    protected = {name_of(best_step)} if best_step is not None else set()
    for path in list_checkpoints(folder)[:-keep]:
        if path.name not in protected:
            shutil.rmtree(path, ignore_errors=True)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    now = json.loads(json.dumps(now))
    keys = [*now, *(key for key in before if key not in now)]
    return [
        f"{key}: this run directory was trained with {before.get(key)!r}, now it is {now.get(key)!r}"
        for key in keys
        if before.get(key) != now.get(key)
    ]
