"""What a model says of itself: read strictly, once, and refused if it is about who or how.

A manifest may promise counts and the quality of the picture, nothing else (PRIVACY rule 3).
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from ketang_contract.errors import KetangError

MAX_MANIFEST_BYTES = 64 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9_-]{1,36}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_DIMENSIONS = 4

_E = TypeVar("_E", bound=StrEnum)

FORBIDDEN = (
    "identi",
    "embed",
    "emotion",
    "express",
    "attent",
    "gaze",
    "landmark",
    "recogni",
    "gender",
    "race",
    "ethnic",
    "age_",
    "name_of",
    "voice",
    "audio",
)
"""Stems no task, output or tensor of a model may contain: who someone is, or what moves them."""


class ModelRefused(KetangError):
    """The model may not be used; the message says file, key and what is accepted."""


class ForbiddenOutput(ModelRefused):
    """The model names something this project never computes about a person."""


class Task(StrEnum):
    """What a model is for."""

    COUNT_HEADS = "count_heads"


class Output(StrEnum):
    """Everything a model may tell: a count, and how good the picture was."""

    HEADS = "heads"
    CONFIDENCE = "confidence"
    LIGHT = "light"


class Colour(StrEnum):
    """Channel order the network was trained with."""

    RGB = "rgb"
    BGR = "bgr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """How a frame becomes a tensor: ``(value - mean) * scale``, batch-channel-height-width."""

    colour: Colour
    mean: float
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One ONNX file. ``shape``: its input, 0 where a side is free. ``tensors``: its outputs."""

    role: str
    file: str
    sha256: str
    shape: tuple[int, int, int, int]
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the weights come from and under which terms."""

    source: str
    source_sha256: str
    licence: str
    licence_file: str
    training_data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One model, as ``manifest.toml`` describes it."""

    name: str
    task: Task
    decoder: str
    outputs: tuple[Output, ...]
    inputs: Inputs
    thresholds: Mapping[str, float]
    files: tuple[ModelFile, ...]
    origin: Origin


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.toml``.

    Raises:
        ForbiddenOutput: it names an output about a person.
        ModelRefused: it cannot be read, or a key is unknown, missing or of another type.
    """
    try:
        raw = path.read_bytes()
        said = tomllib.loads(raw[:MAX_MANIFEST_BYTES].decode("utf-8"))
    except OSError as problem:
        raise ModelRefused(f"{path}: cannot be read ({problem.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ModelRefused(f"{path}: not TOML: {problem}") from None
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ModelRefused(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes")
    return parse_manifest(said, str(path))


def parse_manifest(said: Mapping[str, Any], where: str) -> Manifest:
    """Turn a parsed TOML document into a manifest; ``where`` opens every error message."""
    top = _Table(said, where, "")
    _refuse_forbidden(said, where)
    made = Manifest(
        name=top.text("name", _NAME),
        task=_one_of(Task, top, top.text("task"), "task"),
        decoder=top.text("decoder", _NAME),
        outputs=tuple(_one_of(Output, top, each, "outputs") for each in top.texts("outputs")),
        inputs=_inputs(top.table("inputs")),
        thresholds=_thresholds(top.table("thresholds")),
        files=tuple(_file(each) for each in top.tables("files")),
        origin=_origin(top.table("origin")),
    )
    top.close()
    return made


class _Table:
    """One TOML table, read key by key; what nobody asked for is refused at ``close``."""

    def __init__(self, said: Mapping[str, Any], where: str, prefix: str) -> None:
        self._said = dict(said)
        self._where = where
        self._prefix = prefix

    def bad(self, key: str, need: str) -> ModelRefused:
        """Make the one-line error for a key."""
        return ModelRefused(f"{self._where}: {self._prefix}{key}: {need}")

    def text(self, key: str, form: re.Pattern[str] | None = None) -> str:
        """Take a text, as a whole of the given form."""
        found = self._take(key)
        if not isinstance(found, str) or not found:
            raise self.bad(key, "a text is needed")
        if form is not None and not form.fullmatch(found):
            raise self.bad(key, f"must look like {form.pattern}")
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of different texts, one at least."""
        found = self._take(key)
        if not isinstance(found, list) or not found or not all(type(x) is str for x in found):
            raise self.bad(key, "a list of texts is needed")
        if len(set(found)) != len(found):
            raise self.bad(key, "each entry once")
        return tuple(found)

    def number(self, key: str) -> float:
        """Take a finite number."""
        found = self._take(key)
        if type(found) not in {int, float} or not abs(found) < float("inf"):
            raise self.bad(key, "a number is needed")
        return float(found)

    def whole_numbers(self, key: str, count: int) -> tuple[int, ...]:
        """Take a list of ``count`` integers of 0 or more."""
        found = self._take(key)
        if not isinstance(found, list) or len(found) != count:
            raise self.bad(key, f"a list of {count} whole numbers is needed")
        if not all(type(each) is int and each >= 0 for each in found):
            raise self.bad(key, f"a list of {count} whole numbers is needed")
        return tuple(found)

    def table(self, key: str) -> "_Table":
        """Take a table."""
        found = self._take(key)
        if not isinstance(found, dict):
            raise self.bad(key, "a table is needed")
        return _Table(found, self._where, f"{self._prefix}{key}.")

    def tables(self, key: str) -> "list[_Table]":
        """Take a list of tables, one at least."""
        found = self._take(key)
        if not isinstance(found, list) or not found or not all(isinstance(x, dict) for x in found):
            raise self.bad(key, "one [[table]] at least is needed")
        return [_Table(x, self._where, f"{key}[{at}].") for at, x in enumerate(found)]

    def rest(self) -> list[str]:
        """Name the keys nobody took yet."""
        return sorted(self._said)

    def close(self) -> None:
        """Refuse what is left over."""
        for key in self.rest():
            raise self.bad(key, "unknown key")

    def _take(self, key: str) -> Any:
        if key not in self._said:
            raise self.bad(key, "is missing")
        return self._said.pop(key)


