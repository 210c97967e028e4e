"""The page on which a model is tried in a browser: one file, nothing from elsewhere."""

import html
import json
import re
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import HTMLResponse

from .service import Service

TEMPLATE = Path(__file__).with_name("page.html")
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: nothing but what stands in it, and answers of this server."""


def add_page(app: FastAPI, service: Service) -> None:
    """The page at /."""
    template = TEMPLATE.read_text(encoding="utf-8")
    # In a script nothing but `</` and `<!--` can end it.
    example = json.dumps(service.shape.example(), ensure_ascii=False).replace("<", "\\u003c")

    @app.get("/", tags=["state"], response_class=HTMLResponse, summary="A page to try the model")
    async def page() -> HTMLResponse:
        recipe = service.model.recipe
        texts = {"name": service.model.name, "task": recipe.task, "summary": recipe.summary}
        values = {name: html.escape(text) for name, text in texts.items()} | {"example": example}
        # In one go: a value may hold what looks like another's place.
        made = re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)
        return HTMLResponse(made, headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"})
