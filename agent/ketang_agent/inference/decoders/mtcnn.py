"""MTCNN: three small networks, each judging what the one before let through.

A pyramid of the frame goes through the first network, which proposes boxes; the second and third
look at each box enlarged to 24 and 48 pixels, correct it and score it. Only how many boxes are
left, and how sure the last network was, leaves this file.

Source: Zhang et al. 2016 (arXiv 1604.02878), with the constants of the published networks: a
12-pixel cell every 2 pixels, overlaps of 0.5 within a level and 0.7 between levels and stages.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ketang_agent.inference.backend import Network
from ketang_agent.inference.decoders.boxes import SCORE, Boxes, corrected, distinct, squared
from ketang_agent.inference.decoders.found import Heads
from ketang_agent.inference.frames import Floats, Frame, Indices
from ketang_agent.inference.prepare import brightened, fitted, resized
from ketang_models.manifest import Colour, Inputs, Manifest, ModelRefused

_CELL_PX = 12
_STRIDE_PX = 2
_WITHIN_LEVEL = 0.5
_BETWEEN = 0.7
_BATCH = 64
"""Crops that go through a network together: more would cost memory, not save time."""
_REFINER_PX = 24
_JUDGE_PX = 48
_NONE = np.empty((0, 9), np.float32)
_MOST_PROPOSALS = 1500
"""The best proposals kept; noise proposes many thousands and must not cost minutes."""
THRESHOLDS = frozenset(
    {"proposal", "refinement", "output", "smallest_px", "least_px", "most_px", "step"}
)


@dataclass(frozen=True, slots=True)
class Mtcnn:
    """The detector: a frame in, heads out."""

    proposer: Network
    refiner: Network
    judge: Network
    inputs: Inputs
    thresholds: Mapping[str, float]

    def find(self, frame: Frame) -> Heads:
        """Find heads in a frame of any size.

        Args:
            frame: height × width × 3, blue-green-red.
        """
        image = fitted(brightened(frame), self.thresholds["least_px"], self.thresholds["most_px"])
        if self.inputs.colour is Colour.RGB:
            # a real copy: every later crop of a reversed view would make its own
            image = np.ascontiguousarray(image[:, :, ::-1])
        boxes = squared(self._proposed(image))
        boxes = self._judged(image, boxes, self.refiner, _REFINER_PX, "refinement")
        boxes = squared(corrected(distinct(boxes, _BETWEEN), edge_px=1))
        boxes = self._judged(image, boxes, self.judge, _JUDGE_PX, "output")
        boxes = distinct(corrected(boxes, edge_px=1), _BETWEEN, "smaller")
        return Heads(len(boxes), float(boxes[:, SCORE].mean()) if len(boxes) else 1.0)

    def _proposed(self, image: Frame) -> Boxes:
        """Run the pyramid and return the best proposals."""
        levels = [self._level(image, scale) for scale in self._scales(image)]
        boxes = np.concatenate([_NONE, *levels])
        boxes = boxes[np.argsort(-boxes[:, SCORE], kind="stable")[:_MOST_PROPOSALS]]
        return corrected(distinct(boxes, _BETWEEN), edge_px=0)

    def _scales(self, image: Frame) -> Iterator[float]:
        scale = _CELL_PX / self.thresholds["smallest_px"]
        while min(image.shape[:2]) * scale >= _CELL_PX:
            yield scale
            scale *= self.thresholds["step"]

    def _level(self, image: Frame, scale: float) -> Boxes:
        height, width = (int(side * scale + 1) for side in image.shape[:2])
        level = resized(image, width, height)
        scores, offsets = self.proposer.run(self._tensor(level[None]))
        heads = scores[0, 1]
        rows, columns = np.nonzero(heads >= self.thresholds["proposal"])
        corners = np.stack([columns, rows], axis=1) * _STRIDE_PX
        boxes = np.concatenate(
            [
                np.floor((corners + 1) / scale),
                np.floor((corners + _CELL_PX) / scale),
                heads[rows, columns, None],
                offsets[0][:, rows, columns].T,
            ],
            axis=1,
            dtype=np.float32,
        )
        return distinct(boxes, _WITHIN_LEVEL)

    def _judged(
        self, image: Frame, boxes: Boxes, network: Network, side_px: int, threshold: str
    ) -> Boxes:
        """Let a network score each box enlarged; return the good ones with its corrections."""
        windows = _windows(boxes, image)
        boxes, windows = boxes[_not_empty(windows)], windows[_not_empty(windows)]
        kept = [_NONE]
        for start in range(0, len(boxes), _BATCH):
            batch = boxes[start : start + _BATCH]
            crops = [_crop(image, each, side_px) for each in windows[start : start + _BATCH]]
            scores, offsets = network.run(self._tensor(np.stack(crops)))
            good = scores[:, 1] > self.thresholds[threshold]
            kept.append(np.concatenate([batch[good, :4], scores[good, 1:], offsets[good]], axis=1))
        return np.concatenate(kept)

    def _tensor(self, images: Frame) -> Floats:
        """Turn n × height × width × 3 bytes into n × 3 × height × width floats around zero."""
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
        planes -= np.float32(self.inputs.mean)
        planes *= np.float32(self.inputs.scale)
        return planes


def make(manifest: Manifest, networks: Mapping[str, Network]) -> Mtcnn:
    """Put the three networks together.

    Raises:
        ModelRefused: a network or a threshold is missing, or there is one too many.
    """
    if set(networks) != {"pnet", "rnet", "onet"} or set(manifest.thresholds) != THRESHOLDS:
        raise ModelRefused(
            f"{manifest.name}: the mtcnn decoder needs pnet, rnet, onet and the thresholds "
            + ", ".join(sorted(THRESHOLDS))
        )
    return Mtcnn(
        networks["pnet"], networks["rnet"], networks["onet"], manifest.inputs, manifest.thresholds
    )


def _windows(boxes: Boxes, image: Frame) -> Indices:
    """Cut boxes off at the image's edge: rows of left, top, right, bottom, the last excluded."""
    height, width = image.shape[:2]
    corners = np.trunc(boxes[:, :4]).astype(np.intp)
    low = np.maximum(corners[:, 0:2], 1) - 1
    return np.concatenate([low, np.minimum(corners[:, 2:4], (width, height))], axis=1)


def _not_empty(windows: Indices) -> NDArray[np.bool_]:
    return np.asarray((windows[:, 2:4] > windows[:, 0:2]).all(axis=1))


def _crop(image: Frame, window: Indices, side_px: int) -> Frame:
    left, top, right, bottom = window
    return resized(image[top:bottom, left:right], side_px, side_px)
