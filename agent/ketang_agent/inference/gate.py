"""Spares the model a picture that has not changed. Motion is used here and never told.

The picture is compared as a grid of mean brightness; one changed cell is enough, since somebody who
sits down changes no more. However still the room, the model looks again after a while.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ketang_agent.inference.frames import Floats, Frame

_COLUMNS, _ROWS = 32, 24
_CHANGED = 6.0
"""Levels of 255 by which one cell must differ; a sensor's noise averages out far below."""
_LONGEST_MS = 60_000


@dataclass(slots=True)
class Gate:
    """Remembers the grid, never the picture, of the last frame that was let through."""

    seen: Floats | None = None
    at_ms: int = 0

    def opens(self, frame: Frame, now_ms: int) -> bool:
        """Tell whether the model must look at this frame.

        Args:
            frame: height × width × 3, blue-green-red.
            now_ms: boot time.
        """
        small = cv2.resize(frame, (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
        grid = np.asarray(small, np.float32).mean(axis=2)
        still = (
            self.seen is not None
            and 0 <= now_ms - self.at_ms < _LONGEST_MS
            and float(np.abs(grid - self.seen).max()) < _CHANGED
        )
        if still:
            return False
        self.seen, self.at_ms = grid, now_ms
        return True
