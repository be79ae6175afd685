"""Lines that mosquitto 2.0.11 and nats-server 2.15.1 really wrote, and what they say."""

import pytest

from ketang_provisioning.broker_lines import Mosquitto, Nats, Said, lines_of
from ketang_provisioning.broker_log import Refusal, What

AT_MS = 1_795_520_581_000


def read(lines, text):
    found = [lines.take(one, AT_MS) for one in text.splitlines()]
    return [one for one in found if one is not None]


def short(refusal):
    assert refusal.at_ms == AT_MS
    return (refusal.what, refusal.who, refusal.source)


ENTERED = "New client connected from 127.0.0.1:50399 as panel-a (p2, c1, k30, u'panel-a')."


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (
            (
                "New connection from 127.0.0.1:33305 on port 27131.\n"
                "OpenSSL Error[0]: error:0A000086:SSL routines::certificate verify failed\n"
                "Client <unknown> disconnected: Protocol error."
            ),
            (What.BAD_CERTIFICATE, "", "127.0.0.1"),
        ),
        (
            (
                "New connection from ::1:48618 on port 27131.\n"
                "OpenSSL Error[0]: error:0A0000C7:SSL routines::peer did not return a certificate\n"
                "Client <unknown> disconnected: Protocol error."
            ),
            (What.NO_CERTIFICATE, "", "::1"),
        ),
        (
            (
                "Client connection from 127.0.0.1 failed: error:0A0000C7:SSL routines::peer did not"
                " return a certificate."
            ),
            (What.NO_CERTIFICATE, "", "127.0.0.1"),
        ),
        (
            "Client connection from 127.0.0.1 failed: error:0A00009C:SSL routines::http request.",
            (What.NOT_TLS, "", "127.0.0.1"),
        ),
        (
            (
                f"{ENTERED}\nDenied PUBLISH from panel-a (d0, q1, r1, m3,"
                " 'kt/v1/44/panel-b/up/birth', ... (1 bytes))"
            ),
            (What.FORBIDDEN_PUBLISH, "panel-a", "127.0.0.1"),
        ),
        (
            f"{ENTERED}\nReceived SUBSCRIBE from panel-a\n\t# (QoS 1)\npanel-a 1 #",
            (What.FORBIDDEN_SUBSCRIBE, "panel-a", "127.0.0.1"),
        ),
        (
            f"{ENTERED}\nWill message specified (1 bytes) (r0, q1).\n\tkt/v1/44/panel-b/up/death",
            (What.FORBIDDEN_PUBLISH, "panel-a", "127.0.0.1"),
        ),
        (
            "New client connected from ::1:41027 as center_other (p2, c1, k30, u'center_other').",
            (What.UNKNOWN_NAME, "center_other", "::1"),
        ),
        (
            f"{ENTERED}\nClient panel-a disconnected due to oversize packet.",
            (What.OVERSIZED, "panel-a", "127.0.0.1"),
        ),
        (
            (
                "New connection from 127.0.0.1:56377 on port 27131.\n"
                "Client <unknown> disconnected due to protocol error."
            ),
            (What.BAD_CLIENT, "", "127.0.0.1"),
        ),
    ],
)
def test_mosquitto_says_whom_it_refused(said, what):
    [found] = read(Mosquitto(), said)
    assert isinstance(found, Refusal)
    assert found.broker == "mosquitto"
    assert short(found) == what


def test_the_honest_life_of_a_client_is_no_refusal_at_mosquitto():
    said = f"""\
mosquitto version 2.0.11 starting
Config loaded from mosquitto.conf.
Opening ipv6 listen socket on port 27131.
New connection from 127.0.0.1:50399 on port 27131.
{ENTERED}
Will message specified (1 bytes) (r0, q1).
\tkt/v1/94/panel-a/up/death
Sending CONNACK to panel-a (0, 0)
Received SUBSCRIBE from panel-a
\tkt/v1/94/panel-a/dn/# (QoS 1)
panel-a 1 kt/v1/94/panel-a/dn/#
Sending SUBACK to panel-a
New client connected from 127.0.0.1:59485 as center_ingest (p2, c1, k30, u'center_ingest').
center_ingest 1 kt/v1/+/+/up/#
Received PUBLISH from panel-a (d0, q1, r0, m2, 'kt/v1/94/panel-a/up/live', ... (6 bytes))
Sending PUBLISH to center_ingest (d0, q1, r0, m1, 'kt/v1/94/panel-a/up/live', ... (6 bytes))
Sending PUBACK to panel-a (m2, rc0)
Received PUBACK from center_ingest (Mid: 1, RC:0)
Client panel-a already connected, closing old connection.
OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading
Client panel-a closed its connection.
Client connection from 127.0.0.1 failed: error:0A000418:SSL routines::tlsv1 alert unknown ca.
Client connection from ::1 failed: error:0A000126:SSL routines::unexpected eof while reading.
Saving in-memory database to store/mosquitto.db."""
    assert read(Mosquitto(), said) == []


