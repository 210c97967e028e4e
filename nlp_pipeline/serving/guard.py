"""What stands before every route: who asks, how large a body is, how long it takes; and what is counted."""

import asyncio
import hmac
import time
from hashlib import sha256
from typing import Any

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import error_response
from .metrics import Metrics
from .settings import Limits

OPEN = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json"})
"""What may be read (not posted to) without a key: the page, the documentation, and what a load balancer asks."""
CLOSE = {"Connection": "close"}
"""After a body that was not read to its end."""


class Guard:
    """Middleware: refuses without a key, limits the body while it is read, counts answers."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...], limits: Limits, metrics: Metrics) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self.keys = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self.keys and not self._open(scope) and not self._known(Headers(scope=scope)):
                told = "found no valid API key, expected the header `Authorization: Bearer KEY`"
                refusal = error_response(401, told, scope["path"], {"WWW-Authenticate": "Bearer", **CLOSE})
                await refusal(scope, receive, noting)
            else:
                await self.app(scope, self._limited(scope, receive), noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.answered(route, status, time.monotonic() - began)
        return None

    def _open(self, scope: Scope) -> bool:
        return scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN

    def _known(self, headers: Headers) -> bool:
        """Whether a request has one of the keys; how long it takes to say so tells nothing of them."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        digest = sha256(given.strip().encode()).digest()
        matches = [hmac.compare_digest(digest, key) for key in self.keys]
        return scheme.lower() == "bearer" and any(matches)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """`receive`, until the body is there whole; HTTPException passes through the application to its handlers."""
        limits, size, whole = self.limits, 0, False
        deadline = time.monotonic() + limits.body_seconds
        declared = Headers(scope=scope).get("content-length", "")
        too_large = HTTPException(
            413, f"found a body of more than {limits.body_bytes:,} bytes, expected fewer; send fewer texts", CLOSE
        )

        async def limited() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            if declared.isdigit() and int(declared[:20]) > limits.body_bytes:
                raise too_large
            try:
                message: Message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                told = f"the body did not come within {limits.body_seconds:g} seconds; send it faster"
                raise HTTPException(408, told, CLOSE) from None
            size += len(message.get("body", b""))
            if size > limits.body_bytes:
                raise too_large
            whole = not message.get("more_body", False)
            return message

        return limited


def retry_after(seconds: int) -> dict[str, Any]:
    """The header that tells a client when to come again."""
    return {"Retry-After": str(seconds)}
