"""What a device is handed so that it can enrol: a folder, a .zip, or one line for a QR code.

Standard library only. Nothing here is trusted yet: ``kit.json`` is a DSSE envelope whose signature
the verifier checks, against a trust document whose root set must have the fingerprint that was
installed with the agent. That fingerprint is never part of a kit. The one-line form is not signed:
it names a centre and a code only, and a wrong centre fails at TLS, since its certificate does not
come from the authorities that the installed fingerprint leads to.
"""

import base64
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ketang_contract import strict_json
from ketang_contract.errors import BadInput, Refused
from ketang_contract.trust import Opener, Purpose, Trust

KIT_TYPE = "application/vnd.ketang.kit+json"
"""DSSE payload type of ``kit.json``."""
KIT_FILE, TRUST_FILE = "kit.json", "trust.json"
LINE_PREFIX = "ketang:1:"
MAX_KIT_BYTES = 64 << 10
MAX_TRUST_BYTES = 64 << 10
CODE_CHARACTERS = 12
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no I, L, O, U, which people misread."""

_MAX_LINE = 600
_MAX_URL = 255
_MAX_MEMBERS = 64
_MAX_ZIP_BYTES = 8 << 20
_CAPS = {KIT_FILE: MAX_KIT_BYTES, TRUST_FILE: MAX_TRUST_BYTES}
_MISREAD = str.maketrans({"I": "1", "L": "1", "O": "0"})
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


@dataclass(frozen=True, slots=True)
class SignedKit:
    """The two files as they came, not verified."""

    envelope: bytes
    trust: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """A centre and a code, from a QR code or typed; never signed."""

    url: str
    code: str


RawKit = SignedKit | Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a verified ``kit.json`` says. Times are UTC seconds."""

    url: str
    code: str
    school: str
    made_s: int
    expires_s: int

    def payload(self) -> bytes:
        """Return the bytes that are signed."""
        return strict_json.canonical({name: getattr(self, name) for name in self.__slots__})


def open_kit(given: Path | str) -> RawKit:
    """Read a kit: a folder, a .zip (by its path), or the text of a QR code.

    Raises:
        BadInput: it is none of these, or damaged; in one line.
    """
    if isinstance(given, str) and given.strip().startswith(LINE_PREFIX):
        return read_line(given)
    path = Path(given)
    try:
        if path.is_dir():
            return SignedKit(*(_file(path / name, cap) for name, cap in _CAPS.items()))
        with path.open("rb") as file:
            if path.stat().st_size > _MAX_ZIP_BYTES:
                raise BadInput(f"{path}: larger than {_MAX_ZIP_BYTES} bytes; that is no kit")
            with zipfile.ZipFile(file) as archive:
                return SignedKit(*(_member(path, archive, name) for name in _CAPS))
    except OSError as problem:
        raise BadInput(
            f"{path}: cannot be read: {problem.strerror or problem}; give a kit's folder, its .zip,"
            f" or a line that begins with {LINE_PREFIX}"
        ) from problem
    # A hostile archive raises any of these while it is read.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as problem:
        raise BadInput(f"{path}: not a whole kit: {problem}; copy it again") from problem


def accept(raw: SignedKit, trusted: Trust, now_s: int, opener: Opener | None = None) -> Kit:
    """Judge a kit; for the verifier, since it loads ``cryptography`` unless told an opener.

    Args:
        raw: the kit as it came.
        trusted: the trust document in force; the kit's own one, once ``trust.accept`` took it.
        now_s: max(clock, signed-time floor).
        opener: checks the signature; ``signatures.open_sealed`` unless told.

    Raises:
        Refused: ``bad_signature``: none of the region's kit keys signed it, or one of another unit
            did; ``expired``; ``bad_envelope``; ``bad_document``.
    """
    if opener is None:
        from ketang_contract.signatures import open_sealed  # noqa: PLC0415  (loads cryptography)

        opener = open_sealed
    keys = trusted.keys_for(Purpose.KIT, now_s)
    # A key of one school opens that school alone; which one is told by the signed content.
    said = parse(opener(raw.envelope, KIT_TYPE, [one.public for one in keys], 1))
    fit = [one.public for one in keys if one.scope in {"", said.school}]
    opener(raw.envelope, KIT_TYPE, fit, 1)
    if now_s >= said.expires_s:
        raise Refused("expired", "the kit's code is over; ask for a new one")
    return said


