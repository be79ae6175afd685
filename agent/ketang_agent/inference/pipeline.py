"""Frame in, one look out: light, gate, model. No frame is kept or returned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ketang_agent.inference import backend
from ketang_agent.inference.aggregate import Look
from ketang_agent.inference.backend import Network
from ketang_agent.inference.decoders import mtcnn
from ketang_agent.inference.decoders.found import Detector
from ketang_agent.inference.frames import Frame
from ketang_agent.inference.gate import Gate
from ketang_contract.records import View
from ketang_models.manifest import Manifest, ModelRefused
from ketang_models.registry import Model

_DARK = 24.0
"""Where the brightest twentieth of a picture stays under this, of 255, nobody can be told."""
_FLAT = 3.0
"""A spread of brightness below this is a lid, a wall before the lens, or a test picture."""
_SIDE_PX = 64
_LAST = "output"
"""What every manifest calls the threshold of its last network."""

Decoder = Callable[[Manifest, Mapping[str, Network]], Detector]
DECODERS: Mapping[str, Decoder] = {"mtcnn": mtcnn.make}
"""A new model family is one file in ``decoders`` and one line here."""


@dataclass(slots=True)
class Pipeline:
    """A model ready to look, and what it found last."""

    detector: Detector
    gate: Gate
    last: Look | None = None

    def look(self, frame: Frame, now_ms: int) -> Look:
        """Look at a frame; an unchanged one is answered with the last answer.

        Raises:
            RuntimeError: the model failed on it.
            cv2.error: so did OpenCV.
        """
        view = view_of(frame)
        if view is not View.OK:
            self.last = None
            return Look(view)
        if self.gate.opens(frame, now_ms) or self.last is None:
            self.last = None  # should the model fail, the old answer is none for this frame
            found = self.detector.find(frame)
            self.last = Look(View.OK, found.count, found.score if found.count else None)
        return self.last


def view_of(frame: Frame) -> View:
    """Tell whether a room can be seen in a frame at all: OK, DARK or BLOCKED."""
    small = cv2.resize(frame, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    grey = np.asarray(small, np.float32).mean(axis=2)
    if float(np.percentile(grey, 95)) < _DARK:
        return View.DARK
    return View.BLOCKED if float(grey.std()) < _FLAT else View.OK


def pipeline_of(model: Model, least_score: float = 0.0) -> Pipeline:
    """Check, load and try a model.

    Args:
        model: where it lies.
        least_score: 0 to 1: what its last network must give a head, where its manifest asks less.

    Raises:
        ModelRefused: a hash, a graph or the decoder does not fit the manifest.
    """
    cv2.setNumThreads(1)
    # its cache of compiled kernels would be a file
    cv2.ocl.setUseOpenCL(False)
    make = DECODERS.get(model.manifest.decoder)
    if make is None:
        raise ModelRefused(f"{model.manifest.name}: no decoder named {model.manifest.decoder!r}")
    networks = backend.load(model)
    backend.warm_up(networks, model)
    return Pipeline(make(_stricter(model.manifest, least_score), networks), Gate())


def _stricter(manifest: Manifest, least_score: float) -> Manifest:
    asked = dict(manifest.thresholds)
    if _LAST not in asked or asked[_LAST] >= least_score:
        return manifest
    return replace(manifest, thresholds=asked | {_LAST: least_score})
