"""One entry of `data.train` and the like: what it stands for, seen without reading it.

Standard library only: this runs before anything heavy is loaded.
"""

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..config.schema import DataConfig
from ..secrets import HIDDEN, MissingVariableError, expand, hide_password, redact
from .problems import did_you_mean, listed, nearest, quoted

SAMPLES = ("messages",)
FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet", ".txt": "txt",
}  # fmt: skip
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zip")
REMOTE = ("http", "https", "ftp", "s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "file")


@dataclass(frozen=True)
class Source:
    """One place that rows come from."""

    kind: Literal["memory", "sample", "hub", "sql", "disk", "file"]
    shown: str
    """How messages name it; without passwords."""
    value: str = field(repr=False)
    """Path, URL or name, as it is to be opened: it may hold a password."""
    format: str = ""
    """Of a file: csv, tsv, json, jsonl, parquet or txt."""
    compression: str = ""
    """Of a file: its compression's ending, such as `.gz`."""
    query: str = ""
    """Of a database."""
    split: str | None = None
    """Of a Hub data set: the split named after `#`."""

    @property
    def is_container(self) -> bool:
        """Whether it may hold several splits."""
        return self.kind in ("hub", "disk", "sample")


def parse_entry(
    text: str, data: DataConfig, split: str, query: str | None, in_memory: Mapping[str, Any], base: Path
) -> Iterator[Source | str]:
    """The sources (or problems, as text) behind one entry; `${NAME}` in it is read from the environment."""
    try:
        opened, query = expand(text), expand(query or "")
    except MissingVariableError as error:
        yield str(error)
        return
    for found in _parse_entry(opened, data, split, query, in_memory, base):
        yield redact(found) if isinstance(found, str) else replace(found, shown=redact(found.shown))


def _parse_entry(
    text: str, data: DataConfig, split: str, query: str, in_memory: Mapping[str, Any], base: Path
) -> Iterator[Source | str]:
    prefix, _, name = text.partition(":")
    if not text.strip():
        yield "an empty name; name a file"
    elif prefix == "memory" and name:
        passed = f"passed: {listed(sorted(in_memory))}" if in_memory else "nothing was passed"
        missing = f'"{text}" stands for in-memory rows under the name "{name}", but there are none ({passed})'
        yield Source("memory", text, name) if name in in_memory else missing
    elif prefix == "sample":
        fix = f"there are: {listed(SAMPLES)}.{did_you_mean(name, SAMPLES)}"
        yield (Source("sample", text, name) if name in SAMPLES else f'there is no sample data set "{name}"; {fix}')
    elif prefix == "hub" or data.format == "hub":
        name, _, hub_split = (name if prefix == "hub" else text).partition("#")
        known = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)
        wrong = f'"{text}" is no name of a Hub data set; expected hub:user/name or hub:user/name#split'
        yield Source("hub", text, name, split=hub_split or None) if known else wrong
    elif data.format == "sql" or re.match(r"[A-Za-z][\w+]*://", text):
        yield _parse_url(text, split, query, base)
    else:
        yield from _parse_path(text, data, base)


def _parse_url(text: str, split: str, query: str, base: Path) -> Source | str:
    shown = hide_password(text)
    scheme = text.partition("://")[0].lower()
    if "://" not in text:
        return f'"{shown}" is no database URL; expected one such as sqlite:///file.db'
    if scheme == "hf":
        return f'"{shown}": data sets of the Hub are named hub:user/name'
    if scheme in REMOTE:
        return f'"{shown}" is a remote file; download it first, then name the local file'
    if f":{HIDDEN}@" in text:
        return f"{shown} holds {HIDDEN} where a password was hidden; put ${{NAME}} of an environment variable there"
    if not query.strip():
        return f"{shown} is a database, but there is no query for it; set data.query.{split}='SELECT …'"
    if scheme.split("+")[0] == "sqlite":
        # Opening a missing file would create it; and relative paths count from the base, as all others do.
        match = re.fullmatch(r"(?is)([^:]+:///)([^?]*)(\?.*)?", text)
        if match and match[2] and match[2] != ":memory:" and not match[2].startswith("file:"):
            path = base / os.path.expanduser(match[2])
            if not path.is_file():
                return _no_file(match[2], path)
            text = f"{match[1]}{path}{match[3] or ''}"
    return Source("sql", shown, text, query=query)


