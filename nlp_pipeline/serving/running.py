"""From an address to a server that runs."""

import ipaddress
import sys

from ..errors import ConfigError
from .app import create_app
from .model import ServedModel
from .server import make_server
from .service import Service
from .settings import KEYS_VARIABLE, Settings


def run(address: str, settings: Settings, trust_remote_code: bool = False) -> None:
    """Serve until a signal comes.

    Raises:
        ConfigError, ModelError, RegistryError: the model can't be loaded, or the port is taken.
    """
    model = ServedModel.load(address, address, trust_remote_code)
    service = Service(model, settings)
    server = make_server(create_app(service), settings)
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
