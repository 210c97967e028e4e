"""A model that is being served: the queue, the shapes, and the figures of one server."""

import asyncio
from typing import Any

from fastapi import HTTPException

from ..errors import DataError
from .batcher import Answer, Batcher, OverdueError, QueueFullError
from .guard import retry_after
from .metrics import Metrics
from .model import Question, Row, ServedModel
from .settings import Settings
from .shapes import rows_shape, shape_of
from .shapes.base import Shape


class Service:
    """What the routes share.

    Args:
        model: ready to be asked.
    """

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.shape, self.rows = shape_of(model, settings.limits), rows_shape(model, settings.limits)
        self.batcher = Batcher(model, settings.batching, settings.limits.queue, self.metrics)
        self.ready = False
        self.metrics.serving(model.name)

    @property
    def model(self) -> ServedModel:
        """The model that answers now."""
        return self.batcher.model

    def start(self) -> None:
        """Begin to answer."""
        self.batcher.start()
        self.ready = True

    async def stop(self) -> None:
        """Answer what waits, then end."""
        self.ready = False
        await asyncio.to_thread(self.batcher.close)

    async def ask(self, question: Question, rows: list[Row]) -> Answer:
        """What the model says of some rows, once it is their turn.

        Raises:
            HTTPException: 429 where too many wait, 503 where it takes too long, 422 where the task can't read a row.
        """
        if len(rows) > self.settings.limits.rows:
            raise HTTPException(422, f"found {len(rows)} rows, expected {self.settings.limits.rows} at most")
        try:
            return await self.batcher.submit(question, rows, self.settings.limits.answer_seconds)
        except QueueFullError as full:
            told = f"too many requests wait for the model; try again in {full.seconds} seconds"
            raise HTTPException(429, told, retry_after(full.seconds)) from None
        except OverdueError:
            raise HTTPException(503, "the model is too busy to answer in time; try again", retry_after(5)) from None
        except DataError as error:
            raise HTTPException(422, str(error)) from None

    async def answer(self, body: Any, shape: Shape | None = None) -> Any:
        """A valid request, answered.

        Args:
            shape: by default the task's.

        Raises:
            HTTPException: as `ask`; 422 where the request can't be answered.
        """
        shape = shape or self.shape
        try:
            question, rows = shape.asked(body)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        model, found = await self.ask(question, rows)
        return shape.answer(body, model, found)
