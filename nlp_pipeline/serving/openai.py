"""Routes that clients of OpenAI's API know, for the tasks that they fit."""

import base64
import time
import uuid
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, Field, create_model
from starlette.responses import JSONResponse

from .errors import OpenAIProblem, refusals
from .model import Found, Question, Row
from .service import Service
from .shapes.base import STRICT, Off, One, Whole
from .shapes.embeddings import Embeddings, vector
from .shapes.generation import NEW_TOKENS, Generation, stopped
from .shapes.rows import Message

Answer = dict[str, Any]
MODEL = (str | None, Field(None, description="Any name: there is one model here"))
IGNORED: dict[str, Any] = {"user": (str | None, None), "seed": (Whole | None, None)}
"""What clients send that changes nothing in a greedy answer."""


class ModelCard(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "nlp-pipeline"


class ModelList(BaseModel):
    """The models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def add_openai_routes(app: FastAPI, service: Service) -> None:
    """The list of models, and what the task allows."""

    @app.get("/v1/models", tags=["OpenAI"], responses={401: {"model": OpenAIProblem}})
    async def models() -> ModelList:
        """The model that answers."""
        return ModelList(data=[ModelCard(id=service.model.name)])

    if isinstance(service.shape, Embeddings):
        _add_embeddings(app, service, service.shape)
    if isinstance(service.shape, Generation):
        _add_completions(app, service, service.shape)
        if service.shape.chat:
            _add_chat(app, service, service.shape)


def _add_embeddings(app: FastAPI, service: Service, shape: Embeddings) -> None:
    fields: dict[str, Any] = {
        "model": MODEL,
        "input": (shape.text | shape.several(shape.text), Field(examples=["Where is my parcel?"])),
        "encoding_format": (Literal["float", "base64"], "float"),
        "user": IGNORED["user"],
    }
    request = create_model("EmbeddingsRequest", __config__=STRICT, **fields)

    @app.post("/v1/embeddings", tags=["OpenAI"], response_model=Answer, responses=refusals(OpenAIProblem))
    async def embeddings(body: request) -> Any:
        """A vector for each text."""
        given: Any = body
        texts = given.input if isinstance(given.input, list) else [given.input]
        model, found = await service.ask(*shape.texts(texts))
        packed = given.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": i, "embedding": _packed(vector(one)) if packed else vector(one)}
            for i, one in enumerate(found)
        ]
        tokens = sum(map(len, model.recipe.encoder.whole(texts)))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": model.name, "usage": usage})


def _add_completions(app: FastAPI, service: Service, shape: Generation) -> None:
    request = create_model(
        "CompletionRequest",
        __config__=STRICT,
        prompt=(shape.text | shape.several(shape.text), Field(examples=["Once upon a time"])),
        echo=(bool, False),
        **_generation_fields(service, 16),
    )

    @app.post("/v1/completions", tags=["OpenAI"], response_model=Answer, responses=refusals(OpenAIProblem))
    async def completions(body: request) -> Any:
        """The text that follows each prompt."""
        given: Any = body
        prompts = given.prompt if isinstance(given.prompt, list) else [given.prompt]
        rows = [shape.prompt(prompt) for prompt in prompts]
        model, found = await service.ask(Question("replies", given.max_tokens), rows)
        choices = []
        for index, (prompt, one) in enumerate(zip(prompts, found, strict=True)):
            text, reason = _ended(one, given.stop)
            text = prompt + text if given.echo else text
            choices.append({"index": index, "text": text, "finish_reason": reason, "logprobs": None})
        return JSONResponse(_generated("text_completion", "cmpl", model.name, choices, found))


def _add_chat(app: FastAPI, service: Service, shape: Generation) -> None:
    example = [{"role": "user", "content": "Good morning"}]
    request = create_model(
        "ChatRequest",
        __config__=STRICT,
        messages=(shape.several(Message), Field(examples=[example])),
        **_generation_fields(service, NEW_TOKENS),
    )

    @app.post("/v1/chat/completions", tags=["OpenAI"], response_model=Answer, responses=refusals(OpenAIProblem))
    async def chat(body: request) -> Any:
        """The assistant's reply."""
        given: Any = body
        rows: list[Row] = [{"messages": [message.model_dump() for message in given.messages]}]
        model, found = await service.ask(Question("replies", given.max_tokens), rows)
        text, reason = _ended(found[0], given.stop)
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}]
        return JSONResponse(_generated("chat.completion", "chatcmpl", model.name, choices, found))


def _generation_fields(service: Service, tokens: int) -> dict[str, Any]:
    most = service.settings.limits.new_tokens
    greedy = Field(0, ge=0, le=0, description="Texts are made greedily")
    return {
        "model": MODEL,
        "max_tokens": (Whole, Field(min(tokens, most), ge=1, le=most)),
        "temperature": (float, greedy),
        "n": (One, 1),
        "stream": (Off, False),
        "stop": (str | list[str] | None, Field(None, description="The text ends before the first of these")),
        **IGNORED,
    }


def _ended(found: Found, stop: str | list[str] | None) -> tuple[str, str]:
    """The text, and why it ends."""
    text, cut = stopped(found.record["prediction"], [stop] if isinstance(stop, str) else stop)
    return text, "stop" if cut or found.record["ended"] else "length"


def _generated(kind: str, prefix: str, model: str, choices: list[Answer], found: list[Found]) -> Answer:
    asked, made = (sum(one.record[name] for one in found) for name in ("prompt_tokens", "tokens"))
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made},
    }


def _packed(numbers: Any) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()
