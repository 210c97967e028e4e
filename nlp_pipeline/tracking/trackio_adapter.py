"""Trackio: a local database that `trackio show` draws. `uri` is its folder, by default Trackio's own."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from .trackers import RunFacts, last_by_kind


class Adapter:
    """Writes the database itself: Trackio's own run object writes from a thread and can't say when it is done."""

    note, kept_at_end = None, False

    def __init__(self, facts: RunFacts) -> None:
        if facts.uri:
            os.environ["TRACKIO_DIR"] = facts.uri  # read when trackio is imported
        from trackio.sqlite_storage import SQLiteStorage

        self.storage = SQLiteStorage
        self.project, self.name = facts.project, facts.name
        self.id = facts.id or uuid4().hex
        self.config = {**facts.params, "_Created": datetime.now(UTC).isoformat()}
        self.waiting: list[tuple[int, dict[str, float]]] = []

    def last(self) -> dict[str, int]:
        """Steps in the database."""
        if not self.storage.get_project_db_path(self.project).exists():
            return {}
        rows = self.storage.get_logs(self.project, self.name, run_id=self.id)
        steps: dict[str, int] = {}
        for row in rows:
            for name in row:
                steps[name] = max(int(row["step"]), steps.get(name, 0))
        return last_by_kind(steps)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Kept until `flush`."""
        self.waiting.append((step, dict(numbers)))

    def flush(self) -> None:
        """All at once, in one transaction."""
        if self.waiting:
            self.storage.bulk_log(
                self.project,
                self.name,
                [numbers for _, numbers in self.waiting],
                steps=[step for step, _ in self.waiting],
                config=self.config,
                run_id=self.id,
            )
        self.waiting = []

    def confusion(self, labels: list[str], counts: list[list[int]]) -> None:
        """Not kept: it is in the run directory's results.json."""

    def artifact(self, path: Path) -> None:
        """Not kept: the files lie on the same machine, in the run directory."""

    def finish(self, finished: bool) -> None:
        """Nothing is open."""
