"""Whether use and heads may be counted now, as a configuration's hours say."""

from enum import StrEnum

from ketang_agent.clock import Instant
from ketang_contract.config import Config, holds_at, hours_are_empty
from ketang_contract.records import TimeQuality


class Hours(StrEnum):
    """How a moment stands to the hours, for a person who asks."""

    NOT_SET = "not_set"
    """Use and heads are counted round the clock."""
    OPEN = "open"
    CLOSED = "closed"
    """Outside them, or the device does not know the time."""
    NEVER = "never"
    """Hours are set and leave no moment in a week."""


def is_open(config: Config, now: Instant) -> bool:
    """Tell whether use and heads may be counted now.

    A device that does not know the time cannot tell, and counts nothing where hours are set.
    """
    if config.hours is None:
        return True
    return now.time is not TimeQuality.BAD and holds_at(config.hours, now.wall_ms)


def standing(config: Config, now: Instant) -> Hours:
    """Say how this moment stands to the hours."""
    if config.hours is None:
        return Hours.NOT_SET
    if hours_are_empty(config):
        return Hours.NEVER
    return Hours.OPEN if is_open(config, now) else Hours.CLOSED
