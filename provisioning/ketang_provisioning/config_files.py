"""A configuration as a person writes it: one TOML file, read strictly, and written back.

Keys are the fields of ``config.Config``; what each accepts is taken from that field's annotation,
both to judge it and to tell a person. ``hours`` and ``breaks`` are written as ``config_spans`` has
it, ``[foreground]`` as a table of programs, ``[model]`` and ``[agent]`` as tables.
"""

import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ketang_contract.config import DIRECTIONS, AgentChoice, Config, ModelChoice
from ketang_contract.errors import BadInput
from ketang_contract.limits import AtMost, Between, Matches
from ketang_contract.records import Category
from ketang_contract.tables import Table, hint, read_table
from ketang_provisioning.config_spans import ACCEPTED, read_spans, write_spans

_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)


def _hints(kind: Any) -> dict[str, Any]:
    """Annotations of the fields alone, in order."""
    found = get_type_hints(kind, include_extras=True)
    return {one.name: found[one.name] for one in fields(kind)}


_HINTS: Mapping[str, Any] = _hints(Config)
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    "model": _hints(ModelChoice),
    "agent": _hints(AgentChoice),
}
"""Fields that are written as a table of texts, and what is in it."""
_HEAD = "# What a layer says; a key that is not here says nothing. ketang config check FILE\n"


def read_config(path: Path) -> Config:
    """Read what a person wrote.

    Raises:
        BadInput: one line with the file, the key, what is accepted, and the nearest word.
    """
    return parse_config(read_table(path))


def parse_config(top: Table) -> Config:
    """Take a configuration from a file's top table.

    Raises:
        BadInput: one line with the file, the key, what is accepted, and the nearest word.
    """
    top.allow(*DIRECTIONS)
    said = {name: _READERS.get(name, _as_it_is)(top, name) for name in top.values}
    try:
        return _ADAPTER.validate_json(json.dumps(said, default=str))
    except ValidationError as problem:
        raise _wrong(top, problem) from None


def write_config(config: Config) -> str:
    """Write a configuration so that ``read_config`` gives the same."""
    lines, tables = [_HEAD], ""
    for name in DIRECTIONS:
        value = getattr(config, name)
        if value is None or name == "schema":
            continue
        if name == "foreground":
            pairs = "".join(f"{_text(one)} = {_text(what)}\n" for one, what in value)
            tables += f"\n[foreground]\n{pairs}"
        elif name in _CHOICES:
            pairs = "".join(f"{key} = {_text(getattr(value, key))}\n" for key in _CHOICES[name])
            tables += f"\n[{name}]\n{pairs}"
        else:
            lines.append(f"{name} = {_value(name, value)}\n")
    return "".join(lines) + tables


def accepted(name: str) -> str:
    """Tell what a field of ``Config`` accepts, in words, as its annotation has it."""
    told = ", or ".join(_accepted(_HINTS[name]))
    return f"{_FOR_EXAMPLE[name]}, {told}" if name in _FOR_EXAMPLE else told


