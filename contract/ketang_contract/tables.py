"""A TOML file that a person wrote, read strictly, so that each mistake is told in one line.

Standard library only: the agent's supervisor reads its settings and its profile through this.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier

MAX_FILE_BYTES = 64 << 10
MAX_TEXT = 64
MAX_PATH = 4096
MOST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a file that knows where it stands, so that every error can say so."""

    file: str
    name: str
    values: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def wrong(self, key: str, what: str) -> BadInput:
        """Make the one line a person gets to read."""
        where = f"{self.name}.{key}" if self.name else key
        return BadInput(f"{self.file}: {where}: {what}")

    def allow(self, *keys: str) -> None:
        """Refuse any other key: a misspelt one must not pass for a default."""
        for key in self.values:
            if key not in keys:
                raise self.wrong(key, f"unknown key{hint(key, keys)}")

    def table(self, key: str) -> "Table":
        """Return a table inside this one."""
        value = self._take(key, lambda value: isinstance(value, dict), f"a table [{key}]")
        return Table(self.file, f"{self.name}.{key}" if self.name else key, value)

    def tables(self, key: str) -> "list[Table]":
        """Return a list of tables inside this one, one at least."""
        value = self._take(
            key,
            lambda value: (
                isinstance(value, list)
                and bool(value)
                and all(isinstance(one, dict) for one in value)
            ),
            f"one table [[{key}]] at least",
        )
        return [Table(self.file, f"{key}[{at}]", one) for at, one in enumerate(value)]

    def boolean(self, key: str, default: bool | None = None) -> bool:  # noqa: FBT001  (a value)
        """Return true or false."""
        return bool(
            self._take(key, lambda value: isinstance(value, bool), "true or false", default)
        )

    def text(
        self,
        key: str,
        default: str | None = None,
        *,
        most: int = MAX_TEXT,
        form: str | None = None,
    ) -> str:
        """Return a line of text of 1 to ``most`` characters, as a whole of the pattern ``form``."""
        value = str(
            self._take(
                key,
                lambda value: (
                    isinstance(value, str) and 0 < len(value) <= most and value.isprintable()
                ),
                f"text in quotes, 1 to {most} characters in one line",
                default,
            )
        )
        if form is not None and re.fullmatch(form, value) is None:
            raise self.wrong(key, f"{_shown(value)} is not accepted; accepted: {form}")
        return value

    def texts(self, key: str, accepted: Iterable[str] | None = None) -> list[str]:
        """Return a list of different texts, each of the accepted ones if any are named."""
        found: list[str] = self._take(
            key,
            lambda value: (
                isinstance(value, list)
                and all(isinstance(one, str) for one in value)
                and len(set(value)) == len(value)
            ),
            'a list of different texts, e.g. ["vlc", "mpv"]',
        )
        known = None if accepted is None else tuple(accepted)
        for one in found:
            if known is not None and one not in known:
                raise self.wrong(key, f"'{one}' is unknown{hint(one, known)}")
        return list(found)

    def number(self, key: str) -> float:
        """Return a finite number."""
        return float(
            self._take(
                key,
                lambda value: type(value) in {int, float} and abs(value) < float("inf"),
                "a number",
            )
        )

    def whole_numbers(self, key: str, count: int) -> list[int]:
        """Return a list of ``count`` whole numbers of 0 or more."""
        return list(
            self._take(
                key,
                lambda value: (
                    isinstance(value, list)
                    and len(value) == count
                    and all(type(one) is int and one >= 0 for one in value)
                ),
                f"a list of {count} whole numbers",
            )
        )

    def identifier(self, key: str, default: str | None = None) -> str:
        """Return a text that may name a device, a centre or a model."""
        value = self.text(key, default)
        if not is_identifier(value):
            raise self.wrong(key, f"{_shown(value)} is not accepted; accepted: a-z, 0-9 and '-'")
        return value

    def one_of(self, key: str, accepted: Iterable[str], default: str | None = None) -> str:
        """Return one of the accepted texts."""
        accepted = tuple(accepted)
        value = str(
            self._take(key, lambda value: isinstance(value, str), "text in quotes", default)
        )
        if value not in accepted:
            raise self.wrong(key, f"'{value}' is unknown{hint(value, accepted)}")
        return value

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """Return a whole number from ``least`` to ``most``."""
        return int(
            self._take(
                key,
                lambda value: type(value) is int and least <= value <= most,
                f"a whole number from {least} to {most}",
                default,
            )
        )

    def _take(
        self, key: str, fits: Callable[[Any], bool], accepted: str, default: Any = None
    ) -> Any:
        if key not in self.values:
            if default is not None:
                return default
            raise self.wrong(key, f"missing; accepted: {accepted}")
        value = self.values[key]
        if not fits(value):
            raise self.wrong(key, f"{_shown(value)} is not accepted; accepted: {accepted}")
        return value


def read_table(path: Path) -> Table:
    """Read a file's top table.

    Raises:
        BadInput: it cannot be read, is no TOML, or is far too large; in one line.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise BadInput(f"{path}: larger than {MAX_FILE_BYTES} bytes; that is the wrong file")
        return Table(str(path), "", tomllib.loads(raw.decode()))
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise BadInput(f"{path}: not UTF-8 text, at byte {problem.start}") from problem
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise BadInput(f"{path}: not TOML: {problem}") from problem


def hint(word: str, accepted: Iterable[str]) -> str:
    """Name the nearest accepted word, then all of them."""
    from difflib import get_close_matches  # noqa: PLC0415  (only a mistake pays for it)

    accepted = tuple(accepted)
    near = get_close_matches(word, accepted, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else ";"
    return f"{guess} accepted: {', '.join(accepted)}"


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return repr(value)[:60] if not isinstance(value, bool) else str(value).lower()
