"""The trust document: who may change what a device believes, and when."""

import contextlib
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ketang_contract import signatures, trust
from ketang_contract.errors import Refused
from ketang_contract.trust import (
    CertificateAuthority,
    Purpose,
    RevokedKey,
    RootKey,
    Trust,
    TrustedKey,
    TrustRefused,
)

NOW, YEAR = 1_800_000_000, 365 * 86_400
OLD = [Ed25519PrivateKey.generate() for _ in range(3)]
NEW = [Ed25519PrivateKey.generate() for _ in range(3)]
CONFIG = Ed25519PrivateKey.generate()
CA_PEM = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
CA_2_PEM = "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"


def pem(key):
    spki = PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(Encoding.PEM, spki).decode()


def name(key):
    return signatures.key_id(pem(key))


def roots(keys):
    return tuple(RootKey(name(key), pem(key), f"holder {at}") for at, key in enumerate(keys))


def config_key(key=CONFIG, **fields):
    made = TrustedKey(name(key), pem(key), Purpose.CONFIG, "", "Li", NOW - 10, NOW + YEAR)
    return replace(made, **fields)


def document(by=tuple(OLD), version=1, **fields):
    made = Trust(
        version=version,
        issued_s=NOW - 10,
        expires_s=NOW + YEAR,
        threshold=2,
        roots=roots(by),
        keys=(config_key(),),
        authorities=(CertificateAuthority(Purpose.CLIENTS_CA, CA_PEM, NOW - 10, NOW + YEAR),),
    )
    return replace(made, **fields)


def sealed(one, *keys):
    return signatures.seal(one.payload(), trust.PAYLOAD_TYPE, keys)


FIRST = document()
PRINT = FIRST.fingerprint


def accept(raw, held=None, now_s=NOW, fingerprint=PRINT):
    return trust.accept(raw, fingerprint=fingerprint, now_s=now_s, held=held)


def refusal(*arguments, **options):
    with pytest.raises(TrustRefused) as problem:
        accept(*arguments, **options)
    assert isinstance(problem.value, Refused)
    return problem.value.reason


def test_two_of_three_roots_make_a_document_good():
    for pair in (OLD[:2], OLD[1:], [OLD[2], OLD[0]]):
        assert accept(sealed(FIRST, *pair)) == FIRST


def test_one_of_three_is_not_enough_nor_one_twice():
    assert refusal(sealed(FIRST, OLD[0])) == "not_enough_signatures"
    raw = json.loads(sealed(FIRST, OLD[0]))
    raw["signatures"] *= 2
    assert refusal(json.dumps(raw).encode()) == "not_enough_signatures"
    assert refusal(sealed(FIRST, OLD[0], NEW[0], CONFIG)) == "not_enough_signatures"


def test_roots_that_did_not_come_with_the_installer_are_refused():
    assert refusal(sealed(document(NEW), *NEW)) == "wrong_root"


def test_a_lower_threshold_is_another_set_of_roots():
    assert refusal(sealed(document(threshold=1), *OLD)) == "wrong_root"


def test_an_extra_root_smuggled_in_is_another_set_of_roots():
    assert refusal(sealed(document([*OLD, NEW[0]]), OLD[0], NEW[0])) == "wrong_root"


def test_the_fingerprint_does_not_depend_on_the_order_of_the_roots():
    assert document(OLD[::-1]).fingerprint == PRINT
    assert trust.fingerprint(2, [name(key) for key in OLD]) == PRINT


def test_a_newer_document_needs_old_and_new_roots():
    second = document(NEW, 2)
    assert refusal(sealed(second, *NEW), FIRST) == "not_enough_signatures"
    assert refusal(sealed(second, *OLD), FIRST) == "not_enough_signatures"
    assert refusal(sealed(second, *OLD[:2], NEW[0]), FIRST) == "not_enough_signatures"
    assert refusal(sealed(second, OLD[0], *NEW), FIRST) == "not_enough_signatures"
    assert accept(sealed(second, *OLD[:2], *NEW[:2]), FIRST) == second


