"""A real server on a free loopback port, in a thread, around a seeded context."""

import threading
import time
from contextlib import contextmanager

from ketang_center.web.server import console


@contextmanager
def serving(context, port: int):
    """Give the base URL; the server is gone when this ends."""
    server = console(context, "127.0.0.1", port)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
