"""Kits: what a device reads from a stick or a QR code, and what it must not believe."""

import io
import json
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_contract import kit as contract
from ketang_contract.errors import BadInput, Refused
from ketang_contract.kit import Line, SignedKit, accept, open_kit
from ketang_contract.signatures import seal
from ketang_contract.trust import (
    PAYLOAD_TYPE,
    Purpose,
    RevokedKey,
    RootKey,
    Trust,
    TrustedKey,
)
from ketang_provisioning import keys, kits

NOW = 1_800_000_000
DAY = 86_400
ROOTS = [keys.make_ed25519() for _ in range(3)]
KEY, STRANGER = keys.make_ed25519(), keys.make_ed25519()
URL, CODE, SCHOOL = "https://[2001:db8::5]:8443", "7K3M9QRTWX2A", "qinghe-1"


def trusted_key(key=KEY, purpose=Purpose.KIT, scope=""):
    public = key.public_key()
    return TrustedKey(
        keys.key_id(public), keys.public_pem(public), purpose, scope, "Li", NOW - 9, NOW + 99 * DAY
    )


def trust(**fields):
    roots = tuple(
        RootKey(keys.key_id(one.public_key()), keys.public_pem(one.public_key()), "holder")
        for one in ROOTS
    )
    made = Trust(
        version=1,
        issued_s=NOW - 9,
        expires_s=NOW + 99 * DAY,
        threshold=2,
        roots=roots,
        keys=(trusted_key(),),
    )
    return replace(made, **fields)


def sealed(document):
    return seal(document.payload(), PAYLOAD_TYPE, ROOTS[:2])


TRUST = trust()
SEALED = sealed(TRUST)


def kit(**fields):
    said = {"url": URL, "code": CODE, "school": SCHOOL, "made_s": NOW, "expires_s": NOW + 7 * DAY}
    return kits.new_kit(**{**said, **fields})


@pytest.mark.parametrize("name", ["stick/ketang-kit", "kit.zip", "Kit.ZIP"])
def test_what_is_written_is_read_and_accepted_as_it_was(tmp_path, name):
    (tmp_path / "stick").mkdir()
    kits.write_kit(tmp_path / name, kit(), KEY, SEALED)
    raw = open_kit(tmp_path / name)
    assert isinstance(raw, SignedKit)
    assert raw.trust == SEALED
    assert accept(raw, TRUST, NOW) == kit()
    assert open_kit(str(tmp_path / name)) == raw


def test_a_kit_is_written_over_an_older_one_and_over_nothing_else(tmp_path):
    kits.write_kit(tmp_path / "kit", kit(), KEY, SEALED)
    kits.write_kit(tmp_path / "kit", kit(code="0" * 12), KEY, SEALED)
    assert accept(open_kit(tmp_path / "kit"), TRUST, NOW).code == "0" * 12
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"letter\.txt"):
        kits.write_kit(tmp_path / "home", kit(), KEY, SEALED)
    assert [one.name for one in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_files_of_a_kit_are_for_their_owner_only(tmp_path):
    kits.write_kit(tmp_path / "kit", kit(), KEY, SEALED)
    kits.write_kit(tmp_path / "kit.zip", kit(), KEY, SEALED)
    files = [tmp_path / "kit.zip", *(tmp_path / "kit").iterdir()]
    assert len(files) == 4
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}


def test_the_fingerprint_is_nowhere_in_a_kit():
    files = kits.kit_files(kit(), KEY, SEALED)
    written = b"".join(files.values()) + kits.qr_text(kit()).encode()
    assert TRUST.fingerprint.encode() not in written
    text = files[kits.READ_ME].decode("utf-8-sig")
    assert SCHOOL in text
    assert "ketang enroll --owner ketang --kit" in text


def test_a_kit_of_a_key_that_the_trust_document_does_not_name_is_never_written(tmp_path):
    for document in (
        trust(keys=()),
        trust(keys=(trusted_key(purpose=Purpose.CONFIG),)),
        trust(keys=(trusted_key(scope="another"),)),
        trust(revoked=(RevokedKey(keys.key_id(KEY.public_key()), NOW, "lost"),)),
    ):
        with pytest.raises(BadInput, match="names no kit key"):
            kits.write_kit(tmp_path / "kit", kit(), KEY, sealed(document))
    with pytest.raises(BadInput, match="no trust document"):
        kits.write_kit(tmp_path / "kit", kit(), KEY, b"{}")
    assert not (tmp_path / "kit").exists()


def test_a_kit_that_the_region_did_not_sign_is_refused():
    envelope = kits.kit_files(kit(), KEY, SEALED)["kit.json"]
    body = json.loads(envelope)
    body["payload"] = json.loads(kits.kit_files(kit(code="0" * 12), KEY, SEALED)["kit.json"])[
        "payload"
    ]
    strange = seal(kit().payload(), contract.KIT_TYPE, [STRANGER])
    other_type = seal(kit().payload(), PAYLOAD_TYPE, [KEY])
    for bad in (json.dumps(body).encode(), strange, other_type, b"", b"[]", envelope[:-9]):
        with pytest.raises(Refused):
            accept(SignedKit(bad, SEALED), TRUST, NOW)


def test_a_key_of_one_school_makes_no_kit_for_another():
    raw = SignedKit(seal(kit().payload(), contract.KIT_TYPE, [KEY]), SEALED)
    own, other = (trust(keys=(trusted_key(scope=scope),)) for scope in (SCHOOL, "liuwan"))
    assert accept(raw, own, NOW) == kit()
    with pytest.raises(Refused, match="bad_signature"):
        accept(raw, other, NOW)


