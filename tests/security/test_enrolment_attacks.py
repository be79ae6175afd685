"""Nobody else gets in: every way to an identity that is not one's own, tried at the real service.

Each attack is refused, named in the security log, and leaves no certificate behind. The service is
the real one over HTTPS; a device's side is the product's own where an honest one is needed.
"""

import base64
import json
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPSConnection
from itertools import count

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AttributeOID, NameOID

from ketang_agent.enrol import enrolling, files, verifier
from ketang_center import settings
from ketang_center.enrolment.office import Office, Why
from ketang_center.enrolment.pacing import Pace
from ketang_center.enrolment.service import EnrolmentService
from ketang_center.registry.database import Registry
from ketang_contract import kit as kits_of
from ketang_contract.enrolment import ENROL, NONCE, RENEW, binding
from ketang_contract.errors import BadInput
from ketang_contract.signatures import seal
from ketang_provisioning import codes
from tests.regions import Region

CODE_OF_NOBODY = "0000-0000-0000"


class Desk:
    """The real service, and a stranger's own way of talking to it."""

    def __init__(self, region, service):
        self.region, self.service = region, service

    def send(self, path, body, verb="POST", headers=None):
        servers = self.region.center_folder / "servers-ca.pem"
        link = HTTPSConnection(
            self.region.host,
            self.region.enrol_port,
            timeout=10,
            context=ssl.create_default_context(cafile=str(servers)),
        )
        try:
            link.request(verb, path, body, headers or {"Content-Type": "application/json"})
            answer = link.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            link.close()

    def nonce(self):
        return self.send(NONCE, None, "GET")[1]["nonce"]

    def ask(self, key=None, *, code, serial="SN-S1-0001", **changes):
        """Ask as a device would; every part can be put wrong."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        nonce = changes.pop("nonce", None) or self.nonce()
        csr = changes.pop("csr", None) or request(key, binding(nonce, code, serial))
        headers = changes.pop("headers", None)
        said = {"csr": csr, "nonce": nonce, "code": code, "serial": serial} | changes
        return self.send(ENROL, json.dumps(said), headers=headers)

    @property
    def certificates(self):
        return [
            one
            for asset in self.service.book.assets()
            for one in self.service.book.certificates_of(asset.device)
        ]

    def counted(self, what):
        return self.service.security.count(what)


def request(key, bound, *, subject="", digest=None):
    name = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(name))
        .add_attribute(AttributeOID.CHALLENGE_PASSWORD, bound.encode())
        .sign(key, digest or hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


@contextmanager
def running(region, **enrolment):
    said = settings.read(region.settings(**({"per_s": 500} | enrolment)))
    service = EnrolmentService(said.enrolment, said.data_dir, "center-test")
    service.revocation_list.keep(time.time_ns() // 10**6)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not service.port and time.monotonic() < deadline:
            time.sleep(0.02)
        yield Desk(region, service)
    finally:
        service.stop()
        thread.join()
        service.close()


@pytest.fixture
def desk(tmp_path):
    region = Region(tmp_path)
    region.register(3)
    region.register(3, school="s2")
    with running(region) as made:
        yield made


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


# One function an attack, which returns the status and the answer it got.


def unknown_code(desk):
    return desk.ask(code=CODE_OF_NOBODY)


def code_of_another_school(desk):
    return desk.ask(code=desk.region.code("s2"))


def expired_code(desk):
    return desk.ask(code=desk.region.code(days=-1))


def used_up_code(desk):
    code = desk.region.code(uses=1)
    assert desk.ask(code=code, serial="SN-S1-0002")[0] == 200
    return desk.ask(code=code, serial="SN-S1-0003")


def withdrawn_code(desk):
    code = desk.region.code()
    name = codes.code_id(codes.fingerprint(code, desk.region.code_key))
    assert desk.service.book.withdraw_code(name)
    return desk.ask(code=code)


def serial_already_claimed(desk):
    code = desk.region.code()
    assert desk.ask(code=code)[0] == 200
    return desk.ask(code=code)


def serial_nobody_registered(desk):
    return desk.ask(code=desk.region.code(), serial="SN-UNHEARD-OF")


def serial_of_no_single_device(desk):
    return desk.ask(code=desk.region.code(), serial="To be filled by O.E.M.")


def replayed_request_under_another_code(desk):
    """A request seen once, sent again with the thief's own code and a fresh nonce."""
    key, code, nonce = new_key(), desk.region.code(), desk.nonce()
    csr = request(key, binding(nonce, code, "SN-S1-0001"))
    return desk.ask(csr=csr, code=desk.region.code(), serial="SN-S1-0002")


