"""What is the matter with an identity that is there: its time is over, or the centre said no.

Standard library only, since ``ketang agent doctor`` asks here too.
"""

import json
import time
from dataclasses import asdict, dataclass

from ketang_agent.enrol.files import Facts, Place, read_facts, write_private

_ALONE_S = 90 * 86_400
"""How long after its end a certificate still renews without a person."""
_AGAIN = "run ketang enroll --again with a new code"
_SAID = {
    "revoked": f"the centre has thrown it out; ask its operator, then {_AGAIN}",
    "expired_too_long": "its certificate ended too long ago; the centre's operator has to approve,"
    f" and then it renews by itself, or {_AGAIN}",
    "unknown_certificate": f"the centre does not know it; ask its operator, then {_AGAIN}",
}
"""Of the centre's words, those that time alone does not mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The centre would not renew a certificate. ``reason`` is its word, ``at_s`` UTC seconds."""

    reason: str
    at_s: int


def read_refusal(place: Place) -> Refusal | None:
    """Return what the centre last said to the certificate in use, where that was no."""
    facts = read_facts(place)
    try:
        said = json.loads(place.refusal.read_bytes())
        about = str(said["device"]), int(said["until_s"])
        refusal = Refusal(reason=str(said["reason"]), at_s=int(said["at_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return refusal if facts is not None and about == (facts.device, facts.until_s) else None


def write_refusal(place: Place, facts: Facts, refusal: Refusal) -> None:
    """Keep what the centre said, with the certificate that it is about: it holds for no other."""
    about = {"device": facts.device, "until_s": facts.until_s}
    write_private(place.refusal, json.dumps(asdict(refusal) | about).encode())


def matter(place: Place, now_s: int) -> str:
    """Return what is wrong with the identity in use, and what to do; empty if nothing is known."""
    facts, refusal = read_facts(place), read_refusal(place)
    if facts is None:
        return ""
    if refusal is not None and refusal.reason in _SAID:
        return f"{_SAID[refusal.reason]} (said on {_day(refusal.at_s)})"
    if now_s < facts.until_s:
        return ""
    ended = f"its certificate ended on {_day(facts.until_s)}, or this device's clock is wrong"
    if now_s < facts.until_s + _ALONE_S:
        return f"{ended}; the running agent renews it: let it run, and reach {facts.url}"
    return f"{ended}; {_AGAIN}"


def _day(at_s: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_s))
