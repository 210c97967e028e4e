"""The OpenAPI document: FastAPI's, and which routes ask for a key."""

from typing import Any

from fastapi import FastAPI

from .guard import OPEN

SCHEME = {"type": "http", "scheme": "bearer", "description": "An API key"}


def document_keys(app: FastAPI) -> None:
    """Say of every route that `Guard` doesn't leave open that it wants a key."""
    plain = app.openapi

    def documented() -> dict[str, Any]:
        schema = plain()  # FastAPI makes it once
        schema.setdefault("components", {})["securitySchemes"] = {"key": SCHEME}
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                if method != "get" or path not in OPEN:
                    operation["security"] = [{"key": []}]
        return schema

    app.openapi = documented  # type: ignore[method-assign]
