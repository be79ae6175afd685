"""Serves the console: plain uvicorn, which ends open live streams before it waits for them."""

import socket
from pathlib import Path

import uvicorn

from ketang_center.listening import listening
from ketang_center.view_values import Context
from ketang_center.web.app import create_app
from ketang_center.web.live import Hub

_PATIENCE_S = 2


class ConsoleServer(uvicorn.Server):
    """``run()`` blocks until a signal or ``should_exit``; ``started`` tells when it listens."""

    def __init__(self, config: uvicorn.Config, *hubs: Hub) -> None:
        super().__init__(config)
        self._hubs = hubs

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal or ``should_exit``; on ``::`` IPv4 is taken as well.

        Raises:
            BadInput: the port is taken, or the address is not this machine's.
        """
        if sockets is None:
            sockets = [listening(self.config.host, self.config.port, "console")]
        super().run(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the live streams, then everything else."""
        for one in self._hubs:
            one.close()
        await super().shutdown(sockets)


def console(
    context: Context,
    host: str,
    port: int,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
) -> ConsoleServer:
    """Make a server for a context, not started yet; HTTPS when given a certificate and its key.

    No access log: source addresses belong in security logs alone (PRIVACY rule 5).
    """
    app = create_app(context)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_PATIENCE_S,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return ConsoleServer(config, app.state.hub, app.state.rollout_news.hub)
