"""Who connects and says nothing, or not all of it, keeps nobody else from enrolling."""

import socket
import ssl
import time
from contextlib import ExitStack, suppress

import pytest

from ketang_center.enrolment import connections
from ketang_contract.enrolment import ENROL, NONCE
from tests.regions import Region
from tests.security.test_enrolment_attacks import running

STRANGER = "127.0.0.2"


@pytest.fixture
def region(tmp_path):
    made = Region(tmp_path)
    made.register(1)
    return made


class Crowd:
    """Connections of a stranger who shares no address with anybody."""

    def __init__(self, region):
        self.region = region
        self.context = ssl.create_default_context(
            cafile=str(region.center_folder / "servers-ca.pem")
        )
        self.held = []

    def connect(self, *, tls=True):
        """Connect; false where the service hung up."""
        made = socket.create_connection(
            (self.region.host, self.region.enrol_port), 5, source_address=(STRANGER, 0)
        )
        self.held.append(made)
        if not tls:
            return True
        try:
            self.held[-1] = self.context.wrap_socket(made, server_hostname=self.region.host)
        except (OSError, ssl.SSLError):
            return False
        return True

    def closed_after_s(self, no, patience_s=15.0):
        """How long until the service hangs up on one."""
        began_s = time.monotonic()
        self.held[no].settimeout(patience_s)
        try:
            while self.held[no].recv(4096):
                pass
        except TimeoutError:
            return patience_s
        except OSError:
            pass
        return time.monotonic() - began_s

    def close(self):
        for one in self.held:
            one.close()


@pytest.fixture
def crowd(region):
    made = Crowd(region)
    with ExitStack() as stack:
        stack.callback(made.close)
        yield made


def test_a_stranger_with_hundreds_of_silent_connections_locks_nobody_out(region, crowd):
    with running(region) as desk:
        entered = sum(crowd.connect() for _ in range(200))
        assert entered == connections.MOST_OF_SOURCE
        assert desk.send(NONCE, None, "GET")[0] == 200
        crowd.close()
        time.sleep(1.2)
        assert desk.send(NONCE, None, "GET")[0] == 200
        assert desk.counted("enrol_connections") == 200 - entered, "and it is in the log"


def test_connections_without_a_handshake_are_counted_too(region, crowd):
    with running(region) as desk:
        for _ in range(connections.MOST_OF_SOURCE):
            crowd.connect(tls=False)
        assert desk.send(NONCE, None, "GET")[0] == 200
        assert not crowd.connect()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET ",
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{" % ENROL.encode(),
    ],
)
def test_a_request_that_is_never_whole_is_hung_up_on(region, crowd, monkeypatch, said):
    monkeypatch.setattr(connections, "REQUEST_S", 1.0)
    with running(region) as desk:
        assert crowd.connect()
        if said:
            crowd.held[0].sendall(said)
        assert crowd.closed_after_s(0) < 4
        assert desk.send(NONCE, None, "GET")[0] == 200


def test_a_second_request_that_trickles_in_is_hung_up_on(region, crowd, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_S", 1.5)
    with running(region):
        assert crowd.connect()
        crowd.held[0].sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % NONCE.encode())
        assert crowd.held[0].recv(4096).startswith(b"HTTP/1.1 200")
        said, until_s = 0, time.monotonic() + 8
        with suppress(ConnectionError, ssl.SSLError):
            while time.monotonic() < until_s:
                crowd.held[0].sendall(b"G")
                said += 1
                time.sleep(0.2)
        assert 1 < said < 30


def test_no_connection_lasts_longer_than_its_life(region, crowd, monkeypatch):
    monkeypatch.setattr(connections, "LIFE_S", 1.0)
    with running(region):
        assert crowd.connect()
        assert crowd.closed_after_s(0) < 4


def test_it_ends_in_time_whoever_is_in_the_middle_of_a_request(region, crowd, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_S", 60.0)
    with running(region):
        assert crowd.connect()
        crowd.held[0].sendall(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{" % ENROL.encode()
        )
        time.sleep(0.3)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 9
