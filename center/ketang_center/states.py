"""The three separate states of a device: connection, data freshness, use. Pure."""

from dataclasses import dataclass, replace
from enum import StrEnum

from ketang_center.metrics.figures import SILENT_MS, DayUse
from ketang_center.metrics.windows import CELL_MS, State
from ketang_center.store.base import Presence

OVERDUE_MS = 60_000


class Connection(StrEnum):
    """Whether the device holds a session with the broker."""

    CONNECTED = "connected"
    ORDERLY = "orderly"
    SILENT = "silent"
    NEVER = "never"


class Freshness(StrEnum):
    """How old the last batch is, against three heartbeats."""

    FRESH = "fresh"
    STALE = "stale"
    NONE = "none"


class Why(StrEnum):
    """Why there is no state of use to show."""

    FIRST_WINDOW = "first_window"
    """Connected; the first window is not closed yet."""
    OVERDUE = "overdue"
    NO_SESSION = "no_session"
    PROBE_FAILED = "probe_failed"
    STALE = "stale"
    OFF = "off"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class UseNow:
    """Last closed window's state; ``why`` and None where that is unknown."""

    state: State | None
    why: Why | None = None
    at_ms: int = 0
    """Start of the window, or the moment the first one closes."""


def believed(presence: Presence, listening_ms: int, now_ms: int) -> Presence:
    """Take back a connection whose end the centre may have missed.

    A good-bye or will that came while the centre was away is gone. So a device that was connected
    before the centre last began to listen must have spoken within three heartbeats of that.
    """
    heard_ms = max(presence.since_ms, presence.last_seen_ms)
    if not presence.connected or heard_ms >= listening_ms or now_ms - listening_ms <= SILENT_MS:
        return presence
    return replace(presence, connected=False, orderly=False, since_ms=heard_ms)


def connection_of(presence: Presence | None) -> Connection:
    """Say what is known of a device's session."""
    if presence is None:
        return Connection.NEVER
    if presence.connected:
        return Connection.CONNECTED
    return Connection.ORDERLY if presence.orderly else Connection.SILENT


def freshness_of(presence: Presence | None, now_ms: int) -> Freshness:
    """Judge the age of the last batch."""
    if presence is None or not presence.last_seen_ms:
        return Freshness.NONE
    return Freshness.FRESH if now_ms - presence.last_seen_ms <= SILENT_MS else Freshness.STALE


def first_close_ms(since_ms: int) -> int:
    """Return when the window closes that is open at a moment: windows are aligned to the clock."""
    return (since_ms // CELL_MS + 1) * CELL_MS


def use_of(presence: Presence | None, latest: DayUse | None, now_ms: int) -> UseNow:
    """Say what a device was last seen doing, or why that is not known."""
    window_ms = latest.window_ms if latest else 0
    if presence is None and not window_ms:
        return UseNow(None, Why.NEVER)
    connected = presence is not None and presence.connected
    if latest is not None and latest.orderly and not connected:
        return UseNow(None, Why.OFF, latest.shutdown_ms)
    if latest is not None and window_ms and now_ms - (window_ms + CELL_MS) <= SILENT_MS:
        if latest.window_state != State.UNKNOWN:
            return UseNow(State(latest.window_state), None, window_ms)
        no_session = latest.window_source == "none"
        return UseNow(None, Why.NO_SESSION if no_session else Why.PROBE_FAILED, window_ms)
    if presence is not None and connected:
        closes_ms = first_close_ms(presence.since_ms)
        late = now_ms > closes_ms + OVERDUE_MS
        return UseNow(None, Why.OVERDUE if late else Why.FIRST_WINDOW, closes_ms)
    return UseNow(None, Why.STALE, window_ms)
