import logging
from datetime import UTC, datetime, timedelta

import pytest

from ketang_contract.errors import BadInput
from ketang_provisioning import certificates, keys
from ketang_provisioning.ca import ThrowawayAuthority
from ketang_provisioning.revocations import Revocations, read

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path):
    return ThrowawayAuthority(tmp_path / "keys")


@pytest.fixture
def kept(tmp_path, authority):
    made = Revocations(tmp_path / "clients.crl", authority.ca_file, tmp_path / "copy.crl")
    made.source = tmp_path / "clients.crl"
    put(made, authority, [5])
    made.open(NOW)
    return made


def a_list(authority, serials=(), *, now=NOW, number=1, **options):
    return authority.clients.revocation_list(
        [(one, now) for one in serials], now=now, number=number, **options
    )


def put(kept, authority, serials, **options):
    kept.source.write_bytes(a_list(authority, serials, **options))


def test_a_newer_list_comes_into_force_and_is_told_once(kept, authority):
    assert kept.is_revoked(5)
    assert not kept.is_revoked(6)
    assert not kept.poll(NOW)
    put(kept, authority, [5, 6], number=2)
    assert kept.poll(NOW)
    assert kept.is_revoked(6)
    assert not kept.poll(NOW)


def test_no_list_lets_nobody_in(tmp_path, authority):
    kept = Revocations(tmp_path / "none.crl", authority.ca_file, tmp_path / "copy.crl")
    assert kept.is_revoked(1)
    with pytest.raises(BadInput, match="nobody may come in"):
        kept.open(NOW)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept, authority: kept.source.unlink(),
        lambda kept, authority: kept.source.write_bytes(b"junk"),
        lambda kept, authority: kept.source.write_bytes(b""),
        lambda kept, authority: kept.source.write_bytes(a_list(authority, [5])[:-30]),
        lambda kept, authority: put(kept, authority, [], number=0),
        lambda kept, authority: put(kept, authority, [], now=NOW + DAY),
        lambda kept, authority: kept.source.write_bytes(
            a_list(ThrowawayAuthority(kept.source.parent / "other"), [], number=9)
        ),
    ],
)
def test_what_is_no_newer_list_of_ours_changes_nothing_and_is_told_once(
    kept, authority, spoil, caplog
):
    spoil(kept, authority)
    assert not kept.poll(NOW)
    assert not kept.poll(NOW)
    assert kept.is_revoked(5)
    assert not kept.is_revoked(6)
    told = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert len(told) == 1
    put(kept, authority, [5, 6], number=2)
    assert kept.poll(NOW)


def test_the_copy_serves_when_the_source_is_gone_at_the_next_start(kept, authority):
    kept.source.unlink()
    again = Revocations(kept.source, authority.ca_file, kept.source.with_name("copy.crl"))
    again.open(NOW)
    assert again.is_revoked(5)


def test_an_old_list_stays_in_force_and_is_complained_of_every_hour(kept, authority, caplog):
    levels = []
    for days, hours in ((1, 0), (4, 0), (4, 0.5), (4, 1), (31, 0), (31, 0.5)):
        caplog.clear()
        kept.poll(NOW + days * DAY + timedelta(hours=hours))
        levels += [one.levelname for one in caplog.records]
    assert levels == ["ERROR", "ERROR", "CRITICAL"]
    assert kept.is_revoked(5)
    assert not kept.is_revoked(6)


def test_with_two_authorities_each_must_have_its_list(authority):
    other = certificates.make_authority("Next", keys.make_ec(), "clients", now=NOW, lasts=DAY)
    both = [authority.clients.certificate, other.certificate]
    one = a_list(authority, [5])
    two = other.revocation_list([(6, NOW)], now=NOW, number=7)
    found = read(one + two, both)
    assert found.serials == {5, 6}
    assert found.number == 7
    with pytest.raises(BadInput, match="one list from each"):
        read(one, both)
    with pytest.raises(BadInput, match="no others"):
        read(one + two, both[:1])
