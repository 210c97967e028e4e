"""What a run leaves on disk: names, the manifest, the metric log, the lock."""

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConfigError

RESULTS = "results.json"
PACKAGES = (
    "nlp-pipeline",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "evaluate",
    "numpy",
)


class RunDirectory:
    """One folder a run; the same command on the same folder goes on where it stopped.

    Contents: `recipe.yaml` (resolved), `manifest.json`, `audit.json`, `metrics.jsonl` (one line a logged step and a
    line an evaluation), `results.json` (final; its presence means that the run is finished), `sample.jsonl` (a few
    rows with their predictions, by which a copy of the model is checked), `predictions/`, `checkpoints/` and `model/`;
    without a cache of tokens also `teacher/` and the like: what another model said of the rows.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.expanduser(path))
        self.model = self.path / "model"
        self.checkpoints = self.path / "checkpoints"
        self.predictions = self.path / "predictions"
        self.recipe = self.path / "recipe.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.manifest = self.path / "manifest.json"
        self.audit = self.path / "audit.json"
        self.results = self.path / RESULTS
        self.sample = self.path / "sample.jsonl"
        self.lines_lost = 0
        self.on_first_line: Callable[[], None] | None = None
        """Called once, after the next line of the metric log."""

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.results.exists()

    def create(self) -> None:
        """Make the folder, with a plain sentence if that can't be done.

        Raises:
            ConfigError: it can't be made or written to, or links in it lead elsewhere.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"output.dir: {self.path} can't be made: {error.strerror}") from None
        if links := links_outside(self.path):
            raise ConfigError(
                f"output.dir: {path} is a symbolic link that leads out of the run directory, where files are written "
                "and deleted; put a file or folder in its place, or choose another output.dir"
                for path in links
            )
        if not os.access(self.path, os.W_OK):
            raise ConfigError(f"output.dir: {self.path} can't be written to; choose another with output.dir=FOLDER")

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line to the metric log. A disk that is full costs lines of it, never the run: said once."""
        line = json.dumps(finite(entry)) + "\n"
        try:
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write("\n" + line if self.lines_lost else line)  # the last line may have been cut short
        except OSError as error:
            if not self.lines_lost:
                print(f"{self.metrics} can't be written ({error.strerror}); training goes on", file=sys.stderr)
            self.lines_lost += 1
        if self.on_first_line is not None:
            call, self.on_first_line = self.on_first_line, None
            call()

    def history(self) -> list[dict[str, Any]]:
        """The metric log; lines that a crash or a full disk left cut short or unreadable are left out."""
        if not self.metrics.exists():
            return []
        entries = []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and isinstance(entry.get("step", 0), int):
                entries.append(entry)
        return entries

    def log_size(self) -> int | None:
        """Bytes of the metric log, all of them on the disk; None where it can't be read."""
        try:
            with open(self.metrics, "rb") as file:
                os.fsync(file.fileno())
                return file.seek(0, os.SEEK_END)
        except OSError:
            return None

    def rewind_log(self, step: int, size: int | None = None, evaluations: Sequence[Mapping[str, Any]] = ()) -> None:
        """Drop what was logged after the checkpoint that the run goes on from.

        Args:
            step: the checkpoint's.
            size: bytes that the log had then. A log that still has them is cut there, unread: it may have a line for
                each of a million steps.
            evaluations: the log's entries of evaluations up to then; put back where the log lost them.
        """
        if size is not None and self._cut_log(size):
            return
        kept = [entry for entry in self.history() if entry.get("step", 0) <= step]
        there = {entry["step"] for entry in kept if "validation" in entry}
        kept += [dict(entry) for entry in evaluations if entry["step"] not in there]
        kept.sort(key=lambda entry: entry.get("step", 0))
        if kept or self.metrics.exists():
            write_text(self.metrics, "".join(json.dumps(entry) + "\n" for entry in kept))

    def _cut_log(self, size: int) -> bool:
        """Cut the log where a line ends; False where none ends there."""
        try:
            with open(self.metrics, "rb+") as file:
                file.seek(max(size - 1, 0))
                if size and file.read(1) != b"\n":
                    return False
                file.truncate(size)
        except OSError:
            return False
        return True

    def write_json(self, path: Path, value: Any) -> None:
        """Write JSON aside, then rename."""
        write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process out of this folder while one works in it."""
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        with open(self.path / ".lock", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(
                    f"another process is working in {self.path}; wait for it, or choose another output.dir"
                ) from None
            yield


def links_outside(folder: Path) -> list[Path]:
    """Symbolic links within a folder whose targets lie outside of it."""
    root = folder.resolve()
    entries = (Path(where) / name for where, folders, files in os.walk(root) for name in (*folders, *files))
    return sorted(path for path in entries if path.is_symlink() and not _within(path, root))


def _within(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link to itself
        return False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is no such file, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def fresh_path(path: Path) -> Path:
    """A folder beside `path` that isn't there yet: x-2, x-3, …"""
    if not path.exists():
        return path
    number = 2
    while (candidate := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return candidate


def newest_of(path: Path, name: str | None, output_dir: str | None) -> Path:
    """The newest of `path`, path-2, path-3, …: the one that a rerun of the same command goes on with.

    A folder that only happens to be called so belongs to another recipe: its own name or output folder says so.
    """
    newest, number = path, 2
    while (candidate := path.with_name(f"{path.name}-{number}")).exists():
        if _made_by(candidate, name, output_dir):
            newest = candidate
        number += 1
    return newest


def _made_by(path: Path, name: str | None, output_dir: str | None) -> bool:
    import yaml

    from .config.yaml_text import read_yaml

    try:
        content, _ = read_yaml(path / "recipe.yaml")
        return bool((content["name"], content["output"]["dir"]) == (name, output_dir))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return False


def write_text(path: Path, text: str) -> None:
    """Write aside, fsync, rename: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


@contextmanager
def lines_file(path: Path, partial: Path | None = None) -> Iterator[Callable[[Iterable[Mapping[str, Any]]], None]]:
    """A function that adds records to a JSON Lines file, which is written aside and renamed when it is whole.

    Args:
        partial: where to leave what was written when an exception comes; by default it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            yield lambda entries: file.writelines(json_line(entry) for entry in entries)
        aside.replace(path)
    except BaseException:
        if partial is not None and aside.exists() and aside.stat().st_size:
            aside.replace(partial)
        aside.unlink(missing_ok=True)
        raise


def json_line(entry: Mapping[str, Any]) -> str:
    """A record as a line of JSON Lines."""
    return json.dumps(finite(entry), ensure_ascii=False) + "\n"


def finite(value: Any) -> Any:
    """JSON has no NaN: a number that is undefined becomes null."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def environment() -> dict[str, Any]:
    """Versions, platform and git commit: what a reader needs to repeat a run."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": versions,
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of the working directory, with `-dirty` when it holds changes; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def text_hash(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def folder_hash(path: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder, by relative name."""
    hashes = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        hashes[file.relative_to(path).as_posix()] = file_hash(file)
    return hashes


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def utc_now() -> str:
    """The time as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
