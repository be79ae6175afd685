"""The renewing child: ``python -m ketang_agent.enrol.renewing FOLDER``, one try, then it ends.

It also takes over a newer trust document, so that a change of authorities reaches a device long
before the old ones end. Prints one JSON line; exit status 0 when there is nothing left to do now.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ketang_agent.enrol import verifier
from ketang_agent.enrol.files import (
    Facts,
    Place,
    alone,
    read_facts,
    remove,
    write_facts,
    write_private,
)
from ketang_agent.enrol.talking import Centre, Unreachable, fetch_trust
from ketang_contract.enrolment import binding
from ketang_contract.errors import BadInput, KetangError, Refused
from ketang_contract.trust import Trust, TrustRefused, read_accepted

NOT_YET = 1


class NotRenewed(KetangError):
    """The centre said no for now; ``reason`` is its word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def renew(
    place: Place,
    now_s: int,
    *,
    reached: Callable[[str], None] = lambda _: None,
) -> bool:
    """Get the next pair into ``place.next``; False where it lies there already.

    Raises:
        NotRenewed: the centre said no, or not yet.
        Unreachable: it does not answer.
        BadInput: this folder holds no identity.
    """
    with alone(place):
        facts = read_facts(place)
        if facts is None:
            raise BadInput(f"{place.folder}: not enrolled")
        held = verifier.dates(place.identity.read_bytes())
        verifier.drop_served_key(place)
        if (held.from_s, held.until_s) != (facts.from_s, facts.until_s):
            # Power went between the swap of the pair and that of its facts.
            write_facts(place, _facts(facts, held))
            return False
        if place.next.exists():
            return False
        held_trust = _held_trust(place, facts.url, now_s)
        centre = Centre(facts.url, place.servers.read_text("ascii"))
        document = _trust(place, held_trust, centre, now_s)
        if not place.new_key.exists():
            write_private(place.new_key, verifier.make_key())
        reached("key")
        pair = _ask(place, centre, document, now_s)
        reached("asked")
        write_private(place.next, pair)
        reached("next")
        remove(place.new_key)
        reached("done")
    return True


def _ask(place: Place, centre: Centre, document: Trust, now_s: int) -> bytes:
    old, key, nonce = place.identity.read_bytes(), place.new_key.read_bytes(), centre.nonce()
    csr = verifier.signing_request(key, binding(nonce, verifier.key_name(old)))
    payload = json.dumps({"csr": csr, "nonce": nonce}).encode()
    reply = centre.renew(verifier.sealed_renewal(payload, old))
    if not reply.granted:
        raise NotRenewed(reply.reason)
    issued = verifier.check_issued(reply.body, key, document, now_s)
    if issued.device != verifier.dates(old).name:
        raise Refused("bad_certificate", "it names another device")
    return key + issued.certificate.encode()


def _held_trust(place: Place, url: str, now_s: int) -> bytes:
    """Return the document held; one that was lost is fetched as the first one was."""
    if place.trust.exists() and place.servers.exists():
        return place.trust.read_bytes()
    if place.trust.exists():
        document, raw = read_accepted(place.trust.read_bytes()), place.trust.read_bytes()
    else:
        root = verifier.fingerprint_in(place.fingerprint.read_text("ascii"))
        document, raw = verifier.accept_trust(fetch_trust(url), root, None, now_s)
    write_private(place.servers, verifier.servers_pem(document, now_s).encode())
    write_private(place.trust, raw)
    return raw


def _trust(place: Place, held: bytes, centre: Centre, now_s: int) -> Trust:
    """Take over a newer trust document; what is held stays where there is none."""
    try:
        document, raw = verifier.accept_trust(centre.trust(), "", held, now_s)
    except TrustRefused:
        return read_accepted(held)
    servers = verifier.servers_pem(document, now_s).encode()
    if servers != place.servers.read_bytes():  # an authority's time may come later than its name
        write_private(place.servers, servers)
    if raw != held:
        write_private(place.trust, raw)
    return document


def _facts(before: Facts, held: verifier.Dates) -> Facts:
    return Facts(device=held.name, url=before.url, from_s=held.from_s, until_s=held.until_s)


def main() -> int:
    """Try once for the folder named on the command line."""
    try:
        made = renew(Place(Path(sys.argv[1])), int(time.time()))
    except NotRenewed as why:
        _say({"renewed": False, "why": why.reason})
        return NOT_YET
    except (KetangError, OSError) as problem:
        word = "unreachable" if isinstance(problem, Unreachable) else "failed"
        _say({"renewed": False, "why": word, "what": str(problem)[:300]})
        return NOT_YET
    _say({"renewed": made})
    return 0


def _say(what: dict[str, str | bool]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    sys.exit(main())