def replayed_request_with_its_old_nonce(desk):
    key, code, nonce = new_key(), desk.region.code(), desk.nonce()
    csr = request(key, binding(nonce, code, "SN-S1-0001"))
    return desk.ask(csr=csr, code=code, serial="SN-S1-0002", nonce=nonce)


def nonce_of_ones_own_making(desk):
    forged = base64.urlsafe_b64encode(b"\0" * 48).decode().rstrip("=")
    return desk.ask(code=desk.region.code(), nonce=forged)


def key_somebody_else_holds(desk):
    """A request for a public key whose private half one does not have."""
    victim, code, nonce = new_key(), desk.region.code(), desk.nonce()
    csr = x509.load_pem_x509_csr(request(victim, binding(nonce, code, "SN-S1-0001")).encode())
    raw = bytearray(csr.public_bytes(serialization.Encoding.DER))
    raw[-4] ^= 0xFF
    body = base64.encodebytes(bytes(raw)).decode()
    forged = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    return desk.ask(csr=forged, code=code, nonce=nonce)


def weak_key(desk):
    key, code, nonce = rsa.generate_private_key(65537, 2048), desk.region.code(), desk.nonce()
    return desk.ask(csr=request(key, binding(nonce, code, "SN-S1-0001")), code=code, nonce=nonce)


def other_curve(desk):
    return desk.ask(ec.generate_private_key(ec.SECP384R1()), code=desk.region.code())


def key_of_a_device_of_another_school(desk):
    key = new_key()
    assert desk.ask(key, code=desk.region.code("s2"), serial="SN-S2-0001")[0] == 200
    return desk.ask(key, code=desk.region.code("s1"))


def device_that_was_thrown_out(desk):
    key, code = new_key(), desk.region.code()
    assert desk.ask(key, code=code)[0] == 200
    desk.service.book.revoke("s1-pc-1", at_ms=1, why="lost", by="test")
    return desk.ask(key, code=code)


def unknown_field(desk):
    return desk.ask(code=desk.region.code(), device="center_ingest")


def sql_in_every_field(desk):
    evil = "' OR 1=1; DROP TABLE asset; --"
    return desk.ask(code=evil, serial=evil, asset=evil)


ATTACKS = [
    (unknown_code, 403, "unknown_code"),
    (code_of_another_school, 403, "other_school"),
    (expired_code, 403, "code_expired"),
    (used_up_code, 403, "code_used_up"),
    (withdrawn_code, 403, "code_withdrawn"),
    (serial_already_claimed, 202, "already_claimed"),
    (serial_nobody_registered, 202, "not_registered"),
    (serial_of_no_single_device, 202, "doubtful_serial"),
    (replayed_request_under_another_code, 400, "bad_nonce"),
    (replayed_request_with_its_old_nonce, 400, "bad_nonce"),
    (nonce_of_ones_own_making, 400, "bad_nonce"),
    (key_somebody_else_holds, 400, "bad_request"),
    (weak_key, 400, "bad_request"),
    (other_curve, 400, "bad_request"),
    (key_of_a_device_of_another_school, 409, "key_in_use"),
    (device_that_was_thrown_out, 403, "revoked"),
    (unknown_field, 400, "bad_request"),
    (sql_in_every_field, 403, "unknown_code"),
]


@pytest.mark.parametrize(
    ("attack", "status", "reason"), ATTACKS, ids=[one.__name__ for one, *_ in ATTACKS]
)
def test_an_attack_is_refused_named_and_counted(desk, attack, status, reason):
    before = desk.counted(f"enrol_{reason}")
    got, answer = attack(desk)
    assert (got, answer["reason"]) == (status, reason)
    assert "certificate" not in answer
    assert desk.counted(f"enrol_{reason}") == before + 1
    held = [one.key_id for one in desk.certificates]
    assert len(held) == len(set(held)), "one certificate a key"
    assert {one.device for one in desk.certificates} <= {
        asset.device for asset in desk.service.book.assets() if asset.claimed_ms
    }


