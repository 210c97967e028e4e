"""TensorBoard: event files in the run directory, or in the folder that `uri` names."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from ..run_directory import fresh_path
from .trackers import RunFacts, last_by_kind

TEXT_SUFFIXES = (".json", ".yaml", ".md")


class Adapter:
    """Scalars by step; settings and reports as texts. What was written before is read to go on after it."""

    note, kept_at_end = None, False

    def __init__(self, facts: RunFacts) -> None:
        folder = Path(facts.uri, facts.name) if facts.uri else facts.folder / "tensorboard"
        self.id = facts.id or str(fresh_path(folder))  # what lies there by that name is another run's
        self.steps: dict[str, int] = {}
        if Path(self.id).is_dir():
            events = EventAccumulator(self.id, size_guidance={"scalars": 0}).Reload()
            self.steps = {tag: max(e.step for e in events.Scalars(tag)) for tag in events.Tags()["scalars"]}
        self.writer = SummaryWriter(self.id)
        if facts.id is None:
            self.writer.add_text("settings", "\n".join(f"    {k}: {v}" for k, v in facts.params.items()))

    def last(self) -> dict[str, int]:
        """Steps in the files."""
        return last_by_kind(self.steps)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Scalars."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """To the disk."""
        self.writer.flush()

    def confusion(self, labels: list[str], counts: list[list[int]]) -> None:
        """A table among the texts."""
        cells = [["right / predicted", *labels], ["---"] * (len(labels) + 1)]
        cells += [[label, *map(str, row)] for label, row in zip(labels, counts, strict=True)]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
        self.writer.add_text("confusion", table)

    def artifact(self, path: Path) -> None:
        """Texts are shown; TensorBoard has no place for a model."""
        if path.suffix in TEXT_SUFFIXES:
            self.writer.add_text(quote(path.name), "\n".join(f"    {line}" for line in path.read_text().splitlines()))

    def finish(self, finished: bool) -> None:
        """Close the file."""
        self.writer.close()
