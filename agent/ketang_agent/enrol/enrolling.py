"""``ketang enroll``: from a code to an identity, in steps that a loss of power may part anywhere.

Order is everything: the key is on the disk before the centre hears of it, so the centre never knows
a key that is lost; the whole answer is on the disk before anything is made of it. Begun again, it
goes on with the same key, and the centre gives the same key the same certificate.
"""

import json
import random
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_agent import VERSION
from ketang_agent.enrol import verifier
from ketang_agent.enrol.files import (
    Facts,
    Place,
    alone,
    hand_over,
    read_facts,
    remove,
    write_facts,
    write_private,
)
from ketang_agent.enrol.talking import Centre, Reply, Unreachable, fetch_trust
from ketang_contract.enrolment import Issued, binding
from ketang_contract.errors import BadInput, KetangError
from ketang_contract.kit import Line, RawKit, SignedKit
from ketang_contract.serials import is_doubtful
from ketang_contract.trust import Trust, TrustRefused, read_accepted

_AGAIN_S, _SOON_S = 5, 1
_TRANSIENT = frozenset({"too_many", "locked", "queue_full", "bad_nonce", "no_reason"})
_TO_DO = {
    "unknown_code": "no such code: read it again, letter by letter",
    "code_expired": "the code has expired: have a new one made",
    "code_used_up": "the code was used as often as it may be: have a new one made",
    "code_withdrawn": "the code was withdrawn: have a new one made",
    "other_school": "this device is registered at another school than the code's",
    "refused_by_person": "the centre's operator said no",
    "revoked": "this device was thrown out: ask the centre's operator, then use --again",
    "key_in_use": "this key belongs to a device of another school: use --again",
    "expired_too_long": "its certificate expired long ago: use --again with a new code",
    "bad_request": "agent and centre do not understand each other: are both up to date?",
    "locked": "too many wrong codes came from here: wait a quarter of an hour",
    "already_claimed": "another device has enrolled with this serial number; the centre's operator"
    " has to approve",
    "not_registered": "this serial number is not registered: have the centre's operator add it",
    "doubtful_serial": "this serial number names no single device; the operator has to approve",
    "asked": "the centre's operator has to approve",
}


class NotGranted(KetangError):
    """The centre said no, and asking again will not help by itself; the line says what to do."""