def test_an_older_document_is_refused_and_so_is_another_of_the_same_version():
    second = document(version=2)
    assert refusal(sealed(FIRST, *OLD), second) == "rolled_back"
    assert refusal(sealed(replace(second, keys=()), *OLD), second) == "rolled_back"


def test_the_document_held_is_accepted_again_even_after_its_end():
    assert accept(sealed(FIRST, *OLD), FIRST, now_s=NOW + 2 * YEAR) is FIRST


def test_an_expired_document_is_not_accepted_anew():
    assert refusal(sealed(FIRST, *OLD), now_s=NOW + YEAR) == "expired"
    assert accept(sealed(FIRST, *OLD), now_s=NOW + YEAR - 1) == FIRST


def test_a_held_document_works_on_after_its_end_while_its_keys_last():
    short = document(expires_s=NOW)
    assert short.keys_for(Purpose.CONFIG, NOW + 100)
    assert short.certificates_pem(Purpose.CLIENTS_CA, NOW + 100) == CA_PEM


def test_who_missed_a_change_of_roots_is_led_through_it():
    second, third = document(NEW, 2, expires_s=NOW - 1), document(NEW, 3)
    chain = [sealed(FIRST, *OLD), sealed(second, *OLD, *NEW), sealed(third, *NEW)]
    assert refusal(chain[2], FIRST) == "not_enough_signatures"
    told = {"fingerprint": PRINT, "now_s": NOW}
    assert trust.accept_chain(chain[1:], held=FIRST, **told) == third
    assert trust.accept_chain(chain, **told) == third
    with pytest.raises(TrustRefused, match="expired"):
        trust.accept_chain(chain[:2], **told)
    with pytest.raises(TrustRefused, match="bad_document"):
        trust.accept_chain([], **told)


def test_two_authorities_are_in_force_during_an_overlap():
    both = document(
        authorities=(
            CertificateAuthority(Purpose.CLIENTS_CA, CA_PEM, NOW - 10, NOW + 90),
            CertificateAuthority(Purpose.CLIENTS_CA, CA_2_PEM, NOW, NOW + YEAR),
            CertificateAuthority(Purpose.SERVERS_CA, CA_2_PEM, NOW, NOW + YEAR),
        )
    )
    assert both.certificates_pem(Purpose.CLIENTS_CA, NOW) == CA_PEM + CA_2_PEM
    assert both.certificates_pem(Purpose.CLIENTS_CA, NOW + 90) == CA_2_PEM
    assert both.certificates_pem(Purpose.SERVERS_CA, NOW) == CA_2_PEM


def test_a_revoked_key_is_out_whatever_the_clock_says():
    gone = document(revoked=(RevokedKey(name(CONFIG), NOW + 500, "laptop lost"),))
    assert FIRST.keys_for(Purpose.CONFIG, NOW) == (config_key(),)
    assert gone.keys_for(Purpose.CONFIG, NOW) == ()


def test_a_key_serves_its_purpose_scope_and_time_only():
    city = config_key(NEW[0], scope="city-1", from_s=NOW + 5, until_s=NOW + 9)
    one = document(keys=(config_key(), city))
    assert one.keys_for(Purpose.FILING, NOW) == ()
    assert one.keys_for(Purpose.CONFIG, NOW) == (config_key(),)
    assert one.keys_for(Purpose.CONFIG, NOW + 5) == (config_key(), city)
    assert one.keys_for(Purpose.CONFIG, NOW + 5, "city-1") == (city,)
    assert one.keys_for(Purpose.CONFIG, NOW + 5, "") == (config_key(),)
    assert one.keys_for(Purpose.CONFIG, NOW + 9, "city-1") == ()


def test_a_clock_before_the_time_of_issue_counts_as_slow():
    assert FIRST.keys_for(Purpose.CONFIG, 0) == (config_key(),)
    assert FIRST.certificates_pem(Purpose.CLIENTS_CA, 0) == CA_PEM


