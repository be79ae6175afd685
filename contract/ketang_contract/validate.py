"""Strict validators made from the contract's values; the only file that imports pydantic."""

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ketang_contract import strict_json
from ketang_contract.ack import Ack
from ketang_contract.batch import OLDEST_SCHEMA, SCHEMA, Header, check_line
from ketang_contract.commands import Answer, Command
from ketang_contract.config import Config
from ketang_contract.enrolment import (
    MAX_BODY_BYTES,
    Application,
    Challenge,
    Issued,
    Renewal,
    Turned,
)
from ketang_contract.errors import NotYet, Refused
from ketang_contract.layers import Layer, Placement
from ketang_contract.permits import CameraGrant, Filing
from ketang_contract.records import Record
from ketang_contract.state import Birth, Death, Live, Reported

T = TypeVar("T")

_record: TypeAdapter[Record] = TypeAdapter(Record)
_read_record = _record.validator.validate_json
"""Without the adapter's wrapper: once per record is often."""
_header: TypeAdapter[Header] = TypeAdapter(Header)
MESSAGES: dict[str, TypeAdapter[Any]] = {
    "record": _record,
    "header": _header,
    "ack": TypeAdapter(Ack),
    "birth": TypeAdapter(Birth),
    "death": TypeAdapter(Death),
    "live": TypeAdapter(Live),
    "reported": TypeAdapter(Reported),
    "answer": TypeAdapter(Answer),
}
BODIES: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Application, Renewal, Challenge, Issued, Turned)
}
"""What is said over HTTPS when a device enrols or renews."""
SIGNED: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Layer, Placement, Command, Filing, CameraGrant)
}
"""Payloads of signed documents."""
DOCUMENTS: dict[str, TypeAdapter[Any]] = {
    "config": TypeAdapter(Config),
    "layer": SIGNED[Layer],
    "placement": SIGNED[Placement],
    "command": SIGNED[Command],
    "filing": SIGNED[Filing],
    "camera-grant": SIGNED[CameraGrant],
}
"""The same by the names that others know them by, and what a layer says."""
MAX_DOCUMENT_BYTES = 64 << 10


def record(line: bytes) -> Record:
    """Read one record line.

    Raises:
        Refused: ``bad_record`` with the first field that is wrong, or a cap.
    """
    check_line(line)
    try:
        made: Record = _read_record(line)
    except ValidationError as problem:
        raise Refused("bad_record", first_error(problem)) from problem
    return made


def header(line: bytes) -> Header:
    """Read a batch's header.

    Raises:
        NotYet: a schema this release does not know yet.
        Refused: not a header.
    """
    try:
        schema = json.loads(line).get("schema")
    except (ValueError, AttributeError, RecursionError) as problem:
        raise Refused("bad_header", str(problem)[:120]) from problem
    if isinstance(schema, int) and schema > SCHEMA:
        raise NotYet(f"schema {schema}")
    try:
        made = _header.validate_json(line)
    except ValidationError as problem:
        raise Refused("bad_header", first_error(problem)) from problem
    if made.schema < OLDEST_SCHEMA:
        raise Refused("schema_too_old", str(made.schema))
    return made


def document(kind: type[T], payload: bytes) -> T:
    """Read a birth, death, live or reported document, or an ack.

    Raises:
        Refused: ``bad_document`` with the first field that is wrong.
    """
    if len(payload) > MAX_DOCUMENT_BYTES:
        raise Refused("document_too_large", str(len(payload)))
    try:
        made: T = MESSAGES[kind.__name__.lower()].validate_json(payload)
    except ValidationError as problem:
        raise Refused("bad_document", first_error(problem)) from problem
    return made


def body(kind: type[T], payload: bytes) -> T:
    """Read a body of the enrolment service, or one of its answers.

    Raises:
        Refused: ``bad_request`` with the first field that is wrong.
    """
    if len(payload) > MAX_BODY_BYTES:
        raise Refused("bad_request", f"larger than {MAX_BODY_BYTES} bytes")
    try:
        made: T = BODIES[kind].validate_json(payload)
    except ValidationError as problem:
        raise Refused("bad_request", first_error(problem)) from problem
    return made


def signed(kind: type[T], payload: bytes) -> T:
    """Read the payload of a signed document.

    Raises:
        Refused: ``bad_document`` with the first field that is wrong, or one that is named twice.
    """
    try:
        strict_json.load(payload)
        made: T = SIGNED[kind].validate_json(payload)
    except ValidationError as problem:
        raise Refused("bad_document", first_error(problem)) from problem
    except ValueError as problem:
        raise Refused("bad_document", str(problem)) from problem
    return made


def first_error(problem: ValidationError) -> str:
    """The first error in one phrase: where and what, never the value, which may be private."""
    first = problem.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "(whole)"
    return f"{where}: {first['msg']}"[:200]
