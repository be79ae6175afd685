"""Certificates, judged by OpenSSL over real sockets: what is good gets in, all else stays out."""

import socket
import ssl
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from ketang_contract.errors import BadInput
from ketang_provisioning import keys
from ketang_provisioning.certificates import (
    Authority,
    certificate_pem,
    common_name,
    load_certificate,
    make_authority,
)

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
HOSTS = ("broker.example", "10.1.2.3", "fd00::1")


class Place:
    """Two authorities and what they made, as files."""

    def __init__(self, folder):
        self.folder = folder
        self.clients = make_authority("A clients CA", keys.make_ec(), "clients", now=NOW, lasts=DAY)
        self.servers = make_authority("A servers CA", keys.make_ec(), "servers", now=NOW, lasts=DAY)

    def pem(self, name, *certificates):
        path = self.folder / name
        path.write_bytes(b"".join(certificate_pem(one) for one in certificates))
        return path

    def files(self, name, key, certificate):
        keys.save_private(self.folder / f"{name}.key", key, None)
        return self.pem(f"{name}.pem", certificate), self.folder / f"{name}.key"

    def server(self, authority=None, **options):
        key = keys.make_ec()
        told = {"now": NOW, "lasts": DAY, **options}
        made = (authority or self.servers).issue_server("broker", key.public_key(), HOSTS, **told)
        return self.files("server", key, made)

    def client(self, authority=None, name="panel-1", **options):
        key = keys.make_ec()
        told = {"now": NOW, "lasts": DAY, **options}
        made = (authority or self.clients).issue_client(name, key.public_key(), **told)
        return self.files("client", key, made)

    def meet(self, server, client, *, trust=None, believe=None, crl=None, host=HOSTS[0]):
        """Let them meet. Return the name the server saw, and each side's refusal or None."""
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inside.verify_mode = ssl.CERT_REQUIRED
        inside.verify_flags |= ssl.VERIFY_X509_STRICT
        inside.load_cert_chain(*server)
        inside.load_verify_locations(believe or self.pem("believe.pem", self.clients.certificate))
        if crl:
            (self.folder / "crl.pem").write_bytes(crl)
            inside.load_verify_locations(self.folder / "crl.pem")
            inside.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        outside = ssl.create_default_context(
            cafile=trust or self.pem("trust.pem", self.servers.certificate)
        )
        outside.verify_flags |= ssl.VERIFY_X509_STRICT
        outside.load_cert_chain(*client)
        return _handshake(inside, outside, host)


def _handshake(inside, outside, host):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(10)
        seen = [None, None]

        def answer():
            link, _ = listener.accept()
            link.settimeout(10)
            with closing(link):
                try:
                    with inside.wrap_socket(link, server_side=True) as secured:
                        seen[0] = dict(one[0] for one in secured.getpeercert()["subject"])
                        secured.sendall(b"x")
                except (ssl.SSLError, ConnectionError) as problem:
                    seen[1] = str(problem)

        thread = threading.Thread(target=answer)
        thread.start()
        refused = None
        with closing(socket.create_connection(listener.getsockname(), 10)) as link:
            try:
                with outside.wrap_socket(link, server_hostname=host) as secured:
                    secured.recv(1)
            except (ssl.SSLError, ConnectionError) as problem:
                refused = str(problem)
        thread.join(20)
    return (seen[0] or {}).get("commonName"), refused, seen[1]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def disguised(authority, usage):
    """Whoever holds an authority's key may write any certificate with it, not only what we do."""
    name = common_name(authority.certificate)
    return make_authority(name, authority.key, usage, now=NOW, lasts=DAY)


@pytest.mark.parametrize("host", HOSTS)
def test_client_and_server_meet_under_every_name_of_the_server(place, host):
    assert place.meet(place.server(), place.client(), host=host) == ("panel-1", None, None)


def test_a_server_under_another_name_is_refused(place):
    _, refused, _ = place.meet(place.server(), place.client(), host="other.example")
    assert "mismatch" in refused.lower()


def test_a_stolen_clients_authority_makes_no_server_that_openssl_accepts(place):
    both = place.pem("both.pem", place.clients.certificate, place.servers.certificate)
    only = place.pem("only.pem", place.clients.certificate)
    server = place.server(disguised(place.clients, "servers"))
    for trust in (both, only):
        _, refused, _ = place.meet(server, place.client(), trust=trust)
        assert "certificate verify failed" in refused
    with pytest.raises(BadInput, match="makes no certificates for servers"):
        place.server(place.clients)


