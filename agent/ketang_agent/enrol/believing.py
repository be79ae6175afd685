"""Whom a device believes: the trust document it holds, a newer one, and what follows from it.

The document is the only thing that is kept; ``servers-ca.pem`` is made from it, and made again
where it was lost or damaged.
"""

from collections.abc import Sequence

from ketang_agent.enrol import verifier
from ketang_agent.enrol.files import Place, write_private
from ketang_agent.enrol.talking import Centre, Stranger, fetch_trust
from ketang_contract import trust
from ketang_contract.errors import BadInput
from ketang_contract.trust import Trust, TrustRefused


def held(place: Place) -> bytes | None:
    """Return the document that is held; None where there is none, or a damaged one.

    Its own roots' signatures are checked once more: a disk changes single letters, too.
    """
    try:
        raw = place.trust.read_bytes()
        roots = trust.read_accepted(raw).fingerprint
        trust.accept_chain([raw], fingerprint=roots, now_s=0)
    except (FileNotFoundError, TrustRefused):
        return None
    return raw


def keep(place: Place, raw: bytes, now_s: int) -> Trust:
    """Keep an accepted document, and what follows from it; nothing is written that is there.

    Raises:
        BadInput: no authority for servers is in force; the document is kept.
    """
    document = trust.read_accepted(raw)
    _write(place, raw)
    servers = verifier.servers_pem(document, now_s).encode()
    # Compared every time: an authority's time may come later than its name.
    if not place.servers.exists() or place.servers.read_bytes() != servers:
        write_private(place.servers, servers)
    return document


def take(place: Place, raws: Sequence[bytes], fingerprint: str, now_s: int) -> Trust:
    """Judge documents by the one held, or else by the fingerprint; keep and return the newest.

    Where a document is held, one that does not follow it changes nothing.

    Raises:
        TrustRefused: none is held, and these are not of this region's roots, or too old.
        BadInput: no authority for servers is in force.
    """
    before = held(place)
    try:
        _, raw = verifier.accept_trust(raws, fingerprint, before, now_s)
    except TrustRefused:
        if before is None:
            raise
        raw = before
    return keep(place, raw, now_s)


def newest(place: Place, url: str, fingerprint: str, now_s: int) -> Trust:
    """Take over what the centre has newer than what is held.

    Where its certificate does not lead back to an authority that is held, this device may have
    slept while that was replaced. Then the documents are fetched without a check of the server, as
    a first one is: they carry their own proof, and are judged from the one held.

    Args:
        place: the folder.
        url: of the enrolment service.
        fingerprint: of the installer; used where nothing is held, read from the folder if empty.
        now_s: UTC seconds.

    Raises:
        Stranger: it is not the centre of this region, whatever it hands out.
        Unreachable: it does not answer.
        TrustRefused: nothing is held, and what it hands out is not of this region.
        BadInput: no fingerprint, or no authority for servers is in force.
    """
    before = held(place)
    if before is None:
        root = fingerprint or installed(place)
        return take(place, fetch_trust(url), root, now_s)
    try:
        keep(place, before, now_s)
        raws = Centre(url, place.servers.read_text("ascii")).trust()
    except Stranger:
        document = take(place, fetch_trust(url), "", now_s)
        if held(place) == before:
            raise
        return document
    except BadInput:  # of those it names, each one's time is over
        raws = fetch_trust(url)
    return take(place, raws, "", now_s)


def installed(place: Place) -> str:
    """Return the root's fingerprint as the installer left it.

    Raises:
        BadInput: there is none, or it is none.
    """
    try:
        return verifier.fingerprint_in(place.fingerprint.read_text("ascii"))
    except (OSError, UnicodeDecodeError):
        raise BadInput(
            f"{place.fingerprint}: missing; it comes with the installer, never with a kit"
        ) from None


def _write(place: Place, raw: bytes) -> None:
    if not place.trust.exists() or place.trust.read_bytes() != raw:
        write_private(place.trust, raw)
