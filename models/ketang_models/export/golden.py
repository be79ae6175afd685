"""Writes what a model's networks answer to its golden pictures, by ONNX's own reference.

Run::

    python -m ketang_models.export.golden MODEL_FOLDER

The reference evaluator of the ``onnx`` package shares no code with the runtime on the devices, so
the answers are what the graph means and not what one program made of it. Writes the file that the
manifest's ``[golden]`` names, and prints the sha256 that belongs there.
"""

import hashlib
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx  # type: ignore[import-not-found,unused-ignore]  # for whoever exports, not shipped
from onnx.reference import (  # type: ignore[import-not-found,unused-ignore]
    ReferenceEvaluator,
)

from ketang_models import golden
from ketang_models.manifest import Manifest, parse_manifest

_NOT_MADE_YET = "0" * 64


def answers(folder: Path, manifest: Manifest) -> bytes:
    """Run every network of a model on its golden pictures.

    Returns:
        The content of the golden file.
    """
    told = []
    for one in manifest.files:
        network = ReferenceEvaluator(onnx.load(str(folder / one.file)))
        outputs = network.run(list(one.tensors), {"image": golden.pictures(manifest, one)})
        told += [np.asarray(each, "<f4").ravel() for each in outputs]
    return np.concatenate(told).tobytes()


def main(arguments: list[str]) -> int:
    """Write the golden file of the model in a folder."""
    folder = Path(arguments[0])
    said = tomllib.loads((folder / "manifest.toml").read_text("utf-8"))
    said["golden"].setdefault("sha256", _NOT_MADE_YET)
    manifest = parse_manifest(said, str(folder / "manifest.toml"))
    content = answers(folder, manifest)
    (folder / manifest.golden.file).write_bytes(content)
    sys.stdout.write(f"{hashlib.sha256(content).hexdigest()}  {manifest.golden.file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
