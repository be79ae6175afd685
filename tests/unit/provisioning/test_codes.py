"""Enrolment codes: what people type is read, and what is kept gives nothing away."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_contract.errors import BadInput
from ketang_provisioning import codes

KEY = bytes(range(32))
CODE = "7K3M9QRTWX2A"


def test_a_code_is_twelve_characters_that_people_do_not_misread():
    made = {codes.new_code() for _ in range(2000)}
    assert len(made) == 2000
    assert all(re.fullmatch("[0-9ABCDEFGHJKMNPQRSTVWXYZ]{12}", one) for one in made)
    assert {letter for one in made for letter in one} == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_every_character_is_as_likely_as_any_other():
    made = "".join(codes.new_code(lambda n, at=at: bytes([at] * n))[0] for at in range(256))
    assert {made.count(one) for one in made} == {8}


@pytest.mark.parametrize(
    "typed",
    [
        "7K3M-9QRT-WX2A",
        "7k3m 9qrt wx2a",
        " 7k3m9qrtwx2a\n",
        "7K3M\u20139QRT\u2014WX2A",
        "7K3M\u30009QRT\u3000WX2A",
    ],
)
def test_what_people_type_is_read(typed):
    assert codes.normalise(typed) == CODE


def test_letters_taken_for_digits_are_read_as_digits():
    assert codes.normalise("OoIi-Ll00-1111") == "001111001111"


@given(st.text(alphabet="0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=12, max_size=12))
def test_what_is_shown_reads_back(code):
    shown = codes.show(code)
    assert re.fullmatch("[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", shown)
    assert codes.normalise(shown.lower()) == code


@pytest.mark.parametrize("typed", ["", "AAAA-BBBB", "AAAA-BBBB-CCCCD", "AAAA-BBBB-CCCU", "x" * 999])
def test_what_is_no_code_is_refused_in_one_line_that_does_not_repeat_it(typed):
    with pytest.raises(BadInput) as told:
        codes.normalise(typed)
    assert "\n" not in str(told.value)
    assert not typed or typed not in str(told.value)


@given(st.text(max_size=60))
def test_any_text_is_a_code_or_refused(typed):
    try:
        read = codes.normalise(typed)
    except BadInput:
        return
    assert codes.normalise(read) == read


def test_what_is_kept_depends_on_code_and_key_and_not_on_the_spelling():
    kept = codes.fingerprint("7k3m-9qrt-wx2a", KEY)
    assert kept == codes.fingerprint(CODE, KEY)
    assert len(kept) == 32
    assert kept != codes.fingerprint(CODE, KEY[::-1])
    assert kept != codes.fingerprint("7K3M9QRTWX2B", KEY)
    assert re.fullmatch("[0-9a-f]{6}", codes.code_id(kept))


def test_a_short_key_is_refused():
    with pytest.raises(BadInput, match="16 bytes"):
        codes.fingerprint(CODE, KEY[:16])


def test_the_key_is_read_from_a_file_that_only_its_owner_may_read(tmp_path):
    path = tmp_path / "codes.key"
    path.write_text(KEY.hex() + "\n")
    path.chmod(0o600)
    assert codes.read_key(path) == KEY
    path.chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        codes.read_key(path)


@pytest.mark.parametrize("content", [b"", b"00" * 16, b"zz" * 32, bytes(range(32)), b"00" * 33])
def test_a_file_that_is_no_key_is_refused(tmp_path, content):
    path = tmp_path / "codes.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadInput, match="64 hex digits"):
        codes.read_key(path)
    with pytest.raises(BadInput, match="cannot be read"):
        codes.read_key(tmp_path / "none")
