"""From an address to a server that runs."""

import ipaddress
import sys

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
    model = load(address, trust_remote_code).make_ready()
    service = Service(model, settings)
    reloader = (
        Reloader(service, address, trust_remote_code) if settings.reload_seconds and is_address(address) else None
    )
    server = make_server(create_app(service, reloader), settings, reloader.look_now if reloader else lambda: None)
    try:
        socket = server.config.bind_socket()
    except SystemExit:
        raise ConfigError(
            f"--port: {settings.host}:{settings.port} can't be listened on; is another server there?"
        ) from None
    with socket:
        host, port = socket.getsockname()[:2]
        print(f"{model.name} answers at http://{host}:{port} (documentation at /docs)", flush=True)
        if not settings.keys and not ipaddress.ip_address(host).is_loopback:
            print(
                f"warning: whoever reaches {host}:{port} can use the model; set {KEYS_VARIABLE} to ask for keys",
                file=sys.stderr,
            )
        server.run(sockets=[socket])
