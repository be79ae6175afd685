"""Arithmetic on boxes, shared by decoders.

A box is a row: left, top, right, bottom, score, in pixels; four corrections may follow.
"""

from typing import Literal

import numpy as np

from ketang_agent.inference.frames import Floats

Boxes = Floats
SCORE = 4
BOX_COLUMNS = 5


def squared(boxes: Boxes) -> Boxes:
    """Grow the shorter side of each box about its centre until it is a square."""
    size = boxes[:, 2:4] - boxes[:, 0:2]
    side = size.max(axis=1, keepdims=True) if len(boxes) else size[:, :1]
    made = boxes.copy()
    made[:, 0:2] += size / 2 - side / 2
    made[:, 2:4] = made[:, 0:2] + side
    return made


def corrected(boxes: Boxes, *, edge_px: int) -> Boxes:
    """Move each corner by its correction, a share of the box's size; drop the corrections.

    Args:
        boxes: rows of nine: a box and a correction for each of its four sides.
        edge_px: 1 where the last pixel counts as part of the width, else 0.
    """
    size = boxes[:, 2:4] - boxes[:, 0:2] + edge_px
    made = boxes[:, :BOX_COLUMNS].copy()
    made[:, 0:4] += np.tile(size, 2) * boxes[:, BOX_COLUMNS:]
    return made


def distinct(boxes: Boxes, most: float, share_of: Literal["union", "smaller"] = "union") -> Boxes:
    """Keep the best of each heap of boxes that overlap by more than ``most``.

    Args:
        boxes: rows that begin with a box.
        most: the overlap allowed, 0 to 1.
        share_of: what the overlap is measured against; ``smaller`` drops a box inside another.
    """
    boxes = boxes[np.argsort(-boxes[:, SCORE], kind="stable")]
    left, top, right, bottom = boxes[:, :4].T
    areas = (right - left + 1) * (bottom - top + 1)
    open_ones = np.arange(len(boxes))
    kept: list[int] = []
    # one cheap pass of whole columns for each box kept: hundreds of passes make up a scan
    while open_ones.size:
        one, rest = open_ones[0], open_ones[1:]
        kept.append(int(one))
        wide = np.minimum(right[one], right[rest]) - np.maximum(left[one], left[rest]) + 1
        high = np.minimum(bottom[one], bottom[rest]) - np.maximum(top[one], top[rest]) + 1
        common = np.maximum(wide, 0) * np.maximum(high, 0)
        if share_of == "smaller":
            limit = most * np.minimum(areas[one], areas[rest])
        else:
            limit = most * (areas[one] + areas[rest] - common)
        open_ones = rest[common <= limit]
    return boxes[kept]
