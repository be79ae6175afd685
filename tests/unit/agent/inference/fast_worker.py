"""The real worker under a clock that runs fast: five-minute windows in seconds, nothing else."""

import os
import sys
import time

from ketang_agent.clock import Instant
from ketang_agent.inference import worker


class FastClock:
    """Boot and wall time from a given wall time on, ``speed`` times as fast as this machine's."""

    def __init__(self, speed: int, started_s: float, wall_ms: int) -> None:
        self.speed, self.started_s, self.wall_ms = speed, started_s, wall_ms

    def now(self) -> Instant:
        passed_ms = round((time.monotonic() - self.started_s) * 1000 * self.speed)
        return Instant(self.wall_ms + passed_ms, 10_000_000 + passed_ms, "boot-fast")


def clock_of(said: str) -> FastClock:
    speed, started_s, wall_ms = said.split(",")
    return FastClock(int(speed), float(started_s), int(wall_ms))


if __name__ == "__main__":
    clock = clock_of(os.environ["KETANG_TEST_CLOCK"])
    os._exit(worker.main(sys.argv[1:], clock, lambda pause_s: time.sleep(pause_s / clock.speed)))
