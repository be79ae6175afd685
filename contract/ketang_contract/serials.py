"""Serial numbers as firmware tells them: one spelling each, and those that name no machine.

The texts below are what board makers leave in the DMI and SMBIOS fields when nobody fills them in;
many machines carry the same, so a match proves nothing and a person has to look.
"""

import re
import unicodedata

LEAST_CHARACTERS = 4
_PLACEHOLDERS = frozenset(
    re.sub(r"[^0-9A-Z\u4e00-\u9fff]", "", one.upper())
    for one in (
        "To be filled by O.E.M.",
        "To be filled by OEM",
        "To be filled",
        "Filled by OEM",
        "OEM",
        "O.E.M.",
        "Default string",
        "Default",
        "System Serial Number",
        "Chassis Serial Number",
        "Base Board Serial Number",
        "Board Serial Number",
        "Serial Number",
        "SerialNumber",
        "Serial",
        "SerNum",
        "SN",
        "S/N",
        "SSN12345678901234567",
        "System Product Name",
        "System Version",
        "System Manufacturer",
        "Asset Tag",
        "No Asset Tag",
        "None",
        "Null",
        "(null)",
        "Nil",
        "N/A",
        "NA",
        "Not Available",
        "Not Applicable",
        "Not Specified",
        "Not Provided",
        "Not Present",
        "Not Defined",
        "No Serial Number",
        "No Serial",
        "Unspecified",
        "Undefined",
        "Unknown",
        "Unset",
        "Empty",
        "Blank",
        "Invalid",
        "Invalid Serial",
        "Error",
        "Default SN",
        "Test",
        "TBD",
        "Sample",
        "Example",
        "Type1 - Serial Number",
        "Type1Family",
        "Type2 - Board Serial Number",
        "Type3 - Chassis Serial Number",
        "Intel Corporation",
        "Standard",
        "OEM Default string",
        "EVAL",
        "MB-1234567890",
        "BSN12345678901234567",
        "BSS-0123456789",
        "CSN12345678901234567",
        "$SERIAL_NUMBER$",
        "SKU",
        "xxxxxxx",
        "Bochs",
        "QEMU",
        "VirtualBox",
        "VMware",
        "Virtual Machine",
        "Not Settable",
        "0123456789",
        "1234567890",
        "123456789",
        "12345678",
        "1234567",
        "123456",
        "12345",
        "1234",
        "0123456",
        "01234567",
        "012345678",
        "987654321",
        "9876543210",
        "03142563710264219",
        "ABCDEFG",
        "ABCD1234",
        "无",
        "空",
        "未知",
        "不详",
        "没有",
        "暂无",
        "待填",
        "序列号",
    )
)
_NUMBERED = re.compile(r"(?:0?123456789){2,}0?|(?:1234567890){2,}[0-9]*")


def normalise(serial: str) -> str:
    """Return the spelling that is compared: NFKC, upper case, single spaces, no edges.

    Returns:
        the empty text where there is nothing but blanks.
    """
    plain = unicodedata.normalize("NFKC", serial)
    shown = "".join(one if one.isprintable() else " " for one in plain)
    return " ".join(shown.split()).upper()


def is_doubtful(serial: str) -> bool:
    """Tell whether a serial cannot name one machine: empty, a placeholder, a run, too short."""
    core = re.sub(r"[^0-9A-Z\u4e00-\u9fff]", "", normalise(serial))
    return (
        len(core) < LEAST_CHARACTERS
        or len(set(core)) == 1
        or core in _PLACEHOLDERS
        or _NUMBERED.fullmatch(core) is not None
    )
