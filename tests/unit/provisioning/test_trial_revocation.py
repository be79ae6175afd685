"""A probe on the live list: whatever happens, the centre's own list is not lost."""

import os
import stat
from datetime import UTC, datetime, timedelta

import pytest

from ketang_contract.errors import BadInput
from ketang_provisioning import revocations
from ketang_provisioning.certificates import make_authority
from ketang_provisioning.keys import make_ec
from ketang_provisioning.trial_revocation import TrialRevocation

NOW = datetime.now(UTC)
AUTHORITY = make_authority("A", make_ec(), "clients", now=NOW, lasts=timedelta(days=9))


def made(number, *serials):
    return AUTHORITY.revocation_list([(one, NOW) for one in serials], now=NOW, number=number)


@pytest.fixture
def crl(tmp_path):
    path = tmp_path / "clients.crl"
    path.write_bytes(made(5, 77))
    return path


def held(crl):
    return revocations.read(crl.read_bytes(), [AUTHORITY.certificate])


def test_the_list_is_longer_for_a_while_and_then_what_it_was(crl):
    before = crl.read_bytes()
    with TrialRevocation(crl, [AUTHORITY]) as trial:
        trial.revoke(9)
        assert (held(crl).serials, held(crl).number) == ({77, 9}, 6)
        trial.revoke(10)
        assert held(crl).serials == {77, 9, 10}
    assert crl.read_bytes() == before
    assert [one.name for one in crl.parent.iterdir()] == ["clients.crl"]


def test_owner_and_mode_stay(crl):
    crl.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(crl, 1234, 4321)
    before = crl.stat()
    with TrialRevocation(crl, [AUTHORITY]) as trial:
        trial.revoke(9)
        about = crl.stat()
        assert stat.S_IMODE(about.st_mode) == 0o640
        assert (about.st_uid, about.st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(crl.stat().st_mode) == 0o640
    assert crl.stat().st_uid == before.st_uid


def test_what_the_centre_writes_between_reading_and_renaming_is_kept(crl):
    news = [made(50, 77, 78)]

    def centre():
        if news:
            crl.write_bytes(news.pop())

    with TrialRevocation(crl, [AUTHORITY], centre) as trial:
        trial.revoke(9)
        assert held(crl).serials == {77, 78, 9}
        assert held(crl).number == 51
    assert held(crl).serials == {77, 78}


def test_what_the_centre_wrote_during_the_check_is_not_undone(crl):
    with TrialRevocation(crl, [AUTHORITY]) as trial:
        trial.revoke(9)
        crl.write_bytes(newer := made(60, 77, 78))
    assert crl.read_bytes() == newer


def test_it_is_put_back_when_the_check_breaks_off(crl):
    before = crl.read_bytes()

    def broken_off():
        with TrialRevocation(crl, [AUTHORITY]) as trial:
            trial.revoke(9)
            assert crl.read_bytes() != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert crl.read_bytes() == before


def test_a_list_that_is_not_there_or_not_ours_is_a_mistake(crl):
    crl.write_bytes(b"-")
    with TrialRevocation(crl, [AUTHORITY]) as trial, pytest.raises(BadInput):
        trial.revoke(9)
    crl.unlink()
    with TrialRevocation(crl, [AUTHORITY]) as trial, pytest.raises(BadInput):
        trial.revoke(9)