def test_what_a_request_asks_to_be_called_counts_for_nothing(desk):
    key, code, nonce = new_key(), desk.region.code(), desk.nonce()
    csr = request(key, binding(nonce, code, "SN-S1-0001"), subject="center_ingest")
    status, answer = desk.ask(csr=csr, code=code, nonce=nonce)
    assert status == 200
    made = x509.load_pem_x509_certificate(answer["certificate"].encode())
    assert made.subject.rfc4514_string() == "CN=s1-pc-1"
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in usage] == ["1.3.6.1.5.5.7.3.2"], "client only"
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_guessing_codes_locks_the_guesser_and_nobody_else(desk):
    for no in range(11):
        desk.ask(code=f"0000-0000-{no:04}")
    status, answer = desk.ask(code=desk.region.code())
    assert (status, answer["reason"]) == (429, "locked")
    assert answer["retry_after_s"] > 600
    assert desk.counted("enrol_locked") >= 1
    # Another source, by the function that the service calls.
    said = enrol_from(desk, "198.51.100.7")
    assert said.device == "s1-pc-1"


def enrol_from(desk, source):
    key, code = new_key(), desk.region.code()
    nonce = desk.service.desk.nonce()
    body = {
        "csr": request(key, binding(nonce, code, "SN-S1-0001")),
        "nonce": nonce,
        "code": code,
        "serial": "SN-S1-0001",
    }
    return desk.service.desk.enrol(json.dumps(body).encode(), source)


def test_a_header_names_no_other_source(desk):
    for no in range(11):
        desk.ask(code=f"0000-0000-{no:04}", headers={"X-Forwarded-For": f"203.0.113.{no}"})
    assert desk.ask(code=desk.region.code())[1]["reason"] == "locked"


def test_noise_neither_locks_a_shared_address_nor_uses_up_the_rate(tmp_path):
    region = Region(tmp_path)
    region.register(1)
    with running(region, per_s=1) as desk:
        for _ in range(40):
            assert desk.send(ENROL, b"{}")[0] == 400
        assert desk.ask(code=region.code())[0] == 200


def test_the_same_request_twice_gets_the_same_certificate(desk):
    key, code = new_key(), desk.region.code()
    first, second = desk.ask(key, code=code)[1], desk.ask(key, code=code)[1]
    assert first["certificate"] == second["certificate"]
    (used,) = [one.used for one in desk.service.book.codes("s1")]
    assert used == 1


@pytest.mark.parametrize("size", [(16 << 10) + 1, 8 << 20])
def test_a_body_that_is_too_large_is_cut_off(desk, size):
    assert desk.send(ENROL, b"x" * size)[0] == 413


@pytest.mark.parametrize("path", ["/enrol/v1/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/x"])
def test_a_path_leads_nowhere(desk, path):
    assert desk.send(path, None, "GET")[0] == 404


def test_more_than_the_configured_rate_is_told_to_come_back(tmp_path):
    region = Region(tmp_path)
    region.register(1)
    with running(region, per_s=1) as desk:
        looks = count()  # all within one second, however long it takes
        desk.service.desk._pace = Pace(1, lambda: next(looks) / 100)
        answers = [desk.ask(code=region.code()) for _ in range(4)]
        assert desk.counted("enrol_too_many") >= 1
    turned = [answer for status, answer in answers if status == 429]
    assert turned[-1] == {"reason": "too_many", "retry_after_s": 1}


# Renewals.


def renewal(desk, old_key, new, *, nonce=None, name=None):
    nonce = nonce or desk.nonce()
    name = name or verifier.key_name(pem(old_key))
    payload = {"csr": request(new, binding(nonce, name)), "nonce": nonce}
    return seal(json.dumps(payload).encode(), "application/vnd.ketang.renewal+json", [old_key])


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def enrolled(desk):
    key = new_key()
    assert desk.ask(key, code=desk.region.code())[0] == 200
    return key


def test_a_renewal_signed_by_a_stranger_is_refused(desk):
    enrolled(desk)
    status, answer = desk.send(RENEW, renewal(desk, new_key(), new_key()))
    assert (status, answer["reason"]) == (403, "unknown_certificate")
    assert desk.counted("enrol_unknown_certificate") == 1


def test_a_renewal_whose_signature_was_changed_is_refused(desk):
    old = enrolled(desk)
    whole = json.loads(renewal(desk, old, new_key()))
    signature = bytearray(base64.b64decode(whole["signatures"][0]["sig"]))
    signature[-1] ^= 1
    whole["signatures"][0]["sig"] = base64.b64encode(bytes(signature)).decode()
    assert desk.send(RENEW, json.dumps(whole))[0] == 400


def test_a_device_that_was_thrown_out_does_not_renew(desk):
    old = enrolled(desk)
    desk.service.book.revoke("s1-pc-1", at_ms=1, why="stolen", by="test")
    status, answer = desk.send(RENEW, renewal(desk, old, new_key()))
    assert (status, answer["reason"]) == (403, "revoked")


