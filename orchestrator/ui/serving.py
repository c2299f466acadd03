"""The server's life: its socket, the link to it, and its end."""

from __future__ import annotations

import errno
import socket

import uvicorn

from prunesweep.orchestrator.ui.pages import Pages
from prunesweep.orchestrator.ui.server import application, is_loopback, new_token
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store


class Serving:
    """A server that listens, so that its link is good, and answers once it is `run`."""

    def __init__(self, store: Store, host: str, port: int) -> None:
        """Raises `UserError` where the port or the address is not to be had."""
        self.socket = _listening(host, port)
        self.host, self.port = host, int(self.socket.getsockname()[1])
        self.token = None if is_loopback(host) else new_token()
        self._application = application(Pages(store), host, self.port, self.token)

    @property
    def link(self) -> str:
        """What to open in a browser; where it is not on loopback it ends in the token."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::", "") else self.host
        place = f"[{host}]" if ":" in host else host
        return f"http://{place}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def run(self) -> None:
        """Answer until a signal ends the process; what is being read then is given up."""
        config = uvicorn.Config(
            self._application,
            access_log=False,
            lifespan="off",
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=[self.socket])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except socket.gaierror as error:
        raise UserError(f"--host {host}: there is no such address ({error.strerror})") from error
    except OSError as error:
        raise UserError(_why_not(host, port, error)) from error
    return listening


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: choose another with --port; --port 0 takes any that is free"
    if error.errno == errno.EACCES:
        return f"port {port} is for the system's own services: choose one from 1024 on with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: this machine does not have that address"
    return f"port {port} of {host} cannot be had: {error.strerror}"
