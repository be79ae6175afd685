"""A real server on a free loopback port, in a thread, around a seeded context."""

import threading
import time
from contextlib import contextmanager

from ketang_center.web.server import console

PATIENCE_S = 60


@contextmanager
def serving(context, port: int, *, host="127.0.0.1", certificate=None, key=None):
    """Give the base URL; the server is gone when this ends."""
    server = console(context, host, port, certificate=certificate, key=key)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not server.started:
            assert thread.is_alive(), "the server ended"
            assert time.monotonic() < deadline, "the server never came"
            time.sleep(0.05)
        shown = f"[{host}]" if ":" in host else host
        yield f"{'https' if certificate else 'http'}://{shown}:{port}"
    finally:
        server.should_exit = True
        thread.join()