def _one_of(kind: Callable[[str], _E], table: _Table, said: str, key: str) -> _E:
    try:
        return kind(said)
    except ValueError:
        raise table.bad(key, f"{said!r} is not accepted") from None


def _refuse_forbidden(said: Mapping[str, Any], where: str) -> None:
    """Look for a forbidden stem in what the model is for and what it gives out."""
    spoken = [said.get("name"), said.get("task"), said.get("decoder"), *_entries(said, "outputs")]
    for one in _entries(said, "files"):
        if isinstance(one, dict):
            spoken += [one.get("role"), *_entries(one, "tensors")]
    for word in spoken:
        for stem in FORBIDDEN:
            if isinstance(word, str) and stem in word.lower():
                raise ForbiddenOutput(
                    f"{where}: {word!r}: this software counts heads and computes nothing else "
                    "about a person; such a model does not load"
                )


def _entries(said: Mapping[str, Any], key: str) -> list[Any]:
    found = said.get(key)
    return found if isinstance(found, list) else [found]


def _inputs(table: _Table) -> Inputs:
    if table.text("layout") != "nchw":
        raise table.bad("layout", "must be nchw")
    made = Inputs(
        colour=_one_of(Colour, table, table.text("colour"), "colour"),
        mean=table.number("mean"),
        scale=table.number("scale"),
    )
    table.close()
    return made


def _thresholds(table: _Table) -> Mapping[str, float]:
    return MappingProxyType({key: table.number(key) for key in table.rest()})


def _file(table: _Table) -> ModelFile:
    batch, channels, height, width = table.whole_numbers("shape", _DIMENSIONS)
    made = ModelFile(
        role=table.text("role", _NAME),
        file=table.text("file", _FILE),
        sha256=table.text("sha256", _DIGEST),
        shape=(batch, channels, height, width),
        tensors=table.texts("tensors"),
    )
    table.close()
    return made


def _origin(table: _Table) -> Origin:
    made = Origin(
        source=table.text("source"),
        source_sha256=table.text("source_sha256", _DIGEST),
        licence=table.text("licence"),
        licence_file=table.text("licence_file", _FILE),
        training_data=table.text("training_data"),
    )
    table.close()
    return made
