"""Opens a port to listen on, of both address families where that is meant."""

import socket

from ketang_contract.errors import BadInput

_BACKLOG = 1024


def listening(host: str, port: int, what: str) -> socket.socket:
    """Open a port; ``::`` takes IPv4 as well, where the machine has both.

    Args:
        host: an address of this machine.
        port: 0: any that is free.
        what: who listens, for the error.

    Raises:
        BadInput: it is taken, or the address is not this machine's.
    """
    try:
        if host == "::" and socket.has_dualstack_ipv6():
            return socket.create_server(
                (host, port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as problem:
        raise BadInput(f"{what}: cannot listen on {host} port {port}: {problem}") from None