class StillWaiting(KetangError):
    """A person at the centre has to decide. Caller: run the same again later, it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a device is told when it is to enrol.

    Attributes:
        kit: a kit, or the one line of one; ``url`` and ``code`` of a person are a ``Line`` too.
        fingerprint: the region's root, from the installer.
        serial: as the firmware says it.
        asset: inventory number, where a person typed it.
        owner: account that the agent runs as; empty: this one.
        patience_s: how long to wait for a person or a busy centre.
    """

    kit: RawKit
    fingerprint: str
    serial: str = ""
    asset: str = ""
    owner: str = ""
    patience_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as it is passed in: UTC seconds now, and how to wait."""

    now_s: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def enrol(
    place: Place,
    asking: Asking,
    *,
    clock: Clock | None = None,
    reached: Callable[[str], None] = lambda _: None,
) -> str:
    """Get this device its identity; return the device id. Has it one, nothing happens.

    ``reached`` is told each step once it is durable.

    Raises:
        BadInput: kit, code or fingerprint are wrong, or another enrolment is at work here.
        NotGranted: the centre said no.
        StillWaiting: nobody decided within the patience; what was begun is kept.
        Unreachable: the centre does not answer.
    """
    clock = clock or Clock()
    with alone(place):
        if not _is_whole(place):
            _complete(place, asking, clock, reached)
        verifier.drop_served_key(place)
        hand_over(place, asking.owner)
        return verifier.dates(place.identity.read_bytes()).name


def begin_again(place: Place) -> None:
    """Forget an identity that is of no use any more; the records that wait stay.

    The identity goes last: broken off before that, nothing is begun anew.

    Raises:
        BadInput: an enrolment or a renewal is at work here.
    """
    with alone(place):
        for file in (place.answer, place.new_key, place.next, place.facts):
            remove(file)
        if place.settings.exists():
            place.settings.replace(place.settings.with_suffix(".before"))
        remove(place.identity)


def _is_whole(place: Place) -> bool:
    kept = (place.identity, place.settings, place.facts, place.trust, place.servers)
    return not place.answer.exists() and all(one.exists() for one in kept)


def _complete(place: Place, asking: Asking, clock: Clock, reached: Callable[[str], None]) -> None:
    """Begin an enrolment, go on with one, or put back a file that was lost."""
    document, line = _told(place, asking, clock)
    reached("trust")
    answered = _answered(place)
    if answered is None:
        remove(place.answer)
        if place.identity.exists() and place.settings.exists():
            _put_back_facts(place, line.url)
            return
        if _take_key(place):
            reached("key")
        answer = _ask(place, asking, line, clock)
        reached("asked")
        key = place.new_key.read_bytes()
        answered = verifier.check_issued(answer, key, document, int(clock.now_s())), line.url
        write_private(place.answer, _with_url(answer, line.url))
        reached("answer")
    _settle(place, *answered, reached)


def _answered(place: Place) -> tuple[Issued, str] | None:
    """Return the answer that is kept, if the key it was given to is still here."""
    try:
        kept = json.loads(place.answer.read_bytes())
        issued, url = Issued(**kept["answer"]), str(kept["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    files = (one for one in (place.new_key, place.identity) if one.exists())
    found = any(verifier.belongs(one.read_bytes(), issued.certificate) for one in files)
    return (issued, url) if found else None


def _take_key(place: Place) -> bool:
    """Put the key that asks in its place; True when that changed anything.

    An identity whose settings were lost asks with its own key, and so gets its own certificate.
    """
    if place.identity.exists():
        write_private(place.new_key, verifier.key_of(place.identity.read_bytes()))
        return True
    if place.new_key.exists():
        return False
    write_private(place.new_key, verifier.make_key())
    return True


def _put_back_facts(place: Place, url: str) -> None:
    held = verifier.dates(place.identity.read_bytes())
    if read_facts(place) is None:
        facts = Facts(device=held.name, url=url, from_s=held.from_s, until_s=held.until_s)
        write_facts(place, facts)


def _told(place: Place, asking: Asking, clock: Clock) -> tuple[Trust, Line]:
    """Establish whom to believe, and read where to go with which code."""
    document, now_s = _document(place, asking, clock), int(clock.now_s())
    write_private(place.servers, verifier.servers_pem(document, now_s).encode())
    if isinstance(asking.kit, Line):
        return document, asking.kit
    said = verifier.open_kit(asking.kit, document, now_s)
    return document, Line(said.url, said.code)


def _document(place: Place, asking: Asking, clock: Clock) -> Trust:
    """Return the trust document: the one held, or the first that the fingerprint allows."""
    held = place.trust.read_bytes() if place.trust.exists() else None
    if isinstance(asking.kit, SignedKit):
        raws = [asking.kit.trust]
    else:
        raws = [held] if held is not None else _fetched(asking.kit.url, asking, clock)
    try:
        document, raw = verifier.accept_trust(raws, asking.fingerprint, held, int(clock.now_s()))
    except TrustRefused as why:
        if held is not None:  # an old stick, or a foreign one: its kit is judged by what is held
            return read_accepted(held)
        raise NotGranted(f"not enrolled: the trust document is not this region's ({why})") from None
    if raw != held:
        write_private(place.trust, raw)
    return document


def _fetched(url: str, asking: Asking, clock: Clock) -> list[bytes]:
    until_s = clock.now_s() + asking.patience_s
    while True:
        try:
            return fetch_trust(url)
        except Unreachable:
            if clock.now_s() + _AGAIN_S >= until_s:
                raise
            clock.sleep(_SOON_S * (0.5 + random.random()))


def _ask(place: Place, asking: Asking, line: Line, clock: Clock) -> bytes:
    """Ask until the centre has decided, or the patience is over."""
    key, centre = place.new_key.read_bytes(), Centre(line.url, place.servers.read_text("ascii"))
    until_s = clock.now_s() + asking.patience_s
    while True:
        try:
            reply = _ask_once(centre, key, asking, line)
        except Unreachable:
            if clock.now_s() + _AGAIN_S >= until_s:
                raise
            clock.sleep(_AGAIN_S * (0.5 + random.random()))
            continue
        if reply.granted:
            return reply.body
        waits = bool(reply.retry_after_s) or reply.reason in _TRANSIENT
        why = _TO_DO.get(reply.reason, reply.reason)
        if not waits:
            raise NotGranted(f"not enrolled: {why}")
        # Two hundred that were turned away in one second must not come back in one.
        wait_s = max(reply.retry_after_s, 1) * (1 + random.random())
        if clock.now_s() + wait_s >= until_s:
            raise StillWaiting(f"not enrolled yet: {why}; run this again later, it goes on")
        clock.sleep(wait_s)


def _ask_once(centre: Centre, key: bytes, asking: Asking, line: Line) -> Reply:
    nonce = centre.nonce()
    bound = binding(nonce, line.code, asking.serial)
    application = {
        "csr": verifier.signing_request(key, bound),
        "nonce": nonce,
        "code": line.code,
        "serial": asking.serial,
        "asset": asking.asset,
        "agent_version": VERSION,
    }
    return centre.enrol(json.dumps(application).encode())


def _with_url(answer: bytes, url: str) -> bytes:
    return json.dumps({"answer": json.loads(answer), "url": url}).encode()


def _settle(place: Place, issued: Issued, url: str, reached: Callable[[str], None]) -> None:
    """Make everything of the answer that follows from it; done twice, it is done once."""
    key = place.new_key.read_bytes() if place.new_key.exists() else b""
    if key and verifier.belongs(key, issued.certificate):
        write_private(place.identity, key + issued.certificate.encode())
        reached("identity")
    held = verifier.dates(place.identity.read_bytes())
    write_facts(
        place, Facts(device=issued.device, url=url, from_s=held.from_s, until_s=held.until_s)
    )
    reached("facts")
    write_private(place.settings, _settings(place, issued).encode())
    reached("settings")
    remove(place.new_key)
    reached("key gone")
    remove(place.answer)
    reached("done")


def _settings(place: Place, issued: Issued) -> str:
    """Write ``agent.toml``, with what a person had put into one before."""
    before = _before(place)
    told: dict[str, Any] = {
        "device": issued.device,
        "center_id": issued.center_id,
        "profile": issued.profile,
        "data_dir": before.get("data_dir", "data"),
        "broker_host": issued.broker_host,
        "broker_port": issued.broker_port,
        "ca": place.servers.name,
        "certificate": place.identity.name,
        "key": place.identity.name,
    }
    kept = {key: value for key, value in before.items() if key not in told}
    tables = {key: value for key, value in kept.items() if isinstance(value, dict)}
    told |= {key: value for key, value in kept.items() if key not in tables}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {json.dumps(one, ensure_ascii=False)}" for key, one in table.items()]
    return "\n".join(lines) + "\n"


def _before(place: Place) -> dict[str, Any]:
    for file in (place.settings, place.settings.with_suffix(".before")):
        try:
            return tomllib.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
    return {}


def serial_of_this_machine(base: Path = Path("/sys/class/dmi/id")) -> str:
    """Return the serial number that the firmware tells, rather one that names this machine alone.

    Empty where it tells none.
    """
    told: list[str] = []
    for name in ("product_serial", "board_serial", "chassis_serial"):
        with suppress(OSError):
            told.append((base / name).read_text("utf-8", "replace"))
    lines = ["".join(one for one in text.strip() if one.isprintable())[:64] for text in told]
    good = [one for one in lines if not is_doubtful(one)]
    return next((one for one in (*good, *lines) if one), "")


def read_fingerprint(place: Place, given: str) -> str:
    """Return the root's fingerprint: given by hand, or as the installer left it.

    Raises:
        BadInput: there is none, or it is none.
    """
    if given:
        return verifier.fingerprint_in(given)
    try:
        return verifier.fingerprint_in(place.fingerprint.read_text("ascii"))
    except (OSError, UnicodeDecodeError):
        raise BadInput(
            f"{place.fingerprint}: missing; it comes with the installer, never with a kit"
        ) from None
