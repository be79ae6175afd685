"""Signed envelopes: the payload comes out only when enough different keys have signed it."""

import base64
import contextlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from ketang_contract import signatures
from ketang_contract.errors import Refused

TYPE = "application/vnd.ketang.test+json"
A, B, C = (Ed25519PrivateKey.generate() for _ in range(3))
P = ec.generate_private_key(ec.SECP256R1())


def pem(key):
    spki = PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(Encoding.PEM, spki).decode()


def refused(raw, *keys, threshold=1, kind=TYPE):
    with pytest.raises(Refused) as problem:
        signatures.open_sealed(raw, kind, [pem(key) for key in keys], threshold)
    return problem.value.reason


def altered(raw, **fields):
    return json.dumps({**json.loads(raw), **fields}).encode()


@pytest.mark.parametrize("key", [A, P], ids=["Ed25519", "P-256"])
def test_what_was_sealed_comes_out_whole(key):
    raw = signatures.seal(b"payload", TYPE, [key])
    assert signatures.open_sealed(raw, TYPE, [pem(key)]) == b"payload"


def test_another_implementation_of_the_envelope_accepts_it():
    raw = signatures.seal(b"payload", TYPE, [A, P])
    keys = [SSlibKey.from_crypto(k.public_key(), keyid=signatures.key_id(pem(k))) for k in (A, P)]
    assert len(Envelope.from_dict(json.loads(raw)).verify(keys, 2)) == 2


def test_another_key_another_payload_and_another_type_are_refused():
    raw = signatures.seal(b"payload", TYPE, [A])
    assert refused(raw, B) == "bad_signature"
    changed = altered(raw, payload=base64.b64encode(b"pay1oad").decode())
    assert refused(changed, A) == "bad_signature"
    assert refused(raw, A, kind="application/other") == "bad_envelope"
    assert refused(altered(raw, payloadType="application/x"), A, kind="application/x") == (
        "bad_signature"
    )


def test_the_threshold_counts_different_keys():
    raw = signatures.seal(b"payload", TYPE, [A, B])
    assert signatures.open_sealed(raw, TYPE, [pem(A), pem(B), pem(C)], 2) == b"payload"
    assert refused(raw, A, B, C, threshold=3) == "bad_signature"
    assert refused(raw, A, C, threshold=2) == "bad_signature"


def test_one_signature_twice_counts_once():
    raw = signatures.seal(b"payload", TYPE, [A])
    twice = altered(raw, signatures=json.loads(raw)["signatures"] * 2)
    assert refused(twice, A, B, threshold=2) == "bad_signature"
    assert signatures.open_sealed(twice, TYPE, [pem(A)]) == b"payload"


def test_one_key_given_twice_counts_once():
    raw = signatures.seal(b"payload", TYPE, [A])
    assert refused(raw, A, A, threshold=2) == "bad_signature"


def test_one_signature_under_the_names_of_two_keys_counts_once():
    raw = signatures.seal(b"payload", TYPE, [A])
    one = json.loads(raw)["signatures"][0]
    both = [one, {**one, "keyid": signatures.key_id(pem(B))}]
    assert refused(altered(raw, signatures=both), A, B, threshold=2) == "bad_signature"


def test_one_p256_key_written_in_two_ways_counts_once():
    point = P.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    curve = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    der = b"\x30" + bytes([len(curve) + 3 + len(point)]) + curve
    der += b"\x03" + bytes([len(point) + 1]) + b"\0" + point
    body = base64.encodebytes(der).decode()
    short = f"-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----\n"
    assert signatures.key_id(short) == signatures.key_id(pem(P))
    raw = signatures.seal(b"payload", TYPE, [P])
    with pytest.raises(Refused, match="bad_signature"):
        signatures.open_sealed(raw, TYPE, [pem(P), short], 2)


def test_a_signature_can_be_added_elsewhere_and_replaces_none():
    draft = signatures.seal(b"payload", TYPE, [])
    assert refused(draft, A) == "bad_signature"
    raw = signatures.add_signatures(signatures.add_signatures(draft, TYPE, [A]), TYPE, [B])
    assert signatures.signed_by(raw, TYPE, [pem(A), pem(B), pem(C)]) == {
        signatures.key_id(pem(A)),
        signatures.key_id(pem(B)),
    }


def test_keys_of_other_kinds_are_refused():
    raw = signatures.seal(b"payload", TYPE, [A])
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        assert refused(raw, key) == "bad_key"
    with pytest.raises(Refused, match="bad_key"):
        signatures.open_sealed(raw, TYPE, ["no key at all \ud800"])


def test_a_threshold_of_none_is_the_callers_mistake():
    with pytest.raises(ValueError, match="threshold"):
        signatures.open_sealed(signatures.seal(b"", TYPE, []), TYPE, [pem(A)], 0)


def test_what_is_too_large_is_neither_written_nor_read():
    with pytest.raises(Refused, match="bad_envelope"):
        signatures.seal(bytes(60_000), TYPE, [A])
    assert refused(b" " * signatures.MAX_SEALED_BYTES + b"{}", A) == "bad_envelope"
    raw = signatures.seal(b"payload", TYPE, [A])
    spaces = b" " * (signatures.MAX_SEALED_BYTES - len(raw))
    assert signatures.open_sealed(raw + spaces, TYPE, [pem(A)]) == b"payload"
    assert refused(raw + spaces + b" ", A) == "bad_envelope"
    many = altered(raw, signatures=json.loads(raw)["signatures"] * 33)
    assert refused(many, A) == "bad_envelope"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
GOOD = json.loads(signatures.seal(b"payload", TYPE, [A]))


def judge(raw):
    with contextlib.suppress(Refused):
        assert signatures.open_sealed(raw, TYPE, [pem(A)]) == b"payload"


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused_and_nothing_else(raw):
    judge(raw)


@given(st.dictionaries(st.sampled_from([*GOOD, "more"]), JSON))
def test_any_envelope_is_refused_and_nothing_else(fields):
    judge(json.dumps({**GOOD, **fields}).encode())


@given(st.lists(st.fixed_dictionaries({"keyid": JSON, "sig": JSON}), max_size=3), st.binary())
def test_any_signatures_beside_the_good_one_change_nothing(others, sig):
    one = {"keyid": GOOD["signatures"][0]["keyid"], "sig": base64.b64encode(sig).decode()}
    judge(json.dumps({**GOOD, "signatures": [one, *others, *GOOD["signatures"]]}).encode())


def test_deep_nesting_and_huge_numbers_are_refused():
    for raw in (b"[" * 50_000, b'{"payload":' + b"9" * 5000 + b"}", b'"\\ud800"', b"\xff"):
        assert refused(raw, A) == "bad_envelope"
