"""What a person sees while a run works: bars in a terminal or notebook, plain lines elsewhere, from one process."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .secrets import redact

PLAIN_SECONDS = 10.0
"""Seconds between plain lines when there is no terminal."""


class Bar:
    """Progress of one piece of work; the silent form does nothing."""

    def advance(self, amount: int = 1, **figures: Any) -> None:
        """Count `amount` more done; figures such as loss=0.31 are shown beside the bar."""


class Reporter:
    """Prints lines, tables and progress. Only the main process has an active one."""

    def __init__(self, active: bool = True) -> None:
        from rich.console import Console

        self.active = active
        self.console = Console(soft_wrap=True, highlight=False)

    def say(self, text: str) -> None:
        """One line."""
        if self.active:
            self.console.print(redact(text), markup=False)

    def show(self, renderable: Any) -> None:
        """A rich table or panel."""
        if self.active:
            self.console.print(renderable)

    @contextmanager
    def bar(self, label: str, total: int, unit: str = "rows", start: int = 0) -> Iterator[Bar]:
        """A progress display for `total` units, of which `start` are done already."""
        if not self.active:
            yield Bar()
        elif self.console.is_terminal or self.console.is_jupyter:
            with _rich_progress(self.console) as progress:
                yield _RichBar(progress, label, total, unit, start)
        else:
            plain = _PlainBar(label, total, unit, start)
            yield plain
            if plain.done > start:
                plain.line(last=True)


class _RichBar(Bar):
    def __init__(self, progress: Any, label: str, total: int, unit: str, start: int) -> None:
        self.progress, self.unit = progress, unit
        self.done, self.began, self.start = start, time.monotonic(), start
        self.task = progress.add_task(label, total=total, completed=start, rate="", figures="")

    def advance(self, amount: int = 1, **figures: Any) -> None:
        self.done += amount
        rate = (self.done - self.start) / max(1e-9, time.monotonic() - self.began)
        fields = {"rate": f"{rate:,.1f} {self.unit}/s"}
        if figures:
            fields["figures"] = describe(figures)
        self.progress.update(self.task, advance=amount, **fields)


class _PlainBar(Bar):
    def __init__(self, label: str, total: int, unit: str, start: int) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.start, self.figures = start, start, ""
        self.began = self.shown = time.monotonic()

    def advance(self, amount: int = 1, **figures: Any) -> None:
        self.done += amount
        if figures:
            self.figures = describe(figures)
        if time.monotonic() - self.shown >= PLAIN_SECONDS:
            self.line()

    def line(self, last: bool = False) -> None:
        """Print where the work stands."""
        self.shown = time.monotonic()
        seconds = max(1e-9, self.shown - self.began)
        rate = (self.done - self.start) / seconds
        left = clock((self.total - self.done) / rate) + " left" if rate and not last else clock(seconds)
        parts = [
            f"{self.label}: {self.done:,}/{self.total:,} {self.unit}",
            f"{rate:,.1f} {self.unit}/s",
            left,
        ]
        print(", ".join([*parts, self.figures] if self.figures else parts), file=sys.stdout, flush=True)


def describe(figures: dict[str, Any]) -> str:
    """`loss 0.312, lr 2.1e-04`."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _rich_progress(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
    )
