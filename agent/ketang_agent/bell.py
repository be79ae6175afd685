"""What wakes the main loop, from any thread and from a signal handler."""

from contextlib import suppress
from queue import Empty, SimpleQueue


class Bell:
    """Rings are not counted: however many there were, the next ``wait`` returns at once.

    ``threading.Event`` will not do: its ``set`` takes a lock, and a signal that finds the main
    thread inside ``wait`` or ``clear`` would wait for that lock for ever. ``SimpleQueue.put`` may
    be interrupted by itself (its documentation promises so).
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """End the present or the next ``wait``."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, timeout_s: float) -> None:
        """Return when it rings, or after ``timeout_s``; forgets every ring until now."""
        with suppress(Empty):
            self._rings.get(timeout=timeout_s)
            while True:
                self._rings.get_nowait()