def test_what_was_accepted_is_read_without_the_signature_library():
    raw = sealed(FIRST, *OLD)
    asked = (
        "import sys; from ketang_contract import trust;"
        "one = trust.read_accepted(sys.stdin.buffer.read()); print(one.fingerprint);"
        "assert not {'cryptography', 'securesystemslib', 'pydantic'} & set(sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", asked], input=raw, capture_output=True, check=True, timeout=30
    )
    assert said.stdout.decode().strip() == PRINT


def broken(**fields):
    payload = json.dumps({**json.loads(FIRST.payload()), **fields}).encode()
    return signatures.seal(payload, trust.PAYLOAD_TYPE, OLD)


P256 = ec.generate_private_key(ec.SECP256R1())
A_KEY = json.loads(FIRST.payload())["keys"][0]


@pytest.mark.parametrize(
    "fields",
    [
        {"more": 1},
        {"version": 0},
        {"version": True},
        {"version": 1.0},
        {"expires_s": -1},
        {"threshold": 0},
        {"threshold": 4},
        {"roots": []},
        {"roots": [json.loads(FIRST.payload())["roots"][0]] * 3},
        {"roots": [{"key_id": name(P256), "public": pem(P256), "holder": "x"}], "threshold": 1},
        {"keys": [A_KEY, A_KEY]},
        {"keys": [{**A_KEY, "key_id": "0" * 64}]},
        {"keys": [{**A_KEY, "public": A_KEY["public"] + "\n"}]},
        {"keys": [{**A_KEY, "public": A_KEY["public"].replace("\n-----E", "\n\n-----E")}]},
        {"keys": [{**A_KEY, "purpose": "clients_ca"}]},
        {"keys": [{**A_KEY, "purpose": "anything"}]},
        {"keys": [{**A_KEY, "holder": "two\nlines"}]},
        {"keys": [{**A_KEY, "scope": None}]},
        {"keys": [A_KEY] * (trust.MAX_KEYS + 1)},
        {"authorities": [{"purpose": "config", "certificate": CA_PEM, "from_s": 0, "until_s": 1}]},
        {"authorities": [{"purpose": "clients_ca", "certificate": "", "from_s": 0, "until_s": 1}]},
        {"revoked": [{"key_id": "x", "since_s": 0}]},
        {"revoked": {}},
    ],
)
def test_a_document_that_is_not_exactly_one_is_refused(fields):
    assert refusal(broken(**fields)) == "bad_document"


def test_a_field_named_twice_is_refused():
    payload = FIRST.payload().replace(b'"version":1', b'"version":1,"version":1')
    assert refusal(signatures.seal(payload, trust.PAYLOAD_TYPE, OLD)) == "bad_document"


def test_the_envelope_of_another_kind_of_document_is_refused():
    assert refusal(signatures.seal(FIRST.payload(), "application/x", OLD)) == "bad_document"
    assert refusal(b"x" * (trust.MAX_DOCUMENT_BYTES + 1)) == "bad_document"


def test_the_largest_document_that_is_promised_fits():
    many = document(
        keys=tuple(config_key(Ed25519PrivateKey.generate(), scope="s" * 36) for _ in range(64)),
        revoked=tuple(RevokedKey(f"{at:064}", NOW, "lost") for at in range(40)),
    )
    assert accept(sealed(many, *OLD)) == many


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = list(json.loads(FIRST.payload()))


@given(st.dictionaries(st.sampled_from([*FIELDS, "more"]), JSON))
def test_any_document_is_refused_and_nothing_else(fields):
    with contextlib.suppress(TrustRefused):
        accept(broken(**fields))


@given(st.sampled_from(["roots", "keys", "authorities", "revoked"]), st.data())
def test_any_entry_is_refused_and_nothing_else(listed, data):
    entry = {**json.loads(document(revoked=(RevokedKey("x", 0, ""),)).payload())[listed][0]}
    entry[data.draw(st.sampled_from(list(entry)))] = data.draw(JSON)
    with contextlib.suppress(TrustRefused):
        accept(broken(**{listed: [entry]}))


@given(st.binary())
def test_any_bytes_are_a_refusal_too(raw):
    with pytest.raises(TrustRefused):
        accept(raw)
