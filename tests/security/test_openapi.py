"""The enrolment service against its own description: nothing that is sent makes it fall over.

Schemathesis sends what the published OpenAPI document allows and what it forbids, hypothesis what
only a device with a key could send, raw sockets what no client would. No answer is a 5xx, each is
one that the document names, each carries the security headers, and no traceback reaches the log.
"""

import itertools
import json
import logging
import socket
import ssl
import threading
import time
from contextlib import closing, contextmanager

import httpx
import jsonschema
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ketang_center import settings as center_settings
from ketang_center.enrolment import publish_openapi
from ketang_center.enrolment.api import create_app
from ketang_center.enrolment.service import EnrolmentService
from ketang_contract.enrolment import CRL, ENROL, MAX_BODY_BYTES, NONCE, RENEW, TRUST, binding
from tests.regions import Region

DOCUMENT = publish_openapi.document()
BASE = "https://center"
PATHS = (ENROL, RENEW, NONCE, TRUST, CRL)
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "strict-transport-security": "max-age=31536000",
}
ROUNDS = settings(
    max_examples=160,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Asked:
    """The application, each request from an address of its own, so that no lock-out hides it."""

    def __init__(self, app):
        self._app = app
        self._sources = itertools.count(1)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            no = next(self._sources)
            scope = {**scope, "client": (f"10.{no >> 16}.{no >> 8 & 255}.{no & 255}", 40000)}
        await self._app(scope, receive, send)


class Tracebacks(logging.Handler):
    """Keeps every error that anything logs."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.seen = []

    def emit(self, record):
        self.seen.append(f"{record.name}: {record.getMessage()} {record.exc_text or ''}")


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    made = Region(tmp_path_factory.mktemp("openapi"))
    made.register(200)
    return made


@pytest.fixture(scope="module")
def service(region):
    said = center_settings.read(region.settings(per_s=1000))
    made = EnrolmentService(said.enrolment, said.data_dir, "center-test")
    made.revocation_list.keep(time.time_ns() // 10**6)
    with closing(made):
        yield made


@pytest.fixture(scope="module")
def app(service, region):
    trust = (region.center_folder / "trust.json").read_bytes()
    lists = (region.data_dir / "clients.crl").read_bytes
    return Asked(create_app(service.desk, lambda: b"[" + trust + b"]", lists))


@pytest.fixture
def logged():
    kept = Tracebacks()
    logging.getLogger().addHandler(kept)
    yield kept.seen
    logging.getLogger().removeHandler(kept)
    assert kept.seen == []


def is_dressed(answer):
    return all(answer.headers.get(name) == value for name, value in HEADERS.items())


# What the document says


def test_the_published_document_is_in_step_and_says_when_it_is_not(tmp_path, capsys):
    assert publish_openapi.main(["--check"]) == 0
    file = tmp_path / "openapi.json"
    assert publish_openapi.main(["--check", str(file)]) == 1
    assert publish_openapi.main([str(file)]) == 0
    assert publish_openapi.main(["--check", str(file)]) == 0
    file.write_text(file.read_text() + " ")
    assert publish_openapi.main(["--check", str(file)]) == 1
    assert capsys.readouterr().err.count("make schemas") == 2


def test_every_path_and_every_value_is_described_and_every_reference_leads_somewhere():
    assert set(DOCUMENT["paths"]) == set(PATHS)
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert f'"#/components/schemas/{name}"' in json.dumps(DOCUMENT["paths"])


# What the document allows, and what it forbids

sent: list[str] = []
OPERATIONS = [(path, verb.upper()) for path, verbs in DOCUMENT["paths"].items() for verb in verbs]


@pytest.fixture(scope="module")
def judged():
    """Give the document as an API to ask, and what sends a case and judges the answer."""
    # Imported here: it takes seconds, and every worker of a test run reads this file.
    import schemathesis
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as described
    from schemathesis.transport.asgi import ASGI_TRANSPORT

    tried = (
        checks.not_a_server_error,
        described.content_type_conformance,
        described.response_headers_conformance,
        described.response_schema_conformance,
        described.status_code_conformance,
        described.unsupported_method,
    )

    def send(case, app):
        answer = ASGI_TRANSPORT.send(case, app=app)
        case.validate_response(answer, checks=tried)
        return answer

    return schemathesis.openapi.from_dict(DOCUMENT), send


@pytest.mark.parametrize(("path", "verb"), OPERATIONS)
def test_no_request_makes_the_service_answer_otherwise_than_described(
    path, verb, app, logged, judged
):
    api, ask_and_judge = judged

    # Not by the schema's own parametrize: it runs one operation only where tests run side by side.
    @ROUNDS
    @given(case=api[path][verb].as_strategy())
    def send(case):
        sent.append(case.operation.label)
        answer = ask_and_judge(case, app)
        assert all(answer.headers[name] == [value] for name, value in HEADERS.items())

    send()


@pytest.mark.skipif("not sent", reason="nothing was sent")
def test_they_were_a_few_hundred_requests():
    assert len(sent) > 200
    assert len(set(sent)) == len(PATHS)


# What only a device with a key could send

deep: set[str] = set()
lines = st.text(st.characters(codec="utf-8"), max_size=70)
codes_said = st.one_of(st.just("good"), st.just("good again"), lines)


def signed(key, bound):
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_attribute(AttributeOID.CHALLENGE_PASSWORD, bound.encode())
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


@pytest.fixture(scope="module")
def good_code(region):
    return region.code()


@given(code=codes_said, serial=lines | st.integers(1, 300).map("SN-S1-{:04}".format), asset=lines)
@settings(ROUNDS, max_examples=120)
def test_whatever_a_device_says_of_itself_is_answered_as_described(
    service, app, logged, good_code, code, serial, asset
):
    nonce, key = service.desk.nonce(), ec.generate_private_key(ec.SECP256R1())
    code = good_code if code.startswith("good") else code
    said = {"nonce": nonce, "code": code, "serial": serial, "asset": asset}
    body = json.dumps({"csr": signed(key, binding(nonce, code, serial)), **said})
    answer = ask(app, "POST", ENROL, body.encode())
    assert is_dressed(answer)
    described = DOCUMENT["paths"][ENROL]["post"]["responses"]
    assert str(answer.status_code) in described
    assert answer.status_code < 500
    deep.add(answer.json().get("reason", "issued"))
    kind = "Issued" if answer.status_code == 200 else "Turned"
    jsonschema.validate(answer.json(), DOCUMENT["components"]["schemas"][kind])


@pytest.mark.skipif("not deep", reason="nothing was sent")
def test_they_reached_every_floor_of_the_service():
    assert deep >= {"issued", "not_registered", "doubtful_serial", "unknown_code", "bad_request"}


def ask(app, verb, path, body=b"", **more):
    """Ask the application from a thread without a loop of its own."""
    import asyncio

    async def once():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as http:
            return await http.request(verb, path, content=body, **more)

    return asyncio.run(once())


NESTED = b'{"csr":' + b"[" * 7000 + b"]" * 7000 + b"}"
ODD = {
    "nothing": b"",
    "a NUL byte": b'{"csr": "\x00"}',
    "an escaped NUL": b'{"csr": "A", "nonce": "A", "code": "\\u0000"}',
    "half a surrogate": b'{"csr": "A", "nonce": "A", "code": "\\ud800"}',
    "invalid UTF-8": b'{"csr": "\xff\xfe\xc0\xaf"}',
    "UTF-16": '{"csr": "A"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "deep nesting": NESTED,
    "deep objects": b'{"a":' * 2700 + b"1" + b"}" * 2700,
    "a huge number": b'{"csr": ' + b"9" * 10_000 + b"}",
    "a huge exponent": b'{"csr": 1e999999999}',
    "NaN": b'{"csr": NaN}',
    "the same key twice": b'{"csr": "A", "csr": "B", "nonce": "A", "code": "A"}',
    "a list": b"[1, 2, 3]",
    "a string": b'"hello"',
    "null": b"null",
    "an envelope of nothing": b'{"payload": "", "payloadType": "", "signatures": []}',
    "an envelope that is no base64": b'{"payload": "\\u00e9", "payloadType": 1, "signatures": {}}',
    "an envelope signed a thousand times": json.dumps(
        {
            "payload": "e30=",
            "payloadType": "application/vnd.ketang.renewal+json",
            "signatures": [{"keyid": f"{no:02}", "sig": "AA=="} for no in range(400)],
        }
    ).encode(),
}


@pytest.mark.parametrize("path", [ENROL, RENEW])
@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_a_body_that_is_no_request_is_a_bad_request(app, logged, path, body):
    assert len(body) <= MAX_BODY_BYTES
    answer = ask(app, "POST", path, body)
    assert answer.status_code in {400, 403}
    assert is_dressed(answer)
    assert set(answer.json()) == {"reason", "retry_after_s"}


@pytest.mark.parametrize(
    "path", [*PATHS, "/", "/openapi.json", "/docs", "/enrol/v1/", "/%00", "/%ff"]
)
@pytest.mark.parametrize(
    "verb", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PRI"]
)
def test_a_wrong_verb_or_path_is_told_so_in_one_line(app, logged, verb, path):
    answer = ask(app, verb, path)
    right = verb == "GET" and path in {NONCE, TRUST, CRL}
    assert answer.status_code == 200 if right else answer.status_code in {404, 405}
    assert is_dressed(answer)
    if not right and verb != "HEAD":
        assert answer.json() == {"reason": "bad_request"}
    if answer.status_code == 405:
        assert answer.headers["allow"] in {"GET", "POST"}


# What no client would send, at the real server


@pytest.fixture(scope="module")
def door(service):
    thread = threading.Thread(target=service.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not service.port and time.monotonic() < deadline:
        time.sleep(0.02)
    yield service.port
    service.stop()
    thread.join()


@contextmanager
def line(region, door):
    trusted = ssl.create_default_context(cafile=str(region.center_folder / "servers-ca.pem"))
    with (
        socket.create_connection((region.host, door), timeout=10) as plain,
        trusted.wrap_socket(plain, server_hostname=region.host) as made,
    ):
        yield made


def first_line(made):
    """Return the status line of the answer; empty where the line was cut."""
    try:
        return made.recv(4096).partition(b"\r\n")[0]
    except (ConnectionError, ssl.SSLError):
        return b""


def head(path=ENROL, *more):
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: center", *more, "", "")).encode()


CHUNK = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
RAW = {
    "a huge header": (head(ENROL, "X-Long: " + "a" * 200_000, "Content-Length: 0"), {400, 431}),
    "ten thousand headers": (
        head(ENROL, *(f"X-{no}: a" for no in range(10_000)), "Content-Length: 0"),
        {400, 431},
    ),
    "a huge path": (head("/" + "a" * 100_000, "Content-Length: 0"), {400, 404, 414}),
    "chunks over the cap": (
        head(ENROL, "Transfer-Encoding: chunked") + CHUNK * 8 + b"0\r\n\r\n",
        {413},
    ),
    "two lengths that differ": (
        head(ENROL, "Content-Length: 2", "Content-Length: 30") + b"{}",
        {400},
    ),
    "a length and chunks": (
        head(ENROL, "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        {400},
    ),
    "a negative length": (head(ENROL, "Content-Length: -1") + b"{}", {400}),
    "a length that is no number": (head(ENROL, "Content-Length: ten") + b"{}", {400}),
    "a chunk size that is no number": (
        head(ENROL, "Transfer-Encoding: chunked") + b"zz\r\n",
        {400},
    ),
    "a broken first line": (b"POST\r\n\r\n", {400}),
    "bytes that are no HTTP": (bytes(range(256)) * 4, {400}),
    "a NUL in a header": (head(ENROL, "X-Odd: a\x00b", "Content-Length: 2") + b"{}", {400}),
    "an upgrade": (
        head(ENROL, "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 2") + b"{}",
        {400, 405},
    ),
}


@pytest.mark.parametrize(("sent", "statuses"), RAW.values(), ids=RAW)
def test_what_is_no_http_is_refused_or_cut_off(region, door, logged, sent, statuses):
    with line(region, door) as made:
        try:
            made.sendall(sent)
        except (ConnectionError, ssl.SSLError):
            sent = b""  # cut off in the middle, as it may be
        told = first_line(made)
    assert told == b"" or int(told.split()[1]) in statuses, told
    assert serves(region, door)


def test_a_visitor_who_leaves_in_mid_word_leaves_no_trace_in_the_log(region, door, logged):
    for sent in (head(ENROL, "Content-Length: 100") + b'{"csr', b"POST /enr", b""):
        with line(region, door) as made:
            made.sendall(sent)
    with socket.create_connection((region.host, door), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: center\r\n\r\n")  # no TLS
        plain.recv(100)
    time.sleep(0.3)
    assert serves(region, door)


def serves(region, door):
    with line(region, door) as made:
        made.sendall(f"GET {NONCE} HTTP/1.1\r\nHost: center\r\n\r\n".encode())
        return first_line(made) == b"HTTP/1.1 200 OK"