def test_what_an_operator_must_see_is_passed_on_and_readiness_is_told():
    said = """\
mosquitto version 2.0.11 running
Error: Unable to load certificate revocation file "clients.crl". Check crlfile.
OpenSSL Error[0]: error:0480006C:PEM routines::no start line
Outgoing messages are being dropped for client center_ingest."""
    found = read(lines_of("mosquitto"), said)
    assert all(isinstance(one, Said) for one in found)
    assert [one.ready for one in found] == [True, False, False, False]
    said = """\
[28534] 2026/11/24 11:44:32.136318 [INF] Server is ready
[28534] [WRN] JetStream resource limits exceeded for server
[28534] [INF] Starting JetStream"""
    assert read(lines_of("nats"), said) == [
        Said("Server is ready", ready=True),
        Said("JetStream resource limits exceeded for server"),
    ]


def test_with_two_sources_in_the_door_mosquitto_names_neither():
    said = """\
New connection from ::1:1 on port 8883.
New connection from 127.0.0.1:2 on port 8883.
OpenSSL Error[0]: error:0A000086:SSL routines::certificate verify failed
Client <unknown> disconnected: Protocol error."""
    [found] = read(Mosquitto(), said)
    assert found.source == ""


VERIFY = "TLS handshake error: tls: failed to verify certificate: x509: certificate "


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (
            (
                "127.0.0.1:33985 - mid:7 - TLS handshake error: tls: client didn't provide a"
                " certificate"
            ),
            (What.NO_CERTIFICATE, "", "127.0.0.1"),
        ),
        (
            f"127.0.0.1:50693 - mid:8 - {VERIFY}signed by unknown authority (CN=panel-a)",
            (What.FOREIGN_CERTIFICATE, "", "127.0.0.1"),
        ),
        (
            f"[::1]:47725 - mid:9 - {VERIFY}has expired or is not yet valid: (CN=panel-a)",
            (What.EXPIRED_CERTIFICATE, "", "::1"),
        ),
        (
            f"127.0.0.1:45419 - mid:10 - {VERIFY}specifies an incompatible key usage (CN=srv)",
            (What.WRONG_CERTIFICATE, "", "127.0.0.1"),
        ),
        (
            (
                '127.0.0.1:54765 - mid:13 - "panel-a" - Publish Violation - Subject'
                ' "kt.v1.44.panel-b.up.birth"'
            ),
            (What.FORBIDDEN_PUBLISH, "panel-a", "127.0.0.1"),
        ),
        (
            '127.0.0.1:54765 - mid:13 - "panel-a" - Subscription Violation - Subject ">", SID >',
            (What.FORBIDDEN_SUBSCRIBE, "panel-a", "127.0.0.1"),
        ),
        (
            '127.0.0.1:54765 - mid:13 - "panel-a" - maximum payload exceeded: 1048611 vs 1048576',
            (What.OVERSIZED, "panel-a", "127.0.0.1"),
        ),
        (
            '127.0.0.1:59227 - mid:43 - "a b\\x01é" - invalid character in client ID "a b\\x01é"',
            (What.BAD_CLIENT, "a b\\x01é", "127.0.0.1"),
        ),
        (
            "127.0.0.1:55178 - mid:56 - the first packet should be a CONNECT (16), got 48",
            (What.BAD_CLIENT, "", "127.0.0.1"),
        ),
        ("[::1]:5 - cid:9 - authentication error", (What.BAD_CLIENT, "", "::1")),
    ],
)
def test_nats_says_whom_it_refused(said, what):
    for begins in ("[28534] 2026/11/24 11:44:32.461225 [ERR] ", "[28534] [ERR] "):
        [found] = read(Nats(), begins + said)
        assert isinstance(found, Refusal)
        assert short(found) == what


def test_what_the_doorkeeper_counts_is_not_counted_again_nor_what_nobody_did():
    said = """\
[1] [ERR] 127.0.0.1:53143 - mid:11 - "center_other" - authentication error
[1] [WRN] Auth callout service returned an error: the common name is no device id
[1] [ERR] 127.0.0.1:53143 - mid:11 - "center_other" - unable to connect: authentication error
[1] [ERR] 127.0.0.1:55164 - mid:54 - TLS handshake error: EOF
[1] [ERR] 127.0.0.1:55188 - mid:58 - TLS handshake error: local error: tls: bad record MAC
[1] [WRN] 127.0.0.1:5 - mid:47 - "panel-d" - Replacing old client "127.0.0.1:3 - mid:45"
[1] [WRN] Clients that are not using "TLS Handshake First" option will fail to connect"""
    assert read(Nats(), said) == []


@pytest.mark.parametrize("lines", [Mosquitto, Nats])
@pytest.mark.parametrize(
    "line", ["", "\t", "\x00" * 300, "Denied PUBLISH from ", "[1] [ERR] ", "é"]
)
def test_no_line_is_too_strange(lines, line):
    lines().take(line, AT_MS)
