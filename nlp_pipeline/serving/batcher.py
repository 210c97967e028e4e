"""The rows of all clients, gathered into batches for a model that runs in a thread of its own.

As soon as the model is free it takes what waits, up to a number of tokens. While fewer requests are there than the last
time it waits a little for those that were just answered to come again; one client alone waits for nobody.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from traceback import format_exc
from typing import Any, NamedTuple

from ..errors import DataError
from ..evaluation.prediction import kept_casts
from ..secrets import redact
from .metrics import Metrics
from .model import Found, Question, Row, ServedModel, forget_casts
from .settings import Batching

logger = logging.getLogger(__name__)
CHARACTERS_A_TOKEN = 4
"""Rough, for English; the estimate only decides how much is taken at once."""


class Answer(NamedTuple):
    """What a model says of a request's rows, and which model it was."""

    model: ServedModel
    found: list[Found]


class QueueFullError(Exception):
    """More rows wait than may; `seconds` until they will have been answered."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(seconds)


class OverdueError(Exception):
    """The request waited longer than it may."""


@dataclass
class _Job:
    question: Question
    rows: Sequence[Row]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Answer]
    deadline: float
    arrived: float = field(default_factory=time.monotonic)
    key: tuple[Question, frozenset[str]] = field(init=False)
    """Jobs of the same key may share a batch."""
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.question, frozenset(self.rows[0])
        self.tokens = sum(map(tokens_of, self.rows))


def tokens_of(value: Any) -> int:
    """About how many tokens a row has."""
    if isinstance(value, str):
        return 2 + len(value) // CHARACTERS_A_TOKEN
    if isinstance(value, Mapping):
        return sum(map(tokens_of, value.values()))
    return sum(map(tokens_of, value)) if isinstance(value, list | tuple) else 1


class Batcher:
    """The queue, and the thread in which the model runs.

    Args:
        queue: most rows that may wait.
    """

    def __init__(self, model: ServedModel, batching: Batching, queue: int, metrics: Metrics) -> None:
        self.model = model
        self._batching, self._queue, self._metrics = batching, queue, metrics
        self._next: tuple[ServedModel, Future[ServedModel]] | None = None
        self._waiting: deque[_Job] = deque()
        self._rows = 0
        self._rate = 0.0
        self._seen: tuple[Any, int] = None, 1
        """What the last batch's requests had in common, and how many there were when it was taken."""
        self._free = time.monotonic()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def submit(self, question: Question, rows: Sequence[Row], seconds: float) -> asyncio.Future[Answer]:
        """Queue a request's rows, from the event loop. The future raises OverdueError or what the model raised.

        Args:
            seconds: how long it may wait for its turn.

        Raises:
            QueueFullError: too many rows wait.
        """
        loop = asyncio.get_running_loop()
        job = _Job(question, rows, loop, loop.create_future(), time.monotonic() + seconds)
        with self._changed:
            if self._closed or (self._rows and self._rows + len(rows) > self._queue):
                raise QueueFullError(max(1, math.ceil(self._rows / self._rate)) if self._rate else 1)
            self._waiting.append(job)
            self._rows += len(rows)
            self._metrics.waiting.set(self._rows)
            self._changed.notify()
        return job.future

    def replace(self, model: ServedModel) -> Future[ServedModel]:
        """Answer by another model from the next batch on; the future says when, or raises why it can't."""
        done: Future[ServedModel] = Future()
        with self._changed:
            self._next = (model, done)
            self._changed.notify()
        return done

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with kept_casts("cpu"):
            while (jobs := self._take()) is not None:
                self._replace()
                self._answer(jobs)
                self._free = time.monotonic()

    def _replace(self) -> None:
        """Take the next model in place of the one before, if there is one."""
        with self._changed:
            waiting, self._next = self._next, None
        if waiting is None:
            return
        model, done = waiting
        try:
            self.model = model.make_ready()
        except Exception as error:
            done.set_exception(error)
        else:
            forget_casts()
            done.set_result(model)

    def _take(self) -> list[_Job] | None:
        """The next batch, perhaps empty; None at the end."""
        with self._changed:
            while not self._waiting and not self._closed and self._next is None:
                self._changed.wait()
            if not self._waiting:
                return None if self._closed else []
            until = max(self._free, self._waiting[0].arrived) + self._batching.wait_seconds
            while (left := until - time.monotonic()) > 0 and not self._closed and not self._enough():
                self._changed.wait(left)
            self._seen = self._waiting[0].key, self._alike()
            jobs = self._chosen()
            self._rows -= sum(len(job.rows) for job in jobs)
            self._metrics.waiting.set(self._rows)
            return jobs

    def _enough(self) -> bool:
        key, count = self._seen
        if key != self._waiting[0].key or self._alike() >= count:
            return True
        return sum(job.tokens for job in self._waiting) >= self._batching.tokens

    def _alike(self) -> int:
        """Requests that wait and may share the next batch."""
        return sum(job.key == self._waiting[0].key for job in self._waiting)

    def _chosen(self) -> list[_Job]:
        """Takes the oldest, and what may share its batch, off the queue."""
        key, room = self._waiting[0].key, self._batching.tokens
        jobs: list[_Job] = []
        left: deque[_Job] = deque()
        for job in self._waiting:
            tokens = job.tokens
            if job.key == key and (not jobs or tokens <= room):
                jobs.append(job)
                room -= tokens
            else:
                left.append(job)
        self._waiting = left
        return jobs

    def _answer(self, jobs: list[_Job]) -> None:
        now = time.monotonic()
        late = [job for job in jobs if job.deadline < now]
        for job in late:
            _deliver(job, OverdueError())
        # A client that has gone needs no answer.
        jobs = [job for job in jobs if job.deadline >= now and not job.future.cancelled()]
        if not jobs:
            return
        for job in jobs:
            self._metrics.waited.observe(now - job.arrived)
        rows = [row for job in jobs for row in job.rows]
        try:
            found = self.model.answer(jobs[0].question, rows)
        except Exception as error:
            self._failed(jobs, error)
            return
        seconds = time.monotonic() - now
        self._metrics.batch(len(rows), seconds)
        self._rate = len(rows) / seconds if not self._rate else 0.8 * self._rate + 0.2 * len(rows) / seconds
        start = 0
        for job in jobs:
            part = found[start : start + len(job.rows)]
            start += len(job.rows)
            _deliver(job, Answer(self.model, part))

    def _failed(self, jobs: list[_Job], error: Exception) -> None:
        """One request must not spoil those that it shared a batch with: each is tried alone."""
        if len(jobs) > 1:
            for job in jobs:
                self._answer([job])
            return
        if not isinstance(error, DataError):  # what is wrong with the rows is told to whoever sent them
            logger.error("the model failed on %d rows: %s", len(jobs[0].rows), redact(format_exc()))
        _deliver(jobs[0], error)


def _deliver(job: _Job, outcome: Answer | Exception) -> None:
    def settle() -> None:
        if job.future.done():
            return
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)

    try:
        job.loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop has ended, and with it whoever waited
        logger.debug("an answer came too late")