def test_a_renewal_asks_for_a_fresh_key(desk):
    old = enrolled(desk)
    status, answer = desk.send(RENEW, renewal(desk, old, old))
    assert (status, answer["reason"]) == (409, "key_in_use")


def test_a_renewal_cannot_take_over_another_devices_key(desk):
    first = enrolled(desk)
    second = new_key()
    assert desk.ask(second, code=desk.region.code(), serial="SN-S1-0002")[0] == 200
    status, answer = desk.send(RENEW, renewal(desk, first, second))
    assert (status, answer["reason"]) == (409, "key_in_use")


# What a device refuses.


def asking(region, kit):
    return enrolling.Asking(
        kit=kit, fingerprint=region.fingerprint, serial="SN-S1-0001", patience_s=1
    )


def test_a_kit_of_a_foreign_region_is_refused_before_anything_is_sent(desk, tmp_path):
    foreign = Region(tmp_path / "elsewhere")
    stick = kits_of.open_kit(foreign.kit(tmp_path / "stick", foreign.code()))
    place = files.Place(desk.region.device_folder(tmp_path / "device"))
    with pytest.raises(enrolling.NotGranted, match="not this region's"):
        enrolling.enrol(place, asking(desk.region, stick))
    assert not place.new_key.exists()
    assert desk.certificates == []


def test_a_true_trust_document_does_not_make_a_foreign_kit_true(desk, tmp_path):
    foreign = Region(tmp_path / "elsewhere")
    stick = kits_of.open_kit(foreign.kit(tmp_path / "stick", foreign.code()))
    mixed = replace(stick, trust=(desk.region.center_folder / "trust.json").read_bytes())
    place = files.Place(desk.region.device_folder(tmp_path / "device"))
    with pytest.raises(BadInput, match="not of this region's making"):
        enrolling.enrol(place, asking(desk.region, mixed))


def test_a_false_centre_gets_no_code(desk, tmp_path):
    """A line may name any centre; one without this region's certificate is not told the code."""
    false = Region(tmp_path / "elsewhere")
    false.register(1)
    place = files.Place(desk.region.device_folder(tmp_path / "device"))
    place.trust.write_bytes((desk.region.center_folder / "trust.json").read_bytes())
    line = kits_of.Line(false.url, desk.region.code())
    with running(false) as trap:
        with pytest.raises(enrolling.Unreachable, match="not from this region"):
            enrolling.enrol(place, asking(desk.region, line))
        assert trap.service.security.tallies(0) == []


# What a person decides.


def test_a_person_lets_a_wiped_device_in_under_a_new_name(desk):
    code = desk.region.code()
    assert desk.ask(code=code)[0] == 200
    key = new_key()
    assert desk.ask(key, code=code)[1]["reason"] == "already_claimed"
    (waits,) = desk.service.book.waiting()
    with Registry(desk.region.data_dir / "registry.db") as registry:
        office = Office(
            desk.service.book, registry, desk.service.audit, lambda: time.time_ns() // 10**6
        )
        office.approve(waits.no, "operator")
        status, answer = desk.ask(key, code=code)
        assert status == 200
        assert answer["device"] != "s1-pc-1"
        assert desk.service.book.is_barred("s1-pc-1"), "the old one is out for ever"
        assert office.throw_out(answer["device"], Why.LOST, "operator")
    assert desk.ask(key, code=code)[1]["reason"] == "revoked"


def test_who_was_refused_by_a_person_stays_out(desk):
    key, code = new_key(), desk.region.code()
    assert desk.ask(key, code=code, serial="SN-UNHEARD-OF")[0] == 202
    (waits,) = desk.service.book.waiting()
    with Registry(desk.region.data_dir / "registry.db") as registry:
        office = Office(desk.service.book, registry, desk.service.audit, lambda: 1)
        office.refuse(waits.no, "operator")
    status, answer = desk.ask(key, code=code, serial="SN-UNHEARD-OF")
    assert (status, answer["reason"]) == (403, "refused_by_person")


def test_with_approval_always_nothing_is_issued_without_a_person(tmp_path):
    region = Region(tmp_path)
    region.register(1)
    with running(region, approval="always") as desk:
        assert desk.ask(code=region.code())[1]["reason"] == "asked"
        assert desk.certificates == []


def test_every_decision_is_in_the_audit_log(desk):
    used_up_code(desk)
    actions = [one.action for one in desk.service.audit.entries()]
    assert actions.count("enrol") == 1
    assert actions.count("enrol_refused") == 1
    assert desk.service.audit.verify().broken is None
