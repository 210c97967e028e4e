"""A newly promoted version takes the place of the one that answers, while requests go on."""

import asyncio
import logging
from contextlib import suppress

from ..errors import ModelError, NlpPipelineError
from ..registry.address import is_address, parse
from ..registry.pulling import find
from .model import ServedModel, input_columns
from .service import Service

logger = logging.getLogger(__name__)


def load(address: str, trust_remote_code: bool = False, beside: ServedModel | None = None) -> ServedModel:
    """The model that an address stands for now.

    Args:
        beside: the model that answers meanwhile; another task than its own is refused.

    Raises:
        NlpPipelineError: it can't be loaded.
    """
    name, pinned = pinned_version(address)
    if beside is None:
        return ServedModel.load(pinned, name, trust_remote_code)
    model = ServedModel.load(pinned, name, trust_remote_code, beside)
    if model.task != beside.task or input_columns(model.recipe) != beside.columns:
        raise ModelError(
            f"{name}: found a model for {model.task}, expected one that is asked as {beside.name} is: {beside.task}; "
            "serve it by a server of its own"
        )
    return model


def pinned_version(address: str) -> tuple[str, str]:
    """What clients see a model called, and the address of the very version that an alias stands for now."""
    if not is_address(address):
        return address.rstrip("/").rpartition("/")[2] or address, address
    version = find(address)[1]
    parsed = parse(address)
    suffix = f":{parsed.version}" if parsed.version else f"@{parsed.alias}" if parsed.alias else ""
    return f"{parsed.name}:{version.number}", f"{address.removesuffix(suffix)}:{version.number}"


class Reloader:
    """Looks again and again whether the address stands for another version.

    What goes wrong leaves the model that answers in its place, and is logged once.
    """

    def __init__(self, service: Service, address: str, trust_remote_code: bool = False) -> None:
        self.service, self.address, self.trust_remote_code = service, address, trust_remote_code
        self._told = ""
        self._asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def look_now(self) -> None:
        """Look at once; from a signal handler, too."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._asked.set)

    async def run(self) -> None:
        """Until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        pause = self.service.settings.reload_seconds or None
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause)
            self._asked.clear()
            await self.look()

    async def look(self) -> bool:
        """Whether another version answers now."""
        metrics = self.service.metrics
        try:
            name, _ = await asyncio.to_thread(pinned_version, self.address)
            if not is_address(self.address) or name == self.service.model.name:
                return False
            model = await asyncio.to_thread(load, self.address, self.trust_remote_code, self.service.model)
            await asyncio.wrap_future(self.service.batcher.replace(model))
        except Exception as error:
            told = str(error) if isinstance(error, NlpPipelineError) else f"{type(error).__name__}: {error}"
            if told != self._told:
                metrics.reloads.labels("failed").inc()
                logger.error("%s goes on answering: %s", self.service.model.name, told)
            self._told = told
            return False
        self._told = ""
        metrics.reloads.labels("done").inc()
        metrics.serving(model.name)
        logger.warning("%s answers from now on", model.name)
        return True
