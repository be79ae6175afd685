"""The real worker under a clock that its parent moves: five-minute windows in seconds, no more."""

import os
import sys
import time
from pathlib import Path

from ketang_agent.clock import Instant
from ketang_agent.inference import worker

PAUSE_S = 0.04


class MovedClock:
    """Boot and wall time, from a given wall time on; only ``passes`` moves it, for all readers."""

    def __init__(self, file: Path, wall_ms: int) -> None:
        self._file, self.wall_ms = file, wall_ms
        self._handle = os.open(file, os.O_RDONLY)

    def now(self) -> Instant:
        passed_ms = int.from_bytes(os.pread(self._handle, 8, 0), "big")
        return Instant(self.wall_ms + passed_ms, 10_000_000 + passed_ms, "boot-fast")

    def passes(self, seconds: int) -> None:
        passed_ms = self.now().wall_ms - self.wall_ms + seconds * 1000
        with self._file.open("r+b") as file:
            file.write(passed_ms.to_bytes(8, "big"))


if __name__ == "__main__":
    told = Path(os.environ["KETANG_TEST_CLOCK"]), int(os.environ["KETANG_TEST_WALL_MS"])
    os._exit(worker.main(sys.argv[1:], MovedClock(*told), lambda _: time.sleep(PAUSE_S)))
