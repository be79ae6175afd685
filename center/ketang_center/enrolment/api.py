"""The enrolment service: a small HTTPS application of its own, beside the console.

Its own port, because it is meant for devices in every school and the console is not. No cookie, no
session, no page; whatever a stranger sends gets one JSON answer.
"""

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from ketang_center.access.throttle import source_of
from ketang_center.enrolment.desk import Desk
from ketang_center.enrolment.values import Reason
from ketang_center.updates import serve_updates
from ketang_contract import enrolment
from ketang_contract.enrolment import MAX_BODY_BYTES, Challenge, Issued, Turned
from ketang_contract.validate import BODIES

log = logging.getLogger("ketang.enrolment")

_BUSY_S = 10
_STATUS = {
    Reason.UNKNOWN_CODE: 403,
    Reason.CODE_EXPIRED: 403,
    Reason.CODE_USED_UP: 403,
    Reason.CODE_WITHDRAWN: 403,
    Reason.OTHER_SCHOOL: 403,
    Reason.REFUSED_BY_PERSON: 403,
    Reason.REVOKED: 403,
    Reason.UNKNOWN_CERTIFICATE: 403,
    Reason.BAD_REQUEST: 400,
    Reason.BAD_NONCE: 400,
    Reason.KEY_IN_USE: 409,
    Reason.TOO_MANY: 429,
    Reason.LOCKED: 429,
    Reason.QUEUE_FULL: 503,
    Reason.UNAVAILABLE: 503,
}
"""Any other reason: a person has to decide, and the device asks again (202)."""
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000",
}
_PEM, _JSON = "application/x-pem-file", "application/json"
_SAYS = (
    "How a device gets its identity, renews it, and learns whom to trust. HTTPS only; no cookie, no"
    " session. Every answer that is no success names a reason."
)
_ENVELOPE = {
    "title": "Envelope",
    "description": "A DSSE envelope: what is signed, base64, and who signed it.",
    "type": "object",
    "required": ["payload", "payloadType", "signatures"],
    "properties": {
        "payload": {"type": "string"},
        "payloadType": {"type": "string"},
        "signatures": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["keyid", "sig"],
                "properties": {"keyid": {"type": "string"}, "sig": {"type": "string"}},
            },
        },
    },
}
Answer = Issued | Turned


def create_app(
    desk: Desk,
    trust: Callable[[], bytes],
    crl: Callable[[], bytes],
    updates: Path | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        desk: decides.
        trust: gives every version of the trust document, a JSON array.
        crl: gives the revocation lists, PEM.
        updates: the update repository; None: there is none here.
    """
    app = _bare()
    serve_updates(app, updates, _HEADERS)
    app.add_api_route(
        enrolment.ENROL,
        _decided(desk.enrol),
        methods=["POST"],
        name="enrol",
        summary="Ask for an identity.",
        **_described(BODIES[enrolment.Application].json_schema()),
    )
    app.add_api_route(
        enrolment.RENEW,
        _decided(desk.renew),
        methods=["POST"],
        name="renew",
        summary="Ask for the next certificate.",
        **_described(_ENVELOPE),
    )

    @app.get(enrolment.NONCE, response_class=JSONResponse, responses=_one(_NONCE))
    async def nonce() -> Response:
        """Give a nonce for one request."""
        return JSONResponse(asdict(Challenge(nonce=desk.nonce())), headers=_HEADERS)

    @app.get(enrolment.TRUST, response_class=JSONResponse, name="trust", responses=_one(_TRUST))
    async def the_trust() -> Response:
        """Give the region's trust documents, oldest first; who reads them checks the signatures."""
        return Response(await run_in_threadpool(trust), media_type=_JSON, headers=_HEADERS)

    @app.get(enrolment.CRL, response_class=Response, name="crl", responses=_one(_LISTS))
    async def the_crl() -> Response:
        """Give the revocation list, for brokers on other machines."""
        return Response(await run_in_threadpool(crl), media_type=_PEM, headers=_HEADERS)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def nothing(_: Request, problem: Any) -> Response:
        return JSONResponse(
            {"reason": "bad_request"},
            problem.status_code,
            headers=_HEADERS | (problem.headers or {}),
        )

    return app


def _bare() -> FastAPI:
    return FastAPI(
        title="Ketang enrolment",
        version="1",
        description=_SAYS,
        # Published with the project instead: nothing but the service itself answers here.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )


def _decided(decide: Callable[[bytes, str], Answer]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return JSONResponse({"reason": "bad_request"}, 413, headers=_HEADERS)
        source = source_of(request.client.host if request.client else "")
        try:
            made = await run_in_threadpool(decide, body, source)
        except sqlite3.OperationalError as problem:  # another process holds a file, or the disk
            log.warning("enrolment.busy why=%s", problem)
            made = Turned(reason=Reason.UNAVAILABLE.value, retry_after_s=_BUSY_S)
        if isinstance(made, Issued):
            return JSONResponse(asdict(made), headers=_HEADERS)
        headers = dict(_HEADERS)
        if made.retry_after_s:
            headers["Retry-After"] = str(made.retry_after_s)
        return JSONResponse(asdict(made), _STATUS.get(Reason(made.reason), 202), headers=headers)

    return answer


async def _body(request: Request) -> bytes | None:
    """Read a body up to the cap; None where it is larger, whatever its header said, or cut off."""
    taken = bytearray()
    try:
        async for chunk in request.stream():
            taken += chunk
            if len(taken) > MAX_BODY_BYTES:
                return None
    except ClientDisconnect:
        return None  # whoever hung up reads no answer
    return bytes(taken)


def _described(asked: dict[str, Any]) -> dict[str, Any]:
    """Say in OpenAPI what is taken and answered; the checks are the contract's own."""
    turned = BODIES[Turned].json_schema()
    said = {
        200: ("The identity.", BODIES[Issued].json_schema()),
        202: ("A person has to decide; ask again.", turned),
        400: ("Not a request of this kind.", turned),
        403: ("No.", turned),
        409: ("The key belongs to another device.", turned),
        413: (f"More than {MAX_BODY_BYTES} bytes.", turned),
        429: ("Later; Retry-After says when.", turned),
        503: ("Too many wait for a person already.", turned),
    }
    return {
        "response_class": JSONResponse,
        "openapi_extra": {"requestBody": {"required": True, "content": {_JSON: {"schema": asked}}}},
        "responses": {
            status: _answer(f"{text}{_reasons(status)}", _JSON, schema)
            for status, (text, schema) in said.items()
        },
    }


def _one(answer: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: answer}


def _answer(text: str, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    headers = {
        name: {"required": True, "schema": {"type": "string", "const": value}}
        for name, value in _HEADERS.items()
    }
    return {"description": text, "content": {media: {"schema": schema}}, "headers": headers}


def _reasons(status: int) -> str:
    """Name the reasons that a status stands for, as its description's end."""
    named = [one.value for one in Reason if _STATUS.get(one, 202) == status]
    return f" Reasons: {', '.join(named)}." if named else ""


_NONCE = _answer("A nonce.", _JSON, BODIES[Challenge].json_schema())
_TRUST = _answer(
    "Every version, oldest first.", _JSON, {"type": "array", "minItems": 1, "items": _ENVELOPE}
)
_LISTS = _answer("Revocation lists (RFC 5280), PEM.", _PEM, {"type": "string"})