def test_a_kit_ends_with_its_code():
    raw = SignedKit(kits.kit_files(kit(), KEY, SEALED)["kit.json"], SEALED)
    assert accept(raw, TRUST, NOW + 7 * DAY - 1)
    with pytest.raises(Refused, match="expired"):
        accept(raw, TRUST, NOW + 7 * DAY)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://center.example"},
        {"url": "https://u:p@center.example"},
        {"code": "short"},
        {"school": ""},
        {"school": "a\nb"},
        {"made_s": True},
        {"expires_s": NOW},
        {"expires_s": "soon"},
        {"more": 1},
    ],
)
def test_what_is_signed_is_read_strictly_all_the_same(change):
    said = {**json.loads(kit().payload()), **change}
    raw = SignedKit(seal(json.dumps(said).encode(), contract.KIT_TYPE, [KEY]), SEALED)
    with pytest.raises(Refused, match="bad_document"):
        accept(raw, TRUST, NOW)


def zipped(members, links=()):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            one = zipfile.ZipInfo(name)
            one.external_attr = ((stat.S_IFLNK if name in links else stat.S_IFREG) | 0o600) << 16
            archive.writestr(one, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


GOOD = (("kit.json", b"{}"), ("trust.json", b"{}"))


def test_a_zip_of_the_folder_is_as_good_as_one_of_its_files(tmp_path):
    path = tmp_path / "kit.zip"
    path.write_bytes(zipped([(f"ketang-kit/{name}", content) for name, content in GOOD]))
    assert open_kit(path) == SignedKit(b"{}", b"{}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (zipped(GOOD[:1]), r"0 of trust\.json"),
        (zipped([*GOOD, ("b/kit.json", b"{}")]), r"2 of kit\.json"),
        (zipped([("../kit.json", b"{}"), ("a/b/trust.json", b"{}")]), "holds 0|holds 1"),
        (zipped([("/etc/kit.json", b"{}"), GOOD[1]]), r"0 of kit\.json"),
        (zipped(GOOD, links={"kit.json"}), "is a link"),
        (zipped([("kit.json", bytes(1 << 20)), GOOD[1]]), "larger than"),
        (zipped([*GOOD, *((f"{n}", b"") for n in range(99))]), "101 files"),
        (zipped(GOOD)[:-30], "not a whole kit"),
        (b"", "not a whole kit"),
        (b"x" * 4096, "not a whole kit"),
        (bytes((8 << 20) + 1), "larger than"),
    ],
)
def test_an_archive_that_is_no_kit_is_refused_in_one_line(tmp_path, content, told):
    path = tmp_path / "kit.zip"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=told) as refused:
        open_kit(path)
    assert "\n" not in str(refused.value)
    assert [one.name for one in tmp_path.iterdir()] == ["kit.zip"]


def test_an_encrypted_or_bent_archive_is_refused(tmp_path):
    whole = bytearray(zipped(GOOD))
    path = tmp_path / "kit.zip"
    for at in range(len(whole)):
        bent = bytearray(whole)
        bent[at] ^= 0x41
        path.write_bytes(bent)
        try:
            raw = open_kit(path)
        except BadInput:
            continue
        assert raw == SignedKit(b"{}", b"{}")


def test_a_folder_that_lacks_a_file_or_links_elsewhere_is_refused(tmp_path):
    folder = tmp_path / "kit"
    folder.mkdir()
    (folder / "kit.json").write_bytes(b"{}")
    with pytest.raises(BadInput, match=r"trust\.json: missing"):
        open_kit(folder)
    (tmp_path / "secret").write_bytes(b"{}")
    (folder / "trust.json").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="missing"):
        open_kit(folder)
    with pytest.raises(BadInput, match="cannot be read"):
        open_kit(tmp_path / "none")


def test_the_line_of_a_qr_code_reads_back():
    text = kits.qr_text(kit())
    assert text.startswith("ketang:1:")
    assert open_kit(f" {text}\n") == Line(URL, CODE)
    for bad in (text[:-4], text + "!", "ketang:1:", text.replace(":1:", ":2:"), text + "A" * 600):
        with pytest.raises(BadInput):
            open_kit(bad)


@given(st.text(max_size=80))
def test_any_line_is_read_or_refused(text):
    try:
        contract.read_line(contract.LINE_PREFIX + text)
    except BadInput:
        return
    pytest.fail("no text by chance is a line")


@pytest.mark.parametrize(
    "url",
    [
        "https://center.example",
        "https://center.example:8443/ketang",
        "https://[::1]:8443",
        "https://10.0.0.7:1",
    ],
)
def test_an_address_of_a_centre_is_accepted(url):
    assert contract.center_url(url) == url
    assert contract.center_url(f"{url}/") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        7,
        "center.example",
        "http://center.example",
        "https://",
        "https://a b",
        "https://center.example?x=1",
        "https://center.example#x",
        "https://u@center.example",
        "https://center.example:99999",
        "https://center.example:0",
        "https://center.example/../x\n",
        "https://center.example/<x>",
        "https://[::1",
        "https://课堂.example",
        "HTTPS://center.example",
        f"https://{'a' * 300}.example",
    ],
)
def test_any_other_address_is_refused(url):
    with pytest.raises(BadInput, match="https://HOST"):
        contract.center_url(url)


def test_reading_a_kit_loads_nothing_heavy():
    code = (
        "import sys, ketang_contract.kit;"
        "print([m for m in ('cryptography', 'securesystemslib', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == b"[]"
