"""From an address to a server that runs."""

import ipaddress
import sys
from socket import SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket

from ..errors import ConfigError
from ..registry.address import is_address
from .app import create_app
from .reloading import Reloader, load
from .server import make_server
from .service import Service
from .settings import KEYS_VARIABLE, Settings


def run(address: str, settings: Settings, trust_remote_code: bool = False) -> None:
    """Serve until a signal comes.

    Raises:
        ConfigError, ModelError, RegistryError: the model can't be loaded, or the port is taken.
    """
    with bound(settings) as listening:
        model = load(address, trust_remote_code).make_ready()
        service = Service(model, settings)
        watched = settings.reload_seconds > 0 and is_address(address)
        reloader = Reloader(service, address, trust_remote_code) if watched else None
        host, port = listening.getsockname()[:2]

        def announce() -> None:
            print(f"{model.name} answers at http://{host}:{port} (documentation at /docs)", flush=True)
            if not settings.keys and not ipaddress.ip_address(host).is_loopback:
                told = f"whoever reaches {host}:{port} can use the model; set {KEYS_VARIABLE} to ask for keys"
                print(f"warning: {told}", file=sys.stderr, flush=True)

        reload = reloader.look_now if reloader else lambda: None
        make_server(create_app(service, reloader), settings, reload, announce).run(sockets=[listening])


def bound(settings: Settings) -> socket:
    """A socket at the settings' address, on which nobody is heard yet.

    Raises:
        ConfigError: the address can't be had.
    """
    place = f"{settings.host}:{settings.port}"
    fix = "choose another --port or --host, or end the server that is there"
    try:
        family, kind, number, _, address = getaddrinfo(settings.host, settings.port, type=SOCK_STREAM)[0]
        found = socket(family, kind, number)
    except OSError as error:
        raise ConfigError(f"{place} can't be listened on: {error.strerror or error}; {fix}") from None
    found.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    try:
        found.bind(address)
    except OSError as error:
        found.close()
        raise ConfigError(f"{place} can't be listened on: {error.strerror or error}; {fix}") from None
    return found