def parse(payload: bytes) -> Kit:
    """Read what a kit says, strictly. Who signed it is not asked here.

    Raises:
        Refused: ``bad_document``: a field is missing, unknown or out of its limits.
    """
    try:
        said = strict_json.whole(strict_json.load(payload), Kit.__slots__, KIT_FILE)
        made = Kit(
            url=center_url(said["url"]),
            code=normalise_code(said["code"]),
            school=strict_json.text(said["school"], "school"),
            made_s=strict_json.number(said["made_s"], "made_s", 1),
            expires_s=strict_json.number(said["expires_s"], "expires_s", 1),
        )
    except (ValueError, BadInput) as problem:
        raise Refused("bad_document", str(problem)) from problem
    if made.expires_s <= made.made_s:
        raise Refused("bad_document", "expires before it was made")
    return made


def make_line(line: Line) -> str:
    """Return the one-line form, for a QR code."""
    body = strict_json.canonical({"url": line.url, "code": line.code})
    return LINE_PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")


def read_line(text: str) -> Line:
    """Read the one-line form.

    Raises:
        BadInput: it is not one, or was cut short.
    """
    text = text.strip()
    body = text.removeprefix(LINE_PREFIX)
    if len(text) > _MAX_LINE or body == text or re.fullmatch(r"[A-Za-z0-9_-]+", body) is None:
        raise BadInput(f"not a kit's line: it begins with {LINE_PREFIX} and has no spaces")
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        said = strict_json.whole(strict_json.load(raw), ("url", "code"), "line")
    except ValueError:
        raise BadInput("the kit's line is cut short: scan or paste it again") from None
    return Line(center_url(said["url"]), normalise_code(said["code"]))


def normalise_code(text: object) -> str:
    """Return a code's 12 characters as they count; reads what people type.

    Lower case, spaces and hyphens are accepted, and I, L and O for what they were meant to be.

    Raises:
        BadInput: not 12 characters of the alphabet; the text itself is not repeated.
    """
    if not isinstance(text, str) or len(text) > 4 * CODE_CHARACTERS:
        raise BadInput(f"code: text of {CODE_CHARACTERS} letters and digits is accepted")
    code = re.sub(r"[\s\u2010-\u2015-]", "", text).upper().translate(_MISREAD)
    if len(code) != CODE_CHARACTERS:
        raise BadInput(
            f"code: {len(code)} characters; accepted: {CODE_CHARACTERS}, as in 7K3M-9QRT-WX2A"
        )
    if any(one not in ALPHABET for one in code):
        raise BadInput("code: has a character that no code has; accepted: digits, A to Z but U")
    return code


def show_code(code: str) -> str:
    """Return a code as people read it, ``XXXX-XXXX-XXXX``."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


def center_url(value: object) -> str:
    """Return the address of a centre's enrolment service without a slash at its end.

    Raises:
        BadInput: not https, or with a user, a query or a fragment.
    """
    wrong = BadInput(
        "url: accepted: https://HOST[:PORT][/PATH], e.g. https://[2001:db8::5]:8443"
        f" (at most {_MAX_URL} characters)"
    )
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_URL or not value.isascii():
        raise wrong
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong from None
    plain = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if (
        parts.scheme != "https"
        or "@" in parts.netloc
        or plain != value
        or port == 0
        or _HOST.fullmatch(host) is None
        or _PATH.fullmatch(parts.path) is None
    ):
        raise wrong
    return value.rstrip("/")


def _file(path: Path, cap: int) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise BadInput(f"{path}: missing; the folder is not a whole kit: copy it again")
    with path.open("rb") as file:
        return _capped(file.read(cap + 1), cap, path.name)


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one named member into memory; nothing is ever unpacked to disk, so no path counts."""
    listed = archive.infolist()
    if len(listed) > _MAX_MEMBERS:
        raise BadInput(f"{path}: {len(listed)} files; that is no kit")
    # A .zip made by hand often holds the folder rather than its files.
    found = [one for one in listed if re.fullmatch(rf"([^/\\]+/)?{re.escape(name)}", one.filename)]
    if len(found) != 1:
        raise BadInput(f"{path}: holds {len(found)} of {name}; a kit holds one")
    if stat.S_ISLNK(found[0].external_attr >> 16):
        raise BadInput(f"{path}: {name} is a link; a kit holds files only")
    cap = _CAPS[name]
    with archive.open(found[0]) as file:
        return _capped(file.read(cap + 1), cap, name)


def _capped(raw: bytes, cap: int, name: str) -> bytes:
    if len(raw) > cap:
        raise BadInput(f"{name}: larger than {cap} bytes; that is no kit")
    return raw
