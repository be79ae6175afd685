"""The renewing child: ``python -m ketang_agent.enrol.renewing FOLDER [look]``, then it ends.

It takes over a newer trust document, so that a change of authorities reaches a device long before
the old ones end, and asks for the next certificate; with ``look``, it does the former alone. A busy
centre is waited for, within a patience of minutes. Prints one JSON line; exit status 0 when there
is nothing left to do now.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ketang_agent.enrol import believing, verifier
from ketang_agent.enrol.files import (
    Facts,
    Place,
    alone,
    read_facts,
    remove,
    write_facts,
    write_private,
)
from ketang_agent.enrol.matters import Refusal, write_refusal
from ketang_agent.enrol.talking import TRANSIENT, Centre, Reply, Unreachable
from ketang_contract.enrolment import Issued, binding
from ketang_contract.errors import BadInput, KetangError, Refused
from ketang_contract.trust import Trust

NOT_YET = 1
LOOK = "look"
PATIENCE_S = 240.0
_NEW_KEY_AFTER_S = 86_400


class NotRenewed(KetangError):
    """The centre said no for now; ``reason`` is its word, ``retry_after_s`` its wish or 0."""

    def __init__(self, reason: str, retry_after_s: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a busy centre is waited for: how long in all, and how."""

    patience_s: float = PATIENCE_S
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random


def renew(
    place: Place,
    now_s: int,
    *,
    waiting: Waiting | None = None,
    reached: Callable[[str], None] = lambda _: None,
) -> bool:
    """Get the next pair into ``place.next``; False where it lies there already.

    Raises:
        NotRenewed: the centre said no, or not yet; it is kept for those who ask why.
        Unreachable: it does not answer.
        BadInput: this folder holds no identity, or a damaged one.
    """
    with alone(place):
        verifier.drop_served_key(place)
        facts, changed = _known(place)
        if changed or place.next.exists():
            return False
        document = believing.newest(place, facts.url, "", now_s)
        centre = Centre(facts.url, place.servers.read_text("ascii"))
        if not place.new_key.exists():
            write_private(place.new_key, verifier.make_key())
        reached("key")
        try:
            pair = _pair(place, centre, document, now_s, waiting or Waiting())
        except NotRenewed as why:
            write_refusal(place, facts, Refusal(reason=why.reason, at_s=now_s))
            raise
        reached("asked")
        write_private(place.next, pair)
        reached("next")
        for done in (place.new_key, place.refusal):
            remove(done)
        reached("done")
    return True


def look(place: Place, now_s: int) -> bool:
    """Take over a newer trust document; True where there was one.

    Raises:
        Unreachable: the centre does not answer.
        BadInput: this folder holds no identity.
    """
    with alone(place):
        facts, _ = _known(place)
        before = believing.held(place)
        believing.newest(place, facts.url, "", now_s)
        return believing.held(place) != before


def _known(place: Place) -> tuple[Facts, bool]:
    """Return the facts of the identity in use, and whether they had to be put right."""
    before = read_facts(place)
    if before is None or not place.identity.exists():
        raise BadInput(f"{place.folder}: not enrolled")
    held = verifier.dates(place.identity.read_bytes())
    facts = Facts(device=held.name, url=before.url, from_s=held.from_s, until_s=held.until_s)
    if facts == before:
        return facts, False
    write_facts(place, facts)  # the supervisor swaps the pair, and cannot read its dates
    return facts, True


def _pair(place: Place, centre: Centre, document: Trust, now_s: int, waiting: Waiting) -> bytes:
    """Ask, and return the key with the certificate it was given."""
    old, key = place.identity.read_bytes(), place.new_key.read_bytes()
    reply = _answer(centre, old, key, waiting)
    issued = _checked(place, reply, key, document, now_s)
    if issued.device != verifier.dates(old).name:
        raise Refused("bad_certificate", "it names another device")
    return key + issued.certificate.encode()


def _answer(centre: Centre, old: bytes, key: bytes, waiting: Waiting) -> Reply:
    """Ask until the centre has the time, or the patience is over.

    Raises:
        NotRenewed: it said no, or would rather be asked later than the patience lasts.
    """
    left_s = waiting.patience_s
    while True:
        nonce = centre.nonce()
        csr = verifier.signing_request(key, binding(nonce, verifier.key_name(old)))
        payload = json.dumps({"csr": csr, "nonce": nonce}).encode()
        reply = centre.renew(verifier.sealed_renewal(payload, old))
        if reply.granted:
            return reply
        # Devices that were turned away in one second must not come back in one.
        wait_s = max(reply.retry_after_s, 1) * (1 + waiting.jitter())
        if reply.reason not in TRANSIENT or wait_s > left_s:
            raise NotRenewed(reply.reason, reply.retry_after_s)
        left_s -= wait_s
        waiting.sleep(wait_s)


def _checked(place: Place, reply: Reply, key: bytes, document: Trust, now_s: int) -> Issued:
    try:
        return verifier.check_issued(reply.body, key, document, now_s)
    except Refused as why:
        # A key that asked long ago is given what it was given then. Once a day at most, in case it
        # is this device's clock that is wrong.
        if why.reason == "ended" and place.new_key.stat().st_mtime < now_s - _NEW_KEY_AFTER_S:
            remove(place.new_key)
        raise


def main() -> int:
    """Try once for the folder named on the command line."""
    place, now_s = Place(Path(sys.argv[1])), int(time.time())
    try:
        said = (
            {"changed": look(place, now_s)}
            if sys.argv[2:] == [LOOK]
            else {"renewed": renew(place, now_s)}
        )
    except NotRenewed as why:
        busy_s = max(why.retry_after_s, 1) if why.reason in TRANSIENT else 0
        _say({"renewed": False, "why": why.reason, "busy_s": busy_s})
        return NOT_YET
    except (KetangError, OSError) as problem:
        word = "unreachable" if isinstance(problem, Unreachable) else "failed"
        _say({"renewed": False, "why": word, "what": str(problem)[:300]})
        return NOT_YET
    _say(said)
    return 0


def _say(what: Mapping[str, str | int]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    sys.exit(main())
