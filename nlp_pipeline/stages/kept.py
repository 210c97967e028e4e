"""What a model says of a split's rows: computed once, before training, and read from the disk afterwards."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..run_directory import text_hash

if TYPE_CHECKING:
    import pyarrow as pa

    from ..recipe import Recipe


def kept_columns(
    recipe: "Recipe", name: str, parts: Mapping[str, Any], compute: "Callable[[], Iterator[pa.Table]]"
) -> "dict[str, pa.ChunkedArray]":
    """Columns with an entry an example, mapped into memory from their file, which is written where there is none yet.

    Called on every process: all compute, the main one writes a part at a time. Where tokenized rows aren't kept, the
    file lies in the run's folder.

    Args:
        name: of what says it, for the folder and the user.
        parts: everything the columns depend on, by name; the file is known by their hash.
        compute: gives the columns part by part, in the examples' order; at least one part.
    """
    import pyarrow as pa

    from ..data.tokenization import cache_root
    from ..evaluation.prediction import shared_from_main

    settings, accelerator = recipe.config.tokenization, recipe.accelerator
    root = cache_root(settings.cache_dir).parent if settings.cache else recipe.run_directory.path
    key = text_hash(json.dumps(parts, sort_keys=True, default=str))[:32]
    file = root / name / f"{key}.arrow"
    # One process decides: what it is about to write must not look like a hit to another.
    found = shared_from_main(file.exists(), accelerator)
    if not found:
        _write(file if accelerator.is_main_process else None, compute())
        accelerator.wait_for_everyone()
    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_stream(source).read_all()
    how = "found on disk" if found else "computed once and kept"
    recipe.reporter.say(f"{name}: {len(table):,} examples, {how} (key {key[:8]})")
    return {column: table.column(column) for column in table.column_names}


def _write(file: Path | None, parts: "Iterator[pa.Table]") -> None:
    """Aside, then in one go: what lies under its final name is whole. Without a file the parts are only computed."""
    import pyarrow as pa

    if file is None:
        for _ in parts:
            pass
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        with open(aside, "wb") as sink:
            first = next(parts)
            with pa.ipc.new_stream(sink, first.schema) as writer:
                writer.write_table(first)
                for part in parts:
                    writer.write_table(part)
            sink.flush()
            os.fsync(sink.fileno())
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
