"""Reads the weights out of a PyTorch file in the format of before 1.6, without PyTorch.

Such a file is five pickles in a row (magic number, protocol, byte order, the state dict, the
storage keys), then each storage in the order of its key: a count as int64, then its floats.
Pickle can run code, so only the two constructors a state dict needs are let through, and both are
replaced by ours.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_HEADER_BYTES = 8

Weights = dict[str, NDArray[np.float32]]


class BadWeights(ValueError):
    """The file is not a plain state dict of float tensors in the old format."""


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    floats: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_rest: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): _Storage,
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows three names and makes nothing else."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return our stand-in for an allowed name."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise BadWeights(f"{module}.{name} has no place in a state dict") from None

    def persistent_load(self, pid: Any) -> _Storage:
        """Return a stand-in for a storage: ``('storage', type, key, device, floats, view)``."""
        tag, kind, key, _device, floats, view = pid
        if tag != "storage" or kind is not _Storage or view is not None:
            raise BadWeights(f"storage {key!r} is not a plain float storage")
        return _Storage(str(key), int(floats))


def read_weights(raw: bytes) -> Weights:
    """Read every tensor of a state dict: name to float32 array, C order.

    Raises:
        BadWeights: another format, another type, or a file that is too short.
    """
    stream = io.BytesIO(raw)
    try:
        if (_next(stream), _next(stream)) != (MAGIC, PROTOCOL):
            raise BadWeights("not a PyTorch file of the format before 1.6")
        if _next(stream)["little_endian"] is not True:
            raise BadWeights("big-endian weights")
        state, keys = _next(stream), _next(stream)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as problem:
        raise BadWeights(f"cannot be read: {problem}") from problem
    storages = {str(key): _floats(stream) for key in keys}
    return {str(name): _array(tensor, storages) for name, tensor in state.items()}


def _next(stream: io.BytesIO) -> Any:
    return _Reader(stream).load()


def _floats(stream: io.BytesIO) -> NDArray[np.float32]:
    count = int.from_bytes(stream.read(_HEADER_BYTES), "little")
    data = stream.read(4 * count)
    if len(data) != 4 * count:
        raise BadWeights("the file ends inside a storage")
    return np.frombuffer(data, dtype="<f4")


def _array(tensor: Any, storages: Weights) -> NDArray[np.float32]:
    if not isinstance(tensor, _Tensor):
        raise BadWeights("something other than a tensor in the state dict")
    flat = storages[tensor.storage.key]
    steps = tuple(zip(tensor.shape, tensor.strides, strict=True))
    last = tensor.offset + sum((length - 1) * stride for length, stride in steps)
    if any(length < 1 or stride < 0 for length, stride in steps) or not 0 <= last < flat.size:
        raise BadWeights("a tensor that reaches outside its storage")
    # the wheel keeps some tensors transposed, as they came from another framework
    seen = as_strided(
        flat[tensor.offset :], tensor.shape, tuple(4 * stride for stride in tensor.strides)
    )
    return np.ascontiguousarray(seen)
