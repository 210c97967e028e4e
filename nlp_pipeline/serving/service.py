"""A model that is being served: the queue, the shape, and the figures of one server."""

import asyncio
from typing import Any

from fastapi import HTTPException

from .batcher import Answer, Batcher, OverdueError, QueueFullError
from .guard import retry_after
from .metrics import Metrics
from .model import Question, Row, ServedModel
from .settings import Settings
from .shapes import shape_of


class Service:
    """What the routes share."""

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.shape = shape_of(model.recipe, settings.limits)
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
            HTTPException: 429 where too many wait, 503 where it takes too long, 500 where the model fails.
        """
        try:
            return await self.batcher.submit(question, rows, self.settings.limits.answer_seconds)
        except QueueFullError as full:
            told = f"too many requests wait for the model; try again in {full.seconds} seconds"
            raise HTTPException(429, told, retry_after(full.seconds)) from None
        except OverdueError:
            raise HTTPException(503, "the model is too busy to answer in time; try again", retry_after(5)) from None

    async def answer(self, body: Any) -> Any:
        """A valid request of the Inference API, answered.

        Raises:
            HTTPException: as `ask`; 422 where the request can't be answered.
        """
        try:
            question, rows = self.shape.asked(body)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        if len(rows) > self.settings.limits.rows:
            raise HTTPException(422, f"found {len(rows)} rows, expected {self.settings.limits.rows} at most")
        model, found = await self.ask(question, rows)
        return self.shape.answer(body, model, found)
