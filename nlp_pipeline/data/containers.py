"""Sources that hold several splits: the Hub, folders of `save_to_disk`, and the sample data."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.schema import DataConfig
from ..errors import DataError
from ..run_directory import read_json
from .arrow_tables import Rows, from_memory
from .locations import Source
from .problems import listed, quoted

# What data sets call the splits. Prediction takes the first there is.
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
    "rows": ("test", "validation", "train"),
}
HUB_ADVICE = (
    "Check the name and the network. Without a network, load it once on a machine that has one, "
    "`datasets.load_dataset({name}).save_to_disk('folder')`, copy the folder, and name it instead"
)


class Container:
    """What a source holds: its splits, or rows that are no split in particular."""

    def __init__(self, source: Source, data: DataConfig) -> None:
        """Raises:
        DataError: it can't be loaded.
        """
        content = _LOADERS[source.kind](source, data)
        self.splits: Mapping[str, Any] | None = content if isinstance(content, Mapping) else None
        self._rows = None if self.splits is not None else content

    def find(self, split: str) -> str | None:
        """The name that a split has here, if it has one."""
        return next((name for name in SPLIT_NAMES[split] if name in (self.splits or {})), None)

    def rows(self, split: str, named: str | None = None) -> Rows:
        """The rows of a split; of the one `named` if the source says so.

        Raises:
            DataError: there is no such split.
        """
        if self.splits is None:
            return from_memory(self._rows)
        name = self.find(split) if named is None else named
        if name is not None and name in self.splits:
            return from_memory(self.splits[name])
        there = listed(quoted(name) for name in self.splits)
        raise DataError(
            f"has no split {quoted(named or split)}; it has {there}. Name one as hub:user/name#split, or "
            "by the split's own folder"
        )


def _load_hub(source: Source, data: DataConfig) -> Any:
    import datasets

    try:
        return datasets.load_dataset(source.value, data.hub_config, revision=data.hub_revision)
    except Exception as error:  # the Hub client raises some dozen unrelated types
        words = " ".join(str(error).split())[:300]
        advice = HUB_ADVICE.format(name=repr(source.value))
        raise DataError(f"cannot be loaded from the Hub: {type(error).__name__}: {words}. {advice}") from error


def _load_disk(source: Source, data: DataConfig) -> Any:
    import datasets

    for state in Path(source.value).rglob("state.json"):
        listed_files = read_json(state).get("_data_files") or []
        names = [str(file.get("filename")) for file in listed_files if isinstance(file, dict)]
        if foreign := [name for name in names if Path(name).name != name]:
            raise DataError(f"{state.name} names the file {quoted(foreign[0])}, which leads out of the folder")
    try:
        return datasets.load_from_disk(source.value)
    except Exception as error:  # whatever a damaged folder leads to
        words = " ".join(str(error).split())[:300]
        raise DataError(f"cannot be loaded as a save_to_disk folder: {type(error).__name__}: {words}") from error


def _load_sample(source: Source, data: DataConfig) -> Any:
    # Imported when used: the generator of the sample data is no part of any other run.
    sample_data = importlib.import_module("nlp_pipeline.sample_data")
    load = getattr(sample_data, f"load_{source.value}")
    return {split: load(split) for split in ("train", "test")}


_LOADERS = {"hub": _load_hub, "disk": _load_disk, "sample": _load_sample}
