"""Runs ONNX networks on the CPU: the only file that imports onnxruntime.

One thread and no spinning, because a classroom PC has other work; no arena and no memory pattern,
because a pyramid's shapes vary and the arena would keep the largest of each (some 500 MB where
200 MB do).

From 1.29 on onnxruntime reports its use to its maker unless told not to before it is loaded: told
so here, and the worker has no network besides.
"""

import os
from collections.abc import Mapping

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from ketang_agent.inference.frames import Floats
from ketang_models.manifest import ModelFile, ModelRefused
from ketang_models.registry import Model, contents

_FATAL_ONLY = 4


class Network:
    """One loaded ONNX file: a tensor in, the outputs the manifest names out."""

    def __init__(self, session: ort.InferenceSession, outputs: tuple[str, ...]) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self._outputs = list(outputs)

    def run(self, tensor: Floats) -> tuple[Floats, ...]:
        """Run the network.

        Args:
            tensor: float32, batch × channel × height × width.
        """
        return tuple(self._session.run(self._outputs, {self._input: tensor}))


def load(model: Model) -> Mapping[str, Network]:
    """Check and load every file of a model: role to network.

    Raises:
        ModelRefused: a hash differs, or the file is not the graph its manifest describes.
    """
    return {one.role: _open(one, content) for one, content in contents(model)}


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _open(one: ModelFile, content: bytes) -> Network:
    try:
        session = ort.InferenceSession(content, _options(), providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError) as problem:
        # onnxruntime's own errors derive from RuntimeError
        raise ModelRefused(f"{one.file}: not a network this runtime can load") from problem
    named = tuple(each.name for each in session.get_outputs())
    if set(named) != set(one.tensors):
        raise ModelRefused(f"{one.file}: gives {named}, the manifest says {one.tensors}")
    _check_input(session, one)
    return Network(session, one.tensors)


def _check_input(session: ort.InferenceSession, one: ModelFile) -> None:
    inputs = session.get_inputs()
    free_or_fixed = [side if isinstance(side, int) else 0 for side in inputs[0].shape]
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or free_or_fixed != list(one.shape):
        raise ModelRefused(f"{one.file}: takes {inputs[0].shape}, the manifest says {one.shape}")


def warm_up(networks: Mapping[str, Network], model: Model) -> None:
    """Run every network once on zeros, so that a broken one shows before the first frame.

    Raises:
        ModelRefused: a network fails, or answers with something that is not a number.
    """
    for one in model.manifest.files:
        shape = [side or 12 * (at > 0) or 1 for at, side in enumerate(one.shape)]
        try:
            answers = networks[one.role].run(np.zeros(shape, np.float32))
        except RuntimeError as problem:
            raise ModelRefused(f"{one.file}: fails on an empty input") from problem
        if not all(np.isfinite(answer).all() for answer in answers):
            raise ModelRefused(f"{one.file}: answers with something that is not a number")