def _parse_path(text: str, data: DataConfig, base: Path) -> Iterator[Source | str]:
    path = base / Path(os.path.expanduser(text))
    if os.path.exists(path):
        yield _parse_existing(text, path, data)
    elif glob.has_magic(text):
        matches = sorted(name for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
        if not matches:
            yield f'no file matches "{text}" (looked in {base.resolve()})'
        for match in matches:
            shown = match if Path(os.path.expanduser(text)).is_absolute() else os.path.relpath(match, base)
            yield _parse_existing(shown, Path(match), data)
    else:
        yield _no_file(text, path)


def _no_file(text: str, path: Path) -> str:
    parent = path.parent
    if not os.path.isdir(parent):
        return f'there is no file "{text}": the folder {parent.resolve()} does not exist'
    # By the stem: the endings alone would make all CSV files alike.
    by_stem = {entry.stem: entry.name for entry in sorted(parent.iterdir())}
    near = nearest(path.stem, by_stem)
    hint = f'; did you mean "{by_stem[near]}"?' if near else ""
    return f'there is no file "{text}" (looked in {parent.resolve()}){hint}'


def _parse_existing(text: str, path: Path, data: DataConfig) -> Source | str:
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return Source("disk", text, str(path))
        return (
            f'"{text}" is a folder, but none that save_to_disk wrote (no dataset_dict.json or state.json); '
            f"for the files in it use a glob such as {text.rstrip('/')}/*.csv"
        )
    if not os.access(path, os.R_OK):
        return f'"{text}" may not be read: permission denied'
    if path.stat().st_size == 0:
        return f'"{text}" is empty (0 bytes)'
    inner, compression = path.name, ""
    if path.suffix.lower() in COMPRESSIONS:
        inner, compression = path.stem, path.suffix.lower()
        if compression == ".zip":
            members = zip_members(path)
            if len(members) != 1:
                return f'"{text}" is {_describe_zip(members)}; expected a ZIP archive of exactly one file'
            inner = members[0]
            if problem := _unsafe_member(path, inner):
                return f'"{text}" holds {quoted(inner)}, {problem}; expected a plain file in it'
    format = FORMATS.get(Path(inner).suffix.lower()) if data.format == "auto" else data.format
    if format == "disk":
        return f'"{text}" is a file, but data.format is disk; expected a folder that save_to_disk wrote'
    if format is None:
        ending = Path(inner).suffix
        what = f'the ending "{ending}" of "{text}"' if ending else f'"{text}", which has no ending,'
        excel = " Save a spreadsheet as CSV first." if ending.lower() in (".xlsx", ".xls", ".ods") else ""
        return f"{what} does not tell the format; set data.format to csv, tsv, json, jsonl, parquet or txt.{excel}"
    return Source("file", text, str(path), format, compression)


def zip_members(path: Path) -> list[str]:
    """The files in a ZIP archive, without what macOS adds; empty if it is none."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return []
    return [name for name in names if not name.endswith("/") and not name.startswith("__MACOSX/")]


def _unsafe_member(path: Path, name: str) -> str | None:
    """What is wrong with an archive's file, if it is none that a program would pack. Nothing is ever unpacked."""
    import stat
    import zipfile

    with zipfile.ZipFile(path) as archive:
        mode = archive.getinfo(name).external_attr >> 16
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]:
        return "a name that leads out of the archive"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "which is a link or a device"
    return None


def _describe_zip(members: list[str]) -> str:
    return f"an archive of {len(members)} files ({listed(members)})" if members else "damaged, empty or no archive"
