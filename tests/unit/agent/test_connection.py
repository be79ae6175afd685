"""One MQTT connection: what it leaves open, and that neither its start nor its end can hang."""

import gc
import resource
import socket
import ssl
import threading
from contextlib import contextmanager
from pathlib import Path

from ketang_agent.uplink.client import Broker, Connected, Connection, Lost, tls_context
from ketang_provisioning.ca import ThrowawayAuthority

PATIENCE_S = 30
FILES = Path("/proc/self/fd")
CONNACK = b"\x20\x02\x00\x00"


def connection(broker, bell, context=None):
    context = context or ssl.create_default_context()
    return Connection(broker, context, "panel-1", ("t", b"gone"), bell.set)


def nowhere():
    return Broker("127.0.0.1", 1, None, None, None)


def happening(one, bell, kind):
    assert bell.wait(PATIENCE_S)
    [said] = one.happenings()
    assert isinstance(said, kind), said
    return said


def test_tries_that_fail_leave_no_file_open_even_before_garbage_is_collected():
    context, before = ssl.create_default_context(), len(list(FILES.iterdir()))
    gc.disable()
    try:
        for _ in range(20):
            bell = threading.Event()
            one = connection(nowhere(), bell, context)
            one.start()
            happening(one, bell, Lost)
            for thread in threading.enumerate():
                if thread.name.startswith("paho"):
                    thread.join(PATIENCE_S)
            one.close()
            del one
        assert len(list(FILES.iterdir())) <= before
    finally:
        gc.enable()


def test_a_process_that_may_open_no_more_files_is_told_so_as_a_lost_connection():
    bell = threading.Event()
    one = connection(nowhere(), bell)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        one.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "cannot begin" in happening(one, bell, Lost).reason
    one.close()


@contextmanager
def deaf_broker(authority):
    """Accepts one device, and from then on takes nothing from it."""
    identity = authority.server("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    over = threading.Event()

    def serve(listening):
        taken, _ = listening.accept()
        with context.wrap_socket(taken, server_side=True) as visit:
            visit.recv(4096)
            visit.sendall(CONNACK)
            over.wait(4 * PATIENCE_S)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_a_broker_that_takes_nothing_any_more_does_not_hold_up_the_end(tmp_path):
    authority = ThrowawayAuthority(tmp_path)
    client = authority.client("panel-1")
    with deaf_broker(authority) as port:
        broker = Broker("127.0.0.1", port, client.ca_file, client.certificate_file, client.key_file)
        bell = threading.Event()
        one = connection(broker, bell, tls_context(broker))
        one.start()
        happening(one, bell, Connected)
        one.publish("t", bytes(32 << 20))
        ending = threading.Thread(target=one.finish)
        ending.start()
        ending.join(PATIENCE_S)
        assert not ending.is_alive()
