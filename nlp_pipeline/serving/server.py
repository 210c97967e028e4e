"""uvicorn with what a server open to the world needs: heads that must come in time, signals that end it with 0."""

import signal
import threading
from asyncio import TimerHandle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .settings import Settings


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request's head does not come in time; uvicorn would wait for ever."""

    head_seconds = 10.0
    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The first head is due."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A further head is due once its first byte is there; before that uvicorn's keep-alive counts."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_came()
        super().on_headers_complete()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Server(uvicorn.Server):
    """Ends with exit code 0 after SIGTERM or Ctrl-C, once what was taken is answered; a second signal ends it at once.

    Args:
        reload: called on SIGHUP.
        announce: called once requests are answered.
    """

    def __init__(self, config: uvicorn.Config, reload: Callable[[], None], announce: Callable[[], None]) -> None:
        super().__init__(config)
        self.reload, self.announce = reload, announce

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self.announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In place of uvicorn's, which raises the signal anew at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        handlers: dict[int, Any] = {signal.SIGTERM: stop, signal.SIGINT: stop}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = lambda number, frame: self.reload()
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_server(
    app: Any,
    settings: Settings,
    reload: Callable[[], None] = lambda: None,
    announce: Callable[[], None] = lambda: None,
) -> Server:
    """A server of an application."""
    protocol = type("Protocol", (PatientProtocol,), {"head_seconds": settings.limits.body_seconds})
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="error",
        server_header=False,
        limit_concurrency=settings.limits.connections,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
    )
    return Server(config, reload, announce)
