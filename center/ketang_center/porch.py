"""What the broker refused, carried into the security log.

Neither broker tells its clients whom it turned away; ``ketang broker run`` writes that to a file,
and this follows it. How far it has come lies beside the security log, so a restart counts nothing
twice.
"""

from pathlib import Path

from ketang_center.security import SecurityLog
from ketang_provisioning.broker_log import Position, follow


class Porch:
    """One thread: the warden's. ``path``: the file of refusals."""

    def __init__(self, path: Path, security: SecurityLog) -> None:
        self._path, self._security = path, security
        self._position = Position.of(security.mark("broker_refusals"))

    def keep(self, _: int) -> None:
        """Carry over what is new.

        Raises:
            OSError: the file is there and cannot be read.
        """
        while True:
            found, position = follow(self._path, self._position)
            for one in found:
                self._security.note(
                    one.at_ms, f"broker_{one.what}", one.who, one.source, one.detail
                )
            if position is not None and position != self._position:
                self._security.set_mark("broker_refusals", str(position))
            self._position = position
            if not found:
                return
