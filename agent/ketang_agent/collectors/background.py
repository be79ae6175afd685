"""One slow question at a time on a thread of its own, so that sampling never waits for it."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Asks when told to; meanwhile, and until then, the answer is the last one."""

    def __init__(self, ask: Callable[[], T], before: T, name: str) -> None:
        self._ask = ask
        self._name = name
        self._thread: threading.Thread | None = None
        self.latest = before

    @property
    def asking(self) -> bool:
        """Tell whether a question is still open."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Ask, unless the last question is still open."""
        if not self.asking:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait for the open question; for people who ask once, never in the sampling loop."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self.latest = self._ask()
