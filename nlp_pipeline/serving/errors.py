"""Errors as clients of both APIs expect them: `{"error": "…"}`, on /v1 `{"error": {"message": "…", "type": "…"}}`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def error_response(status: int, told: str, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in the words of the API that the path belongs to."""
    return JSONResponse(error_body(status, told, path), status, dict(headers or {}))


def error_body(status: int, told: str, path: str) -> dict[str, Any]:
    """The body alone."""
    if not path.startswith("/v1/"):
        return {"error": told}
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": told, "type": kind}}


class Problem(BaseModel):
    """An error."""

    error: str


class OpenAIError(BaseModel):
    """What is wrong."""

    message: str
    type: str


class OpenAIProblem(BaseModel):
    """An error."""

    error: OpenAIError


def refusals(model: type[BaseModel] = Problem) -> dict[int | str, dict[str, Any]]:
    """What a route that asks the model may answer beside 200."""
    told = {
        400: "The body can't be read",
        401: "No valid API key",
        408: "The body came too slowly",
        413: "The body is too large",
        422: "The request is not of this shape",
        429: "Too many requests wait; Retry-After says when to come again",
        503: "Too busy, or stopping",
    }
    return {status: {"model": model, "description": words} for status, words in told.items()}
