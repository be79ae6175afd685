"""A configuration in plain words, for whoever signs or reads it: Chinese and English."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from ketang_contract.config import (
    DIRECTIONS,
    LONGER,
    Config,
    Level,
    changed,
    counted_every_s,
    hours_are_empty,
    widened,
)
from ketang_provisioning.config_spans import write_spans

Language: TypeAlias = Literal["zh", "en"]


class Move(StrEnum):
    """Which way a field goes."""

    WIDENS = "widens"
    """More is told of people than before."""
    NARROWS = "narrows"
    CHANGES = "changes"
    """It says nothing of people, or it is neither."""


class Caution(StrEnum):
    """What is no mistake, and yet may not be what was meant."""

    NO_HOURS = "no_hours"
    """It collects round the clock."""
    NO_HOURS_SO_FAR = "no_hours_so_far"
    """So it does unless a level below sets hours."""
    NEVER = "never"
    """Its hours leave no moment in a week."""


_CAUTIONS: Mapping[Language, Mapping[Caution, str]] = {
    "en": {
        Caution.NO_HOURS: "WARNING: no hours set: it collects round the clock",
        Caution.NO_HOURS_SO_FAR: "WARNING: no hours set: it collects round the clock wherever no "
        "level below sets hours",
        Caution.NEVER: "WARNING: the hours leave no moment in a week: it will collect never",
    },
    "zh": {
        Caution.NO_HOURS: "注意：未设置采集时段，将全天采集",
        Caution.NO_HOURS_SO_FAR: "注意：未设置采集时段，下级也未设置的地方将全天采集",
        Caution.NEVER: "注意：采集时段在一周内没有任何时刻，将从不采集",
    },
}
_MOVES: Mapping[Language, Mapping[Move, str]] = {
    "en": {Move.WIDENS: "WIDENS ", Move.NARROWS: "narrows", Move.CHANGES: "changes"},
    "zh": {Move.WIDENS: "放宽", Move.NARROWS: "收窄", Move.CHANGES: "改变"},
}
_FIELDS_ZH: Mapping[str, str] = {
    "min_agent": "最低代理版本",
    "agent": "代理版本",
    "apply": "何时生效",
    "usage_s": "使用采样间隔",
    "host_s": "主机状态间隔",
    "network_s": "网络状态间隔",
    "environment_s": "环境数据间隔",
    "inventory_s": "资产清单间隔",
    "security_s": "安全状态间隔",
    "occupancy_s": "人数统计间隔",
    "categories": "可上报的前台程序类别",
    "foreground": "前台程序名单",
    "hours": "采集时段",
    "breaks": "课间",
    "inference": "人数识别",
    "model": "识别模型",
    "score_min_pct": "识别最低把握",
    "scan_s": "识别间隔",
    "spool_max_mb": "本地存储上限",
    "upload_kbps": "上传速率上限",
    "download_kbps": "下载速率上限",
    "log_level": "日志级别",
}
_UNITS: Mapping[str, str] = {"_s": "s", "_mb": "MB", "_kbps": "kbit/s", "_pct": "%"}


def move(name: str, was: Config, after: Config, wide: Collection[str] = ()) -> Move:
    """Tell which way a field goes that differs.

    Args:
        name: of the field.
        was: before.
        after: after.
        wide: fields known to widen more than the two tell, since a profile stands below them.
    """
    if name in wide or name in widened(was, after):
        return Move.WIDENS
    return Move.NARROWS if name in widened(after, was) else Move.CHANGES


def differences(
    was: Config, after: Config, language: Language, wide: Collection[str] = ()
) -> Iterator[str]:
    """Say what changes, one line a field, what widens first: a hurried eye misses the end."""
    before = "原为" if language == "zh" else "before"
    moves = {name: move(name, was, after, wide) for name in changed(was, after)}
    for wanted in Move:
        for name in (name for name, one in moves.items() if one is wanted):
            told, old = getattr(after, name), getattr(was, name)
            if name == "foreground":
                said = _programs(old or (), told or (), language)
            else:
                said = f"{words(name, told, language)} ({before}: {words(name, old, language)})"
            yield f"{_MOVES[language][wanted]}  {title(name, language)}: {said}"


def contents(config: Config, language: Language) -> Iterator[str]:
    """Say all that a layer says, one line a field."""
    for name in DIRECTIONS:
        value = getattr(config, name)
        if name != "schema" and value is not None:
            yield f"{title(name, language)}: {words(name, value, language)}"


def cautions(config: Config, level: Level | None = None) -> Iterator[Caution]:
    """Name what a person should look at twice: of one level's layer, or of all layers' sum."""
    if hours_are_empty(config):
        yield Caution.NEVER
    counts_nobody = config.occupancy_s == 0 or config.inference is False
    if config.hours is not None or (config.usage_s == 0 and counts_nobody):
        return
    if level is None:
        yield Caution.NO_HOURS
    elif level is Level.REGION:  # what a level below says nothing of, another may
        yield Caution.NO_HOURS_SO_FAR


def caution(one: Caution, language: Language) -> str:
    """Say it, in one line."""
    return _CAUTIONS[language][one]


def title(name: str, language: Language) -> str:
    """Name a field: its key, and in Chinese what it is."""
    return f"{_FIELDS_ZH.get(name, '')} {name}".lstrip() if language == "zh" else name


def words(name: str, value: Any, language: Language) -> str:
    """Say a field's value; one line, and nothing in it that steers a terminal."""
    said = _SAID[language]
    if value is None or isinstance(value, bool):
        return said[value]
    if isinstance(value, int):
        return _number(name, value, said)
    if isinstance(value, str):
        return value
    if is_dataclass(value):
        return " ".join(str(getattr(value, one.name)) for one in fields(value))
    return ("; " if name in _SPANS else ", ").join(_listed(name, value)) or said[name in _SPANS, ()]


_SPANS = ("hours", "breaks")
_SAID: Mapping[Language, Mapping[Any, str]] = {
    "en": {
        None: "nothing",
        True: "on",
        False: "off",
        (True, ()): "never",
        (False, ()): "none",
        "in effect": "in effect",
    },
    "zh": {
        None: "未规定",
        True: "开",
        False: "关",
        (True, ()): "从不",
        (False, ()): "无",
        "in effect": "实际为",
    },
}


def _listed(name: str, value: Any) -> list[str]:
    if name in _SPANS:
        return write_spans(value)
    if name == "foreground":
        return [f"{_plain(program)}={what}" for program, what in value]
    return list(value)


def _number(name: str, value: int, said: Mapping[Any, str]) -> str:
    if value == 0 and DIRECTIONS[name] is LONGER:
        return said[False]
    if name == "occupancy_s" and (real := counted_every_s(value)) != value:
        return f"{value} s ({said['in effect']} {real} s)"
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")
    return f"{value} {unit}".rstrip()


def _programs(was: Any, after: Any, language: Language) -> str:
    """Name the programs that come and go; a list of hundreds is not read twice."""
    comes, goes = ("加入", "去掉") if language == "zh" else ("adds", "drops")
    parts = (
        (comes, [one for one in after if one not in was]),
        (goes, [one for one in was if one not in after]),
    )
    said = [f"{what} {words('foreground', listed, language)}" for what, listed in parts if listed]
    return "; ".join(said) or words("foreground", after, language)


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)
