"""All of an enrolment that needs cryptography: keys, requests, and what may be believed.

Never imported by the supervisor: it lives in ``ketang enroll`` and in the renewing child, processes
that end when they are done.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID, NameOID

from ketang_agent.enrol.files import Place, remove
from ketang_contract import kit, signatures, trust, validate
from ketang_contract.enrolment import RENEWAL_TYPE, Issued
from ketang_contract.errors import BadInput, Refused
from ketang_contract.kit import Kit, SignedKit
from ketang_contract.trust import Purpose, Trust

_LEAST_LEFT_S = 600
"""A certificate that ends sooner is of no use."""
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Dates:
    """From when until when a certificate holds, UTC seconds, and whose it is."""

    name: str
    from_s: int
    until_s: int


def accept_trust(
    raws: Sequence[bytes], fingerprint: str, held: bytes | None, now_s: int
) -> tuple[Trust, bytes]:
    """Judge trust documents, oldest first, by the installer's fingerprint or by the one held.

    Returns:
        the one in force now, and its bytes.

    Raises:
        TrustRefused: they are not of this region's roots, or too old.
    """
    if held is None:
        # Those before the installer's own roots are of no use; the first that has them begins.
        while len(raws) > 1 and trust.read_accepted(raws[0]).fingerprint != fingerprint:
            raws = raws[1:]
        return trust.accept_chain(raws, fingerprint=fingerprint, now_s=now_s), raws[-1]
    before = trust.read_accepted(held)
    newer = [one for one in raws if trust.read_accepted(one).version > before.version]
    if not newer:
        return before, held
    return trust.accept_chain(newer, fingerprint="", now_s=now_s, held=before), newer[-1]


def servers_pem(document: Trust, now_s: int) -> str:
    """Return the authorities that vouch for the centre's servers.

    Raises:
        BadInput: none is in force.
    """
    found = document.certificates_pem(Purpose.SERVERS_CA, now_s)
    if not found:
        raise BadInput(
            "the trust document names no authority for servers that is in force; check the clock"
        )
    return found


def open_kit(signed: SignedKit, document: Trust, now_s: int) -> Kit:
    """Return what a kit says, if a key for kits signed it and it has not expired.

    Raises:
        BadInput: not signed by one of the region's keys for kits, or expired.
    """
    try:
        return kit.accept(signed, document, now_s)
    except Refused as why:
        if why.reason == "expired":
            raise BadInput("the kit has expired: have a new one made") from None
        raise BadInput(f"the kit is not of this region's making ({why}); do not use it") from None


def make_key() -> bytes:
    """Make a P-256 key (PKCS #8, PEM)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_request(key: bytes, binding: str) -> str:
    """Return a request (PKCS #10, PEM) bound to one conversation; its subject says nothing."""
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_attribute(AttributeOID.CHALLENGE_PASSWORD, binding.encode())
        .sign(_load(key), hashes.SHA256())
    )
    return made.public_bytes(_PEM).decode()


def sealed_renewal(payload: bytes, old_pair: bytes) -> bytes:
    """Seal a renewal with the key in use."""
    return signatures.seal(payload, RENEWAL_TYPE, [_load(old_pair)])


def key_name(pair: bytes) -> str:
    """Name a key: SHA-256 of its SubjectPublicKeyInfo, hex."""
    return signatures.key_id(_public(_load(pair).public_key()))


def key_of(pair: bytes) -> bytes:
    """Return the key of a pair alone (PKCS #8, PEM).

    Raises:
        BadInput: there is none in it.
    """
    return _load(pair).private_bytes(
        _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def drop_served_key(place: Place) -> None:
    """Take away a key that stands in a pair already: power went before its file did.

    Asked with again, it would only be given the certificate it has. A damaged one goes as well.
    """
    for file in (place.new_key, place.again_key):
        if not file.exists():
            continue
        name = _key_name(file)
        if not name or name in (_key_name(place.identity), _key_name(place.next)):
            remove(file)


def _key_name(file: Path) -> str:
    """Name the key in a file; empty where none can be read."""
    try:
        return key_name(file.read_bytes())
    except (FileNotFoundError, BadInput):
        return ""


def belongs(key: bytes, certificate: str) -> bool:
    """Tell whether a certificate is this key's.

    Raises:
        BadInput: the key cannot be read.
    """
    try:
        certified = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return False
    return certified.public_key() == _load(key).public_key()


def is_pair(pair: bytes) -> bool:
    """Tell whether a file holds a key and this key's certificate, whole and readable."""
    try:
        return belongs(pair, pair.decode("ascii")) and bool(dates(pair).name)
    except (BadInput, UnicodeDecodeError):
        return False


def check_issued(answer: bytes, key: bytes, document: Trust, now_s: int) -> Issued:
    """Return the centre's answer if its certificate is really this key's, and this region's.

    Raises:
        Refused: it is not an answer, or a certificate that would not let us in; ``ended``: one
            whose time is over, as a key that waited long is given again.
    """
    issued = validate.body(Issued, answer)
    try:
        certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
        same = certificate.public_key() == _load(key).public_key()
        authorities = x509.load_pem_x509_certificates(
            document.certificates_pem(Purpose.CLIENTS_CA, now_s).encode()
        )
    except ValueError as problem:
        raise Refused("bad_certificate", str(problem)[:120]) from None
    if not same:
        raise Refused("bad_certificate", "it is another key's")
    if _name(certificate) != issued.device:
        raise Refused("bad_certificate", "it names another device")
    if not any(_signed_by(certificate, one) for one in authorities):
        raise Refused("bad_certificate", "no authority of this region signed it")
    until = certificate.not_valid_after_utc
    if until.timestamp() <= now_s + _LEAST_LEFT_S:
        detail = f"the certificate ends {until:%Y-%m-%d %H:%M} UTC; check this device's clock"
        raise Refused("ended", detail)
    return issued


def dates(pair: bytes) -> Dates:
    """Read when a certificate holds, from a file that may hold its key as well.

    Raises:
        BadInput: there is no certificate in it.
    """
    try:
        (certificate, *_) = x509.load_pem_x509_certificates(pair)
    except ValueError:
        raise BadInput("the identity file holds no certificate") from None
    return Dates(
        _name(certificate),
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
    )


def fingerprint_in(text: str) -> str:
    """Read the installer's fingerprint: 64 hex digits, colons and blanks do not matter.

    Raises:
        BadInput: it is not one.
    """
    found = "".join(text.split()).replace(":", "").lower()
    if re.fullmatch("[0-9a-f]{64}", found):
        return found
    raise BadInput("root fingerprint: accepted: 64 hex digits, as the installer brings them")


def _load(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise BadInput("the key file holds no key that can be read") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput("the key file holds a key of another kind than P-256")
    return key


def _public(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
