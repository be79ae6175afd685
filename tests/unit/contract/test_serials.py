"""Serial numbers: one spelling each, and those that name no machine are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_contract import serials


@pytest.mark.parametrize(
    ("told", "compared"),
    [
        ("  5cg1234abc ", "5CG1234ABC"),
        ("PF-3A\t 9K2", "PF-3A 9K2"),
        ("ＡＢＣ１２３", "ABC123"),
        ("abc\x00\u200b123", "ABC 123"),
        ("\u3000", ""),
    ],
)
def test_one_machine_has_one_spelling(told, compared):
    assert serials.normalise(told) == compared


@given(st.text(max_size=70))
def test_normal_form_stays_as_it_is(told):
    once = serials.normalise(told)
    assert serials.normalise(once) == once
    assert once.isprintable()


@pytest.mark.parametrize(
    "told",
    [
        "",
        "   ",
        "To be filled by O.E.M.",
        "to be filled by o.e.m",
        "To Be Filled By O.E.M. ",
        "Default string",
        "DEFAULT_STRING",
        "System Serial Number",
        "Chassis Serial Number",
        "None",
        "N/A",
        "Not Specified",
        "Not Applicable",
        "INVALID",
        "Unknown",
        "0",
        "00000000",
        "FFFFFFFF",
        "xxxxxxxxxx",
        "........",
        "123",
        "A1",
        "123456789",
        "0123456789",
        "01234567890123456789",
        "1234567890123456789",
        "SSN12345678901234567",
        "Type1 - Serial Number",
        "QEMU",
        "无",
        "未知",
        "序列号",
        "－",
    ],
)
def test_what_firmware_says_for_want_of_a_number_is_doubtful(told):
    assert serials.is_doubtful(told)


@pytest.mark.parametrize(
    "told",
    ["5CG1234ABC", "PF3A9K2", "MJ0CK4LM", "210235A1B2C3", "VMware-56 4d 1f 3c", "1234567X", "SNID"],
)
def test_what_may_be_a_number_is_not(told):
    assert not serials.is_doubtful(told)
