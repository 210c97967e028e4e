"""Reads what a run wrote and sends to one tracker what that has not got yet. Live and afterwards alike."""

import fcntl
import json
import math
import os
import select
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ..config.schema import TrackingConfig
from ..run_directory import RunDirectory, read_json, text_hash
from ..secrets import expand, redact
from .figures import ProcessFigures
from .trackers import RunFacts, Tracker, start_tracker

KINDS = ("loss", "validation")
"""Kinds of lines in the metric log; each comes once a step, in the order of steps."""
SENT = ("loss", "learning_rate", "rows_per_second", "data_wait", "epoch")
POLL_SECONDS = 1.0
FAILED = 1


class Follower:
    """One run and one tracker, at the address that the run's recipe names or at another one, `uri`.

    `tracking/NAME.json` (`tracking/NAME-HASH.json` for another address) holds the service's run id, the last step sent
    of each kind and the artifacts that went. The service's own word on the last step comes first, where it gives one:
    whoever was killed between sending and noting it then sends nothing twice, and what a service lost is sent again.
    """

    def __init__(self, run: RunDirectory, name: str, process: int | None = None, uri: str | None = None) -> None:
        self.run, self.name = run, name
        self.folder = run.path / "tracking"
        self.settings = yaml.safe_load(run.recipe.read_text(encoding="utf-8"))
        self.tracking = TrackingConfig.model_validate(self.settings.get("tracking") or {})
        usual = {str(key): value for key, value in self.tracking.uri.items()}.get(name)
        self.uri = uri or usual
        elsewhere = f"-{text_hash(uri)[:8]}" if uri and uri != usual else ""
        self.file = self.folder / f"{name}{elsewhere}.json"
        self.state = read_json(self.file)
        identity = read_json(self.folder / "run.json").get("identity")
        if identity and self.state.get("identity") not in (None, identity):
            self.state = {}  # the folder was begun anew with other settings: another run
        self.state["identity"] = identity or self.state.get("identity")
        self.figures = ProcessFigures(process) if process else None
        self.offset = 0
        self.tracker: Tracker = self._start()

    def _start(self) -> Tracker:
        if not self.tracking.system:
            self.figures = None
        facts = RunFacts(
            self.folder,
            self.tracking.project,
            self.tracking.run_name or self.run.path.name,
            self.state.get("id"),
            expand(self.uri) if self.uri else None,
            flat(self.settings),
        )
        tracker = start_tracker(self.name, facts)
        if tracker.note:
            print(f"tracking: {self.name}: {tracker.note}", file=sys.stderr)
        last = tracker.last()
        self.sent: dict[str, int] = dict(self.state.get("sent", {}) if last is None else last)
        self.state["id"] = tracker.id
        self._write_state()
        return tracker

    def _note(self) -> None:
        """Remember what was sent, where the tracker keeps it from now on."""
        if not self.tracker.kept_at_end:
            self._write_state()

    def _write_state(self) -> None:
        self.run.write_json(self.file, {**self.state, "sent": self.sent})

    def send_new(self) -> int:
        """Send the lines that are new; returns how many. Nothing is noted before the service has it."""
        count = 0
        for entry in self._new_entries():
            kind = next((kind for kind in KINDS if kind in entry), None)
            if kind is None or entry["step"] <= self.sent.get(kind, 0):
                continue
            numbers = numbers_of(entry)
            if kind == "loss" and self.figures:
                numbers |= self.figures.read()
            self.tracker.log(entry["step"], numbers)
            self.sent[kind] = entry["step"]
            count += 1
        if count:
            self.tracker.flush()
            self._note()
        return count

    def _new_entries(self) -> Iterator[dict[str, Any]]:
        """Whole lines after those that were read. A log that became shorter was cut back: it is read from its start."""
        try:
            with open(self.run.metrics, "rb") as file:
                if file.seek(0, os.SEEK_END) < self.offset:
                    self.offset = 0
                file.seek(self.offset)
                content = file.read()
        except OSError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                yield entry

    def finish(self) -> None:
        """What there is once a run has ended: the final scores, the files."""
        self.send_new()
        results = read_json(self.run.results) if self.run.finished else {}
        if results and not self.state.get("summary"):
            self.tracker.log(max(self.sent.values(), default=0), summary_of(results))
            if confusion := results.get("confusion"):
                self.tracker.confusion(confusion["labels"], confusion["counts"])
            self.tracker.flush()
            self.state["summary"] = True
            self._note()
        wanted = [self.run.recipe]
        if results:
            wanted += [
                self.run.results,
                self.run.model / "README.md",
                *([self.run.model] if self.tracking.log_model else []),
            ]
        for path in wanted:
            if results and path.exists() and path.name not in self.state.setdefault("artifacts", []):
                self.tracker.artifact(path)
                self.state["artifacts"].append(path.name)
                self._note()
        self.tracker.finish(bool(results))
        self._write_state()


def send(path: Path, name: str, follow: bool = False, process: int | None = None, uri: str | None = None) -> int:
    """Send to one tracker what it has not got; with `follow` until the run ends. Returns an exit code.

    A tracker's failure is one line on stderr.

    Args:
        uri: where the tracker is, if not where the run's recipe says.
    """
    run = RunDirectory(path)
    try:
        with _alone(run.path / "tracking", name):
            follower = Follower(run, name, process, uri)
            parent = os.getppid()
            while follow and os.getppid() == parent and not _input_ended(POLL_SECONDS):
                follower.send_new()
            follower.finish()
    except Exception as error:  # whatever a client raises
        reason = redact(" ".join(str(error).split())[:300])
        print(f"tracking: {name} failed ({type(error).__name__}: {reason}); the run goes on", file=sys.stderr)
        return FAILED
    return 0


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Wait for an earlier follower of the same tracker, which a killed run may have left behind."""
    folder.mkdir(exist_ok=True)
    with open(folder / f".{name}.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _input_ended(seconds: float) -> bool:
    """Whether the run has closed the pipe to this process, waiting a while for it."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready)


def numbers_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of the metric log, by the name that a tracker shows."""
    named: dict[str, Any] = {f"train/{key}": entry.get(key) for key in SENT} if "loss" in entry else {}
    named |= {f"validation/{key}": value for key, value in (entry.get("validation") or {}).items()}
    return {key: float(value) for key, value in named.items() if _is_number(value)}


def summary_of(results: Mapping[str, Any]) -> dict[str, float]:
    """The final scores and the ends of their intervals, e.g. `final/test/accuracy` and `final/test/accuracy/low`."""
    split = results.get("split", "test")
    found = {f"final/{split}/{name}": value for name, value in (results.get("scores") or {}).items()}
    for name, bounds in (results.get("intervals") or {}).items():
        if bounds:
            found |= {f"final/{split}/{name}/{end}": bound for end, bound in zip(("low", "high"), bounds, strict=True)}
    return {key: float(value) for key, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def flat(settings: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Nested settings by dotted name, those of the tracking left out."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{place}.{key}" if place else str(key)
        if name == "tracking":
            continue
        if isinstance(value, Mapping) and value:
            found |= flat(value, name)
        else:
            found[name] = value
    return found
