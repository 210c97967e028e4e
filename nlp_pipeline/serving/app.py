"""The routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from .. import __version__
from .documentation import document_keys
from .errors import Problem, error_response, refusals
from .guard import Guard
from .openai import add_openai_routes
from .page import add_page
from .reloading import Reloader
from .rerank import add_rerank
from .service import Service
from .shapes.ranking import Ranking
from .wording import validation_text


class State(BaseModel):
    """Whether requests are answered, and by which model."""

    status: str
    model: str


def create_app(service: Service, reloader: Reloader | None = None) -> FastAPI:
    """The application of a service, which it starts and stops.

    Args:
        reloader: runs as long as the application does.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        watching = asyncio.create_task(reloader.run()) if reloader else None
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
            await service.stop()

    recipe, settings = service.model.recipe, service.settings
    app = FastAPI(
        title=f"{service.model.name}: {recipe.task}",
        summary=recipe.summary,
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
    )
    app.add_middleware(Guard, keys=settings.keys, limits=settings.limits, metrics=service.metrics)
    _add_error_handlers(app)
    _add_model_routes(app, service)
    add_openai_routes(app, service)
    _add_state_routes(app, service)
    add_page(app, service)
    if settings.keys:
        document_keys(app)
    return app


def _add_model_routes(app: FastAPI, service: Service) -> None:
    shape, rows = service.shape, service.rows

    @app.post("/", response_model=shape.response, responses=refusals(), summary=shape.summary, tags=["model"])
    async def infer(body: shape.request) -> Any:  # type: ignore[name-defined]
        return JSONResponse(await service.answer(body))

    @app.post("/predict", response_model=rows.response, responses=refusals(), summary=rows.summary, tags=["model"])
    async def predict(body: rows.request) -> Any:  # type: ignore[name-defined]
        return JSONResponse(await service.answer(body, rows))

    if isinstance(shape, Ranking):
        add_rerank(app, service, shape)


def _add_state_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["state"])
    async def health() -> State:
        """Whether the process lives."""
        return State(status="alive", model=service.model.name)

    @app.get("/ready", tags=["state"], responses={503: {"model": State, "description": "Not yet, or no more"}})
    async def ready(response: Response) -> State:
        """Whether requests are answered."""
        response.status_code = 200 if service.ready else 503
        return State(status="ready" if service.ready else "not ready", model=service.model.name)

    @app.get("/metrics", tags=["state"], response_class=Response,
             responses={200: {"content": {"text/plain": {}}}, 401: {"model": Problem}})  # fmt: skip
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        unreadable = any(problem["type"] == "json_invalid" for problem in error.errors())
        status = 400 if unreadable else 422
        return error_response(status, validation_text(error.errors()), request.url.path)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return error_response(error.status_code, str(error.detail), request.url.path, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return error_response(500, "the model failed on this request; the server's log says why", request.url.path)
