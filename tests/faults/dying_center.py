"""``python -m tests.faults.dying_center N SETTINGS``: a centre that is killed by its own hand.

At the N-th transaction of the rollouts' book, right after it is durable: what follows in memory and
on the wire is lost. 0: never.
"""

import os
import signal
import sys
from contextlib import contextmanager

from ketang_center.rollouts.rows import Rows
from ketang_cli.main import main

_whole = Rows.transaction


def die_at(number: int) -> None:
    left = number

    @contextmanager
    def transaction(self):
        nonlocal left
        outermost = not self._db.in_transaction
        with _whole(self):
            yield
        if outermost:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    Rows.transaction = transaction


if __name__ == "__main__":
    die_at(int(sys.argv[1]))
    sys.exit(main(["center", "serve", "--settings", sys.argv[2]]))
