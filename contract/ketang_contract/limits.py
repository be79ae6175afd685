"""Marks for annotations: what a field may hold.

They are plain values. The supervisor pays nothing for them; ``validate.py`` turns them into strict
validators and JSON Schema through pydantic's core-schema protocol, which needs no import here.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, get_args


@dataclass(frozen=True, slots=True)
class Between:
    """An integer from ``least`` to ``most``, both included. Booleans and floats are no integers."""

    least: int
    most: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Give pydantic the limits."""
        schema = handler(source)
        schema["ge"], schema["le"] = self.least, self.most
        return schema


@dataclass(frozen=True, slots=True)
class Matches:
    """A string that matches ``pattern`` as a whole."""

    pattern: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Give pydantic the pattern, anchored at both ends."""
        schema = handler(source)
        schema["pattern"] = rf"\A(?:{self.pattern})\z"
        return schema

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        """ECMA 262, which JSON Schema uses, anchors with ^ and $."""
        made = handler(schema)
        made["pattern"] = f"^(?:{self.pattern})$"
        return made

    def allows(self, text: str) -> bool:
        """Tell whether the whole text matches."""
        return re.fullmatch(self.pattern, text) is not None


@dataclass(frozen=True, slots=True)
class AtMost:
    """A sequence of at most ``items`` entries."""

    items: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Give pydantic the length."""
        schema = handler(source)
        schema["max_length"] = self.items
        return schema


@dataclass(frozen=True, slots=True)
class TaggedBy:
    """A union whose members are told apart by the literal in ``field``."""

    field: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Give pydantic the tag, so that an error speaks of one member only."""
        union = handler(source)
        tags = [member.__dataclass_fields__[self.field].default for member in get_args(source)]
        return {
            "type": "tagged-union",
            "discriminator": self.field,
            "choices": dict(zip(tags, union["choices"], strict=True)),
        }


class Value:
    """Base of every contract value: unknown fields and coercions are refused."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}


Count = Annotated[int, Between(0, 2**31 - 1)]
Counter64 = Annotated[int, Between(0, 2**53 - 1)]
Percent = Annotated[int, Between(0, 100)]
WindowSeconds = Annotated[int, Between(0, 300)]
WallMs = Annotated[int, Between(0, 253_402_300_799_999)]
"""Milliseconds since 1970-01-01 UTC, to the end of the year 9999."""
BoottimeMs = Counter64
"""Milliseconds of CLOCK_BOOTTIME: since boot, sleep included."""
Seq = Annotated[int, Between(1, 2**53 - 1)]
Identifier = Annotated[str, Matches("[a-z0-9-]{1,36}")]
Digest = Annotated[str, Matches("[0-9a-f]{64}")]
Text = Annotated[str, Matches(r"[A-Za-z0-9\u4e00-\u9fff ._()/+@,:#\-]{0,64}")]
"""Inventory's only free form: model names and versions, never a person's text."""
FEW: Final = "few"
HeadCount = Literal["few"] | Annotated[int, Between(0, 500)]
"""Heads as they may leave the worker: 0, FEW (1 to 4), or 5 and more; see ``records.Occupancy``."""


class Tri(StrEnum):
    """Yes, no, or honestly unknown."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
