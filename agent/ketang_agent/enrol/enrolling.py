"""``ketang enroll``: from a code to an identity, in steps that a loss of power may part anywhere.

Order is everything: the key is on the disk before the centre hears of it, so the centre never knows
a key that is lost; the whole answer is on the disk before anything is made of it. Begun again, it
goes on with the same key, and the centre gives the same key the same certificate. An identity that
is to be replaced (``again``) stays in force until the answer to the new key is on the disk.
"""

import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ketang_agent import VERSION
from ketang_agent.enrol import believing, matters, settling, verifier
from ketang_agent.enrol.files import Place, alone, hand_over, read_facts, remove, write_private
from ketang_agent.enrol.talking import TRANSIENT, Centre, Reply, Stranger, Unreachable
from ketang_contract.enrolment import binding
from ketang_contract.errors import BadInput, KetangError
from ketang_contract.kit import Line, RawKit
from ketang_contract.trust import Trust, TrustRefused, read_accepted

_AGAIN_S, _SOON_S = 5, 1
_OF_THE_KEY = frozenset({"refused_by_person", "revoked", "key_in_use", "expired_too_long"})
"""Answers that this key gets for ever; another key may not."""
_TO_DO = {
    "unknown_code": "no such code: read it again, letter by letter",
    "code_expired": "the code has expired: have a new one made",
    "code_used_up": "the code was used as often as it may be: have a new one made",
    "code_withdrawn": "the code was withdrawn: have a new one made",
    "other_school": "this device is registered at another school than the code's",
    "refused_by_person": "the centre's operator said no; to ask once more, use --again",
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
    "too_many": "the centre takes in others first",
    "queue_full": "too many wait for the centre's operator already",
    "unavailable": "the centre cannot certify just now",
    "bad_nonce": "the answer took too long: check this device's clock and line",
}


class NotGranted(KetangError):
    """There is no identity to work with, and asking again will not help by itself.

    The line says why, and what to do.
    """