def test_a_stolen_servers_authority_makes_no_client_that_openssl_accepts(place):
    both = place.pem("both.pem", place.clients.certificate, place.servers.certificate)
    client = place.client(disguised(place.servers, "clients"))
    seen, _, refused = place.meet(place.server(), client, believe=both)
    assert seen is None
    assert "certificate verify failed" in refused
    with pytest.raises(BadInput, match="makes no certificates for clients"):
        place.client(place.servers)


def test_a_devices_own_certificate_does_not_make_it_a_server_nor_an_authority(place):
    key = keys.make_ec()
    made = place.clients.issue_client("panel-1", key.public_key(), now=NOW, lasts=DAY)
    device = place.files("device", key, made)
    both = place.pem("both.pem", place.clients.certificate, place.servers.certificate)
    assert place.meet(device, place.client(), trust=both)[1]
    below = Authority(disguised(Authority(made, key), "clients").certificate, key)
    other = keys.make_ec()
    leaf = below.issue_client("panel-2", other.public_key(), now=NOW, lasts=DAY)
    chain, own = place.files("chain", other, leaf)
    chain.write_bytes(certificate_pem(leaf) + certificate_pem(made))
    assert place.meet(place.server(), (chain, own))[0] is None


def test_an_authority_can_make_no_further_authorities(place):
    for one in (place.clients, place.servers):
        limits = one.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert limits.critical
        assert limits.value.path_length == 0


def test_an_expired_client_is_refused(place):
    client = place.client(now=NOW - 2 * DAY)
    assert "expired" in place.meet(place.server(), client)[2]


def test_a_clock_an_hour_slow_accepts_a_new_certificate(place):
    made = load_certificate(place.client()[0])
    assert made.not_valid_before_utc <= NOW - timedelta(minutes=59)


def test_a_revoked_client_is_refused_and_the_others_are_not(place):
    gone = place.client(name="panel-gone")
    serial = load_certificate(gone[0]).serial_number
    crl = place.clients.revocation_list([(serial, NOW), (serial, NOW)], now=NOW, number=7)
    assert "revoked" in place.meet(place.server(), gone, crl=crl)[2]
    assert place.meet(place.server(), place.client(), crl=crl) == ("panel-1", None, None)


def test_an_outdated_list_refuses_everybody(place):
    crl = place.clients.revocation_list([], now=NOW - 2 * DAY, lasts=DAY, number=1)
    assert "CRL has expired" in place.meet(place.server(), place.client(), crl=crl)[2]


def test_a_list_carries_its_number_and_whose_it_is(place):
    raw = place.clients.revocation_list([(5, NOW), (3, NOW)], now=NOW, number=9)
    found = x509.load_pem_x509_crl(raw)
    assert found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 9
    assert found.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
    assert found.is_signature_valid(place.clients.key.public_key())
    assert [one.serial_number for one in found] == [3, 5]
    assert found.next_update_utc - NOW >= timedelta(days=29, hours=23)


@pytest.mark.parametrize("name", ["+", "#", "", "Panel", "a.b", "_", "a/b", "x" * 65, "center_\n"])
def test_a_name_with_a_meaning_for_a_broker_gets_no_certificate(place, name):
    with pytest.raises(BadInput):
        place.client(name=name)


@pytest.mark.parametrize("host", ["", "a b", "-a", "*.example", "a..b", "http://a", "a:1", "a_b"])
def test_a_host_that_is_none_gets_no_certificate(place, host):
    public = keys.make_ec().public_key()
    with pytest.raises(BadInput):
        place.servers.issue_server("broker", public, [host], now=NOW, lasts=DAY)
    with pytest.raises(BadInput):
        place.servers.issue_server("broker", public, [], now=NOW, lasts=DAY)


def test_no_certificate_outlives_its_authority(place):
    public = keys.make_ec().public_key()
    made = place.clients.issue_client("panel-1", public, now=NOW, lasts=90 * DAY)
    assert made.not_valid_after_utc == place.clients.certificate.not_valid_after_utc
    with pytest.raises(BadInput, match="expired"):
        place.clients.issue_client("panel-1", public, now=NOW + 2 * DAY, lasts=DAY)


def test_an_authority_comes_back_from_its_files_and_only_with_its_own_key(place, tmp_path):
    path = place.pem("ca.pem", place.clients.certificate)
    keys.save_private(tmp_path / "ca.key", place.clients.key, b"right")
    assert Authority.load(path, tmp_path / "ca.key", b"right").certificate == (
        place.clients.certificate
    )
    keys.save_private(tmp_path / "other.key", place.servers.key, None)
    with pytest.raises(BadInput, match="not the key of"):
        Authority.load(path, tmp_path / "other.key", None)
    keys.save_private(tmp_path / "ed.key", keys.make_ed25519(), None)
    with pytest.raises(BadInput, match="P-256"):
        Authority.load(path, tmp_path / "ed.key", None)
