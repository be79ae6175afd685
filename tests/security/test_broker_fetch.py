"""A broker on another machine than the centre keeps its revocation list current by itself."""

from datetime import UTC, datetime

import pytest

from ketang_cli import broker_service
from ketang_cli.broker_fetch import Fetcher
from ketang_contract.enrolment import CRL
from ketang_contract.errors import BadInput
from ketang_provisioning.ca import ThrowawayAuthority
from ketang_provisioning.revocations import Revocations
from tests.regions import Region, now_ms
from tests.security.test_enrolment_attacks import running


@pytest.fixture
def region(tmp_path):
    made = Region(tmp_path)
    made.register(1)
    return made


def fetcher(region, target, servers_ca=None):
    return Fetcher(region.url + CRL, servers_ca or region.center_folder / "servers-ca.pem", target)


def test_the_list_comes_and_comes_again_when_somebody_was_thrown_out(region, tmp_path):
    target, clients = tmp_path / "clients.crl", region.center_folder / "clients-ca.pem"
    with running(region) as desk:
        fetch = fetcher(region, target).fetch
        assert fetch()
        kept = Revocations(target, clients, tmp_path / "copy")
        kept.open(datetime.now(UTC))
        before = kept.in_force.number
        desk.service.book.revoke("s1-pc-1", at_ms=now_ms(), why="stolen", by="test")
        desk.service.revocation_list.keep(now_ms() + 86_400_000 // 24)
        desk.service.revocation_list.keep(now_ms() + 2 * 86_400_000)
        assert fetch()
        kept.poll(datetime.now(UTC))
        assert kept.in_force.number >= before
        held = target.stat().st_mtime_ns
        assert fetch()
        assert target.stat().st_mtime_ns == held, "the same list is not written again"


def test_a_centre_that_is_not_ours_or_not_there_leaves_the_list_of_before(region, tmp_path, caplog):
    target = tmp_path / "clients.crl"
    target.write_bytes(b"of before")
    other = ThrowawayAuthority(tmp_path / "elsewhere")
    with running(region):
        stranger = fetcher(region, target, other.ca_file)
        assert not stranger.fetch()
        assert not stranger.fetch()
    assert not fetcher(region, target).fetch()
    assert target.read_bytes() == b"of before"
    assert caplog.text.count("broker.list_not_fetched") == 2, "each once"


def test_the_settings_want_https_and_the_authority(tmp_path):
    settings = broker_service.Settings("nats", "crl", "ca", "cert", "key")
    broker_service.write(tmp_path, settings)
    assert broker_service.read(tmp_path).crl_url == ""
    assert broker_service.read(tmp_path).refusals == str(tmp_path / "refusals.jsonl")
    file = tmp_path / broker_service.BROKER_TOML
    made = file.read_text()
    for more in (
        'crl_url = "http://c/x"\nservers_ca = "s"',
        'crl_url = "https://c/x"',
        'servers_ca = "s"',
    ):
        file.write_text(f"{made}{more}\n")
        with pytest.raises(BadInput, match="crl_url"):
            broker_service.read(tmp_path)
    file.write_text(f'{made}crl_url = "https://c/x"\nservers_ca = "s.pem"\nrefusals = "r/x"\n')
    said = broker_service.read(tmp_path)
    assert (said.servers_ca, said.refusals) == (str(tmp_path / "s.pem"), str(tmp_path / "r/x"))
