"""Models with a few wrong bytes, and how far a network's answers are from the right ones.

``python -m tests.unit.models.mutations 600`` counts what became of so many, each with and without
the hash that would give it away.
"""

import hashlib
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from ketang_agent.inference import backend, golden
from ketang_models import golden as pictures_of
from ketang_models import registry
from ketang_models.manifest import ModelRefused
from ketang_models.registry import Model

SHIPPED = registry.shipped("mtcnn")
WRONG = 0.01
"""A score or a box's correction that is this far off can change what is counted."""


def mutated(folder: Path, seed: int) -> Model:
    """Lay the shipped model with one to four wrong bytes in one of its networks.

    Its manifest still tells; ``as_if_published`` makes one that does not.
    """
    rng = random.Random(seed)
    shutil.copytree(SHIPPED.folder, folder, dirs_exist_ok=True)
    path = folder / rng.choice(SHIPPED.manifest.files).file
    raw = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        raw[rng.randrange(len(raw))] ^= rng.randrange(1, 256)
    path.write_bytes(raw)
    return registry.open_model(folder)


def as_if_published(model: Model) -> Model:
    """Say of the damaged files what whoever published them would: their hashes are right."""
    files = tuple(
        replace(one, sha256=hashlib.sha256((model.folder / one.file).read_bytes()).hexdigest())
        for one in model.manifest.files
    )
    return Model(model.folder, replace(model.manifest, files=files))


def passes(model: Model) -> bool:
    """Tell whether the golden pictures let a model through."""
    try:
        golden.try_out(model)
    except ModelRefused:
        return False
    return True


def error(model: Model) -> float:
    """How far its answers are off on other pictures than the golden ones, at most."""
    found = _answers(model)
    apart = np.abs(found - _RIGHT) if found.shape == _RIGHT.shape else np.array([np.inf])
    return float(apart.max()) if np.isfinite(apart).all() else float("inf")


def _answers(model: Model) -> np.ndarray:
    other = replace(model.manifest.golden, seed=99, pictures=60, side_px=48)
    manifest = replace(model.manifest, golden=other)
    networks = backend.load(model)
    return np.concatenate(
        [
            np.asarray(told).ravel()
            for one in manifest.files
            for told in networks[one.role].run(pictures_of.pictures(manifest, one))
        ]
    )


_RIGHT = _answers(SHIPPED)


def count(how_many: int) -> tuple[Counter, float]:
    """What became of so many, and the largest error of those that golden pictures let through."""
    became, worst = Counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(how_many):
            model = mutated(Path(folder) / "m", seed)
            became["activated with the hash"] += passes(model)
            model = as_if_published(model)
            let_through = passes(model)
            try:
                off = error(model)
            except Exception:  # noqa: BLE001  (whatever the runtime raises: it does not run)
                off = float("nan")
            kind = "does not run" if math.isnan(off) else "wrong" if off > WRONG else "harmless"
            became[f"{'activated' if let_through else 'refused'}, {kind}"] += 1
            worst = max(worst, off if let_through else 0.0)
    return became, worst


if __name__ == "__main__":
    sys.stdout.write(f"{count(int(sys.argv[1]))}\n")
