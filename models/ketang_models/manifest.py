"""What a model says of itself: read strictly, once, and refused if it is about who or how.

A manifest may promise counts and the quality of the picture, nothing else (PRIVACY rule 3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ketang_contract.errors import BadInput, KetangError
from ketang_contract.tables import Table, read_table

_DIGEST = r"[0-9a-f]{64}"
_NAME = r"[a-z0-9_-]{1,36}"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}"
_FILE = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_DIMENSIONS = 4
_SENTENCE = 200
_MOST_TOLERANCE = 0.001
"""What is more would let a changed weight through."""

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
class Golden:
    """What every network must answer to synthetic pictures, wherever it runs.

    A file's hash tells that a model is the one that was published, not that it was whole when it
    was: a network with changed weights loads, runs, and is silently wrong. ``golden`` makes the
    pictures from ``seed``; ``file`` holds the answers, float32, little-endian, tensor after tensor
    in the manifest's order. An answer may differ by ``absolute`` + ``relative`` of its size, since
    no two processors round alike.
    """

    seed: int
    pictures: int
    side_px: int
    """Height and width where a network leaves them free."""
    file: str
    sha256: str
    relative: float
    absolute: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One model, as ``manifest.toml`` describes it."""

    name: str
    version: str
    task: Task
    decoder: str
    outputs: tuple[Output, ...]
    inputs: Inputs
    thresholds: Mapping[str, float]
    files: tuple[ModelFile, ...]
    golden: Golden
    origin: Origin


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.toml``.

    Raises:
        ForbiddenOutput: it names an output about a person.
        ModelRefused: it cannot be read, or a key is unknown, missing or of another type.
    """
    try:
        return _manifest(read_table(path))
    except BadInput as problem:
        raise ModelRefused(str(problem)) from None


def parse_manifest(said: Mapping[str, Any], where: str) -> Manifest:
    """Turn a parsed TOML document into a manifest; ``where`` opens every error message."""
    try:
        return _manifest(Table(where, "", said))
    except BadInput as problem:
        raise ModelRefused(str(problem)) from None


def _manifest(top: Table) -> Manifest:
    _refuse_forbidden(top.values, top.file)
    top.allow(*(one.name for one in fields(Manifest)))
    thresholds = top.table("thresholds")
    return Manifest(
        name=top.text("name", form=_NAME),
        version=top.text("version", form=_VERSION),
        task=Task(top.one_of("task", Task)),
        decoder=top.text("decoder", form=_NAME),
        outputs=tuple(Output(one) for one in top.texts("outputs", Output)),
        inputs=_inputs(top.table("inputs")),
        thresholds=MappingProxyType({key: thresholds.number(key) for key in thresholds.values}),
        files=tuple(_file(each) for each in top.tables("files")),
        golden=_golden(top.table("golden")),
        origin=_origin(top.table("origin")),
    )


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


def _inputs(table: Table) -> Inputs:
    table.allow("layout", "colour", "mean", "scale")
    table.one_of("layout", ["nchw"])
    return Inputs(
        colour=Colour(table.one_of("colour", Colour)),
        mean=table.number("mean"),
        scale=table.number("scale"),
    )


def _file(table: Table) -> ModelFile:
    table.allow(*(one.name for one in fields(ModelFile)))
    batch, channels, height, width = table.whole_numbers("shape", _DIMENSIONS)
    return ModelFile(
        role=table.text("role", form=_NAME),
        file=table.text("file", form=_FILE),
        sha256=table.text("sha256", form=_DIGEST),
        shape=(batch, channels, height, width),
        tensors=tuple(table.texts("tensors")),
    )


def _golden(table: Table) -> Golden:
    table.allow(*(one.name for one in fields(Golden)))
    tolerated = {key: table.number(key) for key in ("relative", "absolute")}
    for key, share in tolerated.items():
        if not 0 <= share <= _MOST_TOLERANCE:
            raise table.wrong(key, f"{share} is not accepted; accepted: 0 to {_MOST_TOLERANCE}")
    return Golden(
        seed=table.integer("seed", 0, 2**31),
        pictures=table.integer("pictures", 1, 64),
        side_px=table.integer("side_px", 12, 256),
        file=table.text("file", form=_FILE),
        sha256=table.text("sha256", form=_DIGEST),
        relative=tolerated["relative"],
        absolute=tolerated["absolute"],
    )


def _origin(table: Table) -> Origin:
    table.allow(*(one.name for one in fields(Origin)))
    return Origin(
        source=table.text("source", most=_SENTENCE),
        source_sha256=table.text("source_sha256", form=_DIGEST),
        licence=table.text("licence"),
        licence_file=table.text("licence_file", form=_FILE),
        training_data=table.text("training_data", most=_SENTENCE),
    )
