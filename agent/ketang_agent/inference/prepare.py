"""Makes a frame fit for a model: size and brightness. Pure; the frame itself is left alone."""

import cv2
import numpy as np

from ketang_agent.inference.frames import Frame

_BRIGHT = 235
"""Where the brightest hundredth of a well lit frame lies, of 255."""
_LEAST_GAIN = 1.3
_MOST_GAIN = 6.0
"""More than this would lift the sensor's noise into shapes."""
_SPARSE = 4
"""Every fourth pixel each way is enough to know the light."""


def fitted(frame: Frame, least_px: float, most_px: float) -> Frame:
    """Bring the longer side between ``least_px`` and ``most_px``; enlarge to twice at most.

    A small frame is enlarged so that its small heads reach the size the model was trained on.
    """
    longest = max(frame.shape[:2])
    scale = min(2.0, least_px / longest) if longest < least_px else min(1.0, most_px / longest)
    if scale == 1:
        return frame
    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    return resized(frame, width, height)


def resized(frame: Frame, width: int, height: int) -> Frame:
    """Scale to a size, by area where it shrinks, so that nothing flickers in and out."""
    shrinks = width < frame.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, height), interpolation=how), np.uint8)


def brightened(frame: Frame) -> Frame:
    """Stretch a dim frame until its highlights are bright; a well lit one is returned as it is."""
    highlight = float(np.percentile(frame[::_SPARSE, ::_SPARSE], 99))
    gain = min(_MOST_GAIN, _BRIGHT / max(1.0, highlight))
    if gain < _LEAST_GAIN:
        return frame
    return np.asarray(cv2.convertScaleAbs(frame, alpha=gain), np.uint8)
