"""Golden pictures: synthetic inputs every network of a model must answer as its maker saw it do.

The pictures are noise in squares of 1 to 16 pixels, so that every layer has something to tell, and
come out of SHAKE-256: the same bytes on every machine and with every version of numpy. Run by
``ketang_agent.inference.golden`` before a model is used, made by ``ketang_models.export``.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from ketang_models.manifest import Manifest, ModelFile, ModelRefused
from ketang_models.registry import Model, golden_answers

_SQUARES = 5
"""Squares of 1, 2, 4, 8 and 16 pixels, one size after the other."""

Floats = NDArray[np.float32]


def pictures(manifest: Manifest, network: ModelFile) -> Floats:
    """Make a network's golden input.

    Returns:
        float32, ``golden.pictures`` × channels × height × width, in the manifest's range.
    """
    golden, (_, channels, height, width) = manifest.golden, network.shape
    sides = (height or golden.side_px, width or golden.side_px)
    made = np.stack(
        [
            _picture(f"{golden.seed}:{network.role}:{at}", channels, sides, 1 << (at % _SQUARES))
            for at in range(golden.pictures)
        ]
    ).astype(np.float32)
    made -= np.float32(manifest.inputs.mean)
    made *= np.float32(manifest.inputs.scale)
    return made


def _picture(seed: str, channels: int, sides: tuple[int, int], square_px: int) -> NDArray[np.uint8]:
    height, width = sides
    rows, columns = -(-height // square_px), -(-width // square_px)
    raw = hashlib.shake_256(seed.encode()).digest(channels * rows * columns)
    small = np.frombuffer(raw, np.uint8).reshape(channels, rows, columns)
    return small.repeat(square_px, axis=1).repeat(square_px, axis=2)[:, :height, :width]


def check(model: Model, answers: Floats) -> None:
    """Compare what the networks answered with what they must.

    Args:
        model: its manifest says how much may differ.
        answers: every output tensor, flattened, in the manifest's order.

    Raises:
        ModelRefused: something differs, or is not a number.
    """
    golden = model.manifest.golden
    wanted = np.frombuffer(golden_answers(model), "<f4")
    if wanted.shape != answers.shape:
        raise ModelRefused(
            f"{model.manifest.name}: gives {answers.size} values on the golden pictures,"
            f" {golden.file} has {wanted.size}"
        )
    apart = np.abs(answers - wanted)
    allowed = golden.absolute + golden.relative * np.abs(wanted)
    if not (apart <= allowed).all():  # written so that what is not a number fails too
        raise ModelRefused(
            f"{model.manifest.name}: {int((~(apart <= allowed)).sum())} of {wanted.size} golden"
            f" answers differ, by {float(np.nanmax(apart)):.3g} at most"
        )
