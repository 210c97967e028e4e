"""The route of text-embeddings-inference for text ranking."""

from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, create_model
from starlette.responses import JSONResponse

from .errors import refusals
from .service import Service
from .shapes.base import STRICT
from .shapes.ranking import Ranking


class Rank(BaseModel):
    """A text's place among those that were sent, and its score."""

    index: int
    score: float
    text: str | None = None


def add_rerank(app: FastAPI, service: Service, shape: Ranking) -> None:
    """Where the model ranks."""
    request = create_model(
        "RerankRequest",
        __config__=STRICT,
        query=(shape.text, ...),
        texts=(shape.several(shape.text), ...),
        return_text=(bool, False),
    )

    @app.post("/rerank", tags=["model"], response_model=list[Rank], responses=refusals())
    async def rerank(body: request) -> Any:
        """The texts' places and scores, best first."""
        given: Any = body
        ranked = await service.answer(SimpleNamespace(inputs=given), shape)
        left_out = () if given.return_text else ("text",)
        return JSONResponse([{name: value for name, value in one.items() if name not in left_out} for one in ranked])