def _value(name: str, value: Any) -> str:
    if name in {"hours", "breaks"}:
        value = write_spans(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    return f"[{', '.join(map(_text, value))}]"


def _text(value: str) -> str:
    """Quote for TOML; JSON's form is one of its own (TOML 1.0, basic strings)."""
    return json.dumps(str(value), ensure_ascii=False)


def _as_it_is(table: Table, name: str) -> Any:
    return table.values[name]


def _read_spans(table: Table, name: str) -> list[Any]:
    lines = table.values[name]
    if not isinstance(lines, list) or not all(isinstance(one, str) for one in lines):
        raise table.wrong(name, f"{_shown(lines)} is not accepted; accepted: {ACCEPTED}")
    try:
        return list(read_spans(lines))
    except ValueError as problem:
        raise table.wrong(name, str(problem)) from None


def _read_categories(table: Table, name: str) -> list[str]:
    return sorted(table.texts(name, [one.value for one in Category]))


def _read_foreground(table: Table, name: str) -> list[tuple[str, str]]:
    inner, words = table.table(name), [one.value for one in Category]
    for program, what in inner.values.items():
        if isinstance(what, dict):
            raise inner.wrong(program, f'a name with a dot stands in quotes, "{program}.…" = …')
        if re.search("[A-Z]", program):
            raise inner.wrong(program, f'in lower case: "{program.lower()}"')
        if what not in words:
            raise inner.wrong(program, f"{_shown(what)} is unknown{hint(str(what), words)}")
    return sorted((program, str(what)) for program, what in inner.values.items())


def _read_choice(table: Table, name: str) -> dict[str, Any]:
    inner = table.table(name)
    inner.allow(*_CHOICES[name])
    for key, told in _CHOICES[name].items():
        if key not in inner:
            raise inner.wrong(key, f"missing; accepted: {_accepted(told)[0]}")
    return dict(inner.values)


_READERS: Mapping[str, Callable[[Table, str], Any]] = {
    "hours": _read_spans,
    "breaks": _read_spans,
    "categories": _read_categories,
    "foreground": _read_foreground,
    "model": _read_choice,
    "agent": _read_choice,
}
_FOR_EXAMPLE: Mapping[str, str] = {
    "min_agent": 'a version such as "1.2.0"',
    "hours": ACCEPTED,
    "breaks": ACCEPTED,
    "categories": 'a list such as ["media", "office"]',
    "foreground": 'a table of lines such as "vlc.exe" = "media"',
}


def _wrong(top: Table, problem: ValidationError) -> BadInput:
    """Turn the first error into a line for a person: its key, its value, what is accepted."""
    first = problem.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "(whole)"
    if name in _CHOICES:
        key = str(first["loc"][-1])
        inner = top.table(name)
        told = _accepted(_CHOICES[name][key])[0]
        return inner.wrong(key, f"{_shown(inner.values[key])} is not accepted; accepted: {told}")
    if name == "foreground" and len(first["loc"]) > 1:
        program = sorted(top.values[name])[int(first["loc"][1])]
        return top.table(name).wrong(program, "is no base name of a program, 1 to 64 characters")
    value = top.values.get(name)
    words = _words(_HINTS.get(name))
    if isinstance(value, str) and words:
        return top.wrong(name, f"'{value[:60]}' is unknown{hint(value, words)}")
    return top.wrong(name, f"{_shown(value)} is not accepted; accepted: {accepted(name)}")


def _accepted(told: Any) -> list[str]:
    """Say what an annotation accepts: each alternative of a union by itself."""
    if get_origin(told) is Annotated:
        kind, *marks = get_args(told)
        return [one for mark in marks for one in _marked(mark)] or _accepted(kind)
    if get_origin(told) in {Union, types.UnionType}:
        return [one for part in get_args(told) for one in _accepted(part)]
    if get_origin(told) is Literal:
        return [f"{one} (off)" if one == 0 else str(one) for one in get_args(told)]
    if told is bool:
        return ["true or false"]
    return [f"one of {', '.join(words)}"] if (words := _words(told)) else []


def _marked(mark: Any) -> list[str]:
    if isinstance(mark, Between):
        return [f"a whole number from {mark.least} to {mark.most}"]
    if isinstance(mark, Matches):
        return [f"text of the form {mark.pattern}"]
    return [f"at most {mark.items}"] if isinstance(mark, AtMost) else []


def _words(told: Any) -> tuple[str, ...]:
    """Words of the enumeration within an annotation, if there is one."""
    if isinstance(told, type) and issubclass(told, StrEnum):
        return tuple(one.value for one in told)
    if get_origin(told) in {Annotated, Union, types.UnionType}:
        return tuple(word for part in get_args(told) for word in _words(part))
    return ()


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else repr(value)[:60]