class KeyRefused(NotGranted):
    """The centre's no is about the key that asked. Caller: with ``again``, ask with another."""


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
        again: get another identity for one that is there. Asked again while the first request
            waits, it goes on with that one.
    """

    kit: RawKit
    fingerprint: str
    serial: str = ""
    asset: str = ""
    owner: str = ""
    patience_s: float = 300.0
    again: bool = False


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
    """Get this device its identity; return the device id.

    Has it a whole one, only a newer trust document is taken over; damaged files are made again
    from those that are not. ``reached`` is told each step once it is durable.

    Raises:
        BadInput: kit, code or fingerprint are wrong, or another enrolment is at work here.
        NotGranted: the centre said no, or said it before to the identity that is here, or the time
            of this one is over.
        StillWaiting: nobody decided within the patience; what was begun is kept.
        Unreachable: the centre does not answer.
    """
    clock = clock or Clock()
    with alone(place):
        verifier.drop_served_key(place)
        _mend_pair(place)
        begins = asking.again and place.identity.exists() and settling.answered(place) is None
        if begins or place.again_key.exists():
            _complete(place, asking, clock, reached, key_file=place.again_key)
        elif not _is_whole(place):
            _complete(place, asking, clock, reached, key_file=place.new_key)
        else:
            _take_newer(place, asking, int(clock.now_s()))
        hand_over(place, asking.owner)
        device = verifier.dates(place.identity.read_bytes()).name
        trouble = matters.matter(place, int(clock.now_s()))
        if trouble:
            raise NotGranted(f"this device is {device}, but {trouble}")
        return device


def _mend_pair(place: Place) -> None:
    """Where the pair in use is lost or damaged and a renewed one lies beside it, use that."""
    if not _is_pair(place.identity) and _is_pair(place.next):
        place.next.replace(place.identity)


def _is_whole(place: Place) -> bool:
    """Tell whether every file is there, can be read, and is of one identity."""
    facts = read_facts(place)
    if place.answer.exists() or facts is None or not _is_pair(place.identity):
        return False
    if not settling.has_settings(place) or believing.held(place) is None:
        return False
    return verifier.dates(place.identity.read_bytes()).name == facts.device


def _is_pair(file: Path) -> bool:
    return file.exists() and verifier.is_pair(file.read_bytes())


def _take_newer(place: Place, asking: Asking, now_s: int) -> None:
    """Take over a newer trust document, if the kit or the centre has one; it is no must."""
    held = believing.held(place)
    with suppress(BadInput):  # of no authority is the time now
        if held is not None:
            believing.keep(place, held, now_s)
    with suppress(BadInput, Unreachable):
        if isinstance(asking.kit, Line):
            believing.newest(place, asking.kit.url, asking.fingerprint, now_s)
        else:
            believing.take(place, [asking.kit.trust], asking.fingerprint, now_s)


def _complete(
    place: Place, asking: Asking, clock: Clock, reached: Callable[[str], None], key_file: Path
) -> None:
    """Begin an enrolment, go on with one, or put back a file that was lost."""
    line = _told(place, asking, clock)
    reached("trust")
    answered = settling.answered(place)
    if answered is None:
        remove(place.answer)
        whole = _is_pair(place.identity) and settling.has_settings(place)
        if whole and key_file != place.again_key:
            settling.put_back_facts(place, line.url)
            return
        answer = _granted(place, asking, line, clock, reached, key_file)
        reached("asked")
        key, document = key_file.read_bytes(), _document(place)
        answered = verifier.check_issued(answer, key, document, int(clock.now_s())), line.url
        settling.keep_answer(place, answer, line.url)
        reached("answer")
    settling.settle(place, *answered, reached)


def _granted(
    place: Place,
    asking: Asking,
    line: Line,
    clock: Clock,
    reached: Callable[[str], None],
    key_file: Path,
) -> bytes:
    """Ask with the key that asked before, or a new one.

    A request that waits must not be orphaned by ``again``. But a key that is refused for good
    serves nobody: then it asks with another, and the identity that is there stays.
    """
    old = key_file.exists()
    if _take_key(place, key_file):
        reached("key")
    try:
        return _ask(place, asking, line, clock, key_file)
    except KeyRefused:
        if place.identity.exists() and key_file == place.again_key:
            remove(key_file)
        if not asking.again or not old:
            raise
    write_private(key_file, verifier.make_key())
    return _ask(place, asking, line, clock, key_file)


def _take_key(place: Place, key_file: Path) -> bool:
    """Put the key that asks in its place; True when that changed anything.

    An identity whose settings or certificate were lost asks with its own key, and so gets its own
    certificate.

    Raises:
        BadInput: the identity is damaged.
    """
    if key_file == place.new_key and place.identity.exists():
        try:
            key = verifier.key_of(place.identity.read_bytes())
        except BadInput:
            raise BadInput(
                f"{place.identity}: damaged, and its key is lost; use --again with a new code"
            ) from None
        write_private(key_file, key)
        return True
    if key_file.exists():
        return False
    write_private(key_file, verifier.make_key())
    return True


def _told(place: Place, asking: Asking, clock: Clock) -> Line:
    """Establish whom to believe, and read where to go with which code."""
    if isinstance(asking.kit, Line):
        _learn(place, asking.kit.url, asking, clock)
        return asking.kit
    now_s = int(clock.now_s())
    try:
        # An old stick, or a foreign one, changes nothing: its kit is judged by what is held.
        document = believing.take(place, [asking.kit.trust], asking.fingerprint, now_s)
    except TrustRefused as why:
        raise _foreign(why) from None
    said = verifier.open_kit(asking.kit, document, now_s)
    return Line(said.url, said.code)


def _learn(place: Place, url: str, asking: Asking, clock: Clock) -> None:
    """Fetch the trust documents: the first that the fingerprint allows, or a newer one."""
    until_s = clock.now_s() + asking.patience_s
    while True:
        try:
            believing.newest(place, url, asking.fingerprint, int(clock.now_s()))
        except TrustRefused as why:
            raise _foreign(why) from None
        except Stranger:
            raise
        except Unreachable:
            if believing.held(place) is not None:
                return
            if clock.now_s() + _AGAIN_S >= until_s:
                raise
            clock.sleep(_SOON_S * (0.5 + random.random()))
        else:
            return


def _foreign(why: TrustRefused) -> NotGranted:
    return NotGranted(f"not enrolled: the trust document is not this region's ({why})")


def _document(place: Place) -> Trust:
    raw = believing.held(place)
    if raw is None:
        raise BadInput(f"{place.trust}: was taken away in the midst of it; run this again")
    return read_accepted(raw)


def _ask(place: Place, asking: Asking, line: Line, clock: Clock, key_file: Path) -> bytes:
    """Ask until the centre has decided, or the patience is over."""
    key, centre, met = key_file.read_bytes(), _centre(place, line), False
    until_s = clock.now_s() + asking.patience_s
    while True:
        try:
            reply = _ask_once(centre, key, asking, line)
        except Stranger:
            if met:
                raise
            believing.newest(place, line.url, asking.fingerprint, int(clock.now_s()))
            centre, met = _centre(place, line), True
            continue
        except Unreachable:
            if clock.now_s() + _AGAIN_S >= until_s:
                raise
            clock.sleep(_AGAIN_S * (0.5 + random.random()))
            continue
        if reply.granted:
            return reply.body
        wait_s = _wait_s(reply)
        if clock.now_s() + wait_s >= until_s:
            why = _TO_DO.get(reply.reason, reply.reason)
            raise StillWaiting(f"not enrolled yet: {why}; run this again later, it goes on")
        clock.sleep(wait_s)


def _wait_s(reply: Reply) -> float:
    """Return how long to wait before asking again.

    Raises:
        NotGranted: that would not help.
    """
    if not reply.retry_after_s and reply.reason not in TRANSIENT:
        refused = KeyRefused if reply.reason in _OF_THE_KEY else NotGranted
        raise refused(f"not enrolled: {_TO_DO.get(reply.reason, reply.reason)}")
    # Two hundred that were turned away in one second must not come back in one.
    return max(reply.retry_after_s, 1) * (1 + random.random())


def _centre(place: Place, line: Line) -> Centre:
    return Centre(line.url, place.servers.read_text("ascii"))


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


def read_fingerprint(place: Place, given: str) -> str:
    """Return the root's fingerprint: given by hand, or as the installer left it.

    Raises:
        BadInput: there is none, or it is none.
    """
    return verifier.fingerprint_in(given) if given else believing.installed(place)
