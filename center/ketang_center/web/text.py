"""The console's words in two languages, from TOML catalogues with the same keys."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGES = ("zh", "en")
_LOCALE = Path(__file__).parent / "locale"


@dataclass(frozen=True, slots=True)
class Words:
    """One language's catalogue. A missing key is an error, never an empty label."""

    lang: str
    by_key: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of a dotted key with its values put in."""
        text = self.by_key[key]
        return text.format(**values) if values else text

    @property
    def html_lang(self) -> str:
        """The language as HTML names it."""
        return "zh-CN" if self.lang == "zh" else "en"


@cache
def words(lang: str) -> Words:
    """Return the catalogue of a language."""
    return Words(lang, _flat(tomllib.loads((_LOCALE / f"{lang}.toml").read_text("utf-8"))))


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def choose(asked: str | None, kept: str | None, accepted: str) -> str:
    """Pick a language: the one asked for, else the one kept, else the browser's, else Chinese."""
    for one in (asked, kept):
        if one in LANGUAGES:
            return str(one)
    for part in accepted.split(","):
        lang = part.split(";")[0].strip().lower()[:2]
        if lang in LANGUAGES:
            return lang
    return LANGUAGES[0]
