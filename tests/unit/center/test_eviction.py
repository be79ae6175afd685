"""Who is barred is thrown out until that is shown; here the broker is away, so nothing is shown."""

import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from ketang_center.enrolment import eviction
from ketang_center.enrolment.bans import Bans
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.eviction import Evictor
from ketang_center.enrolment.own_identity import OwnIdentity
from ketang_center.enrolment.service import RevocationList
from ketang_center.enrolment.values import Certificate
from ketang_center.ingest.subscriber import Ear
from ketang_center.security import SecurityLog
from ketang_cli.local_broker import free_port
from ketang_provisioning.certificates import certificate_pem, make_authority
from ketang_provisioning.keys import make_ec, private_pem

DAY_MS = 86_400_000
PATIENCE_S = 30
NOW_MS = int(datetime.now(UTC).timestamp() * 1000)


class Place:
    def __init__(self, folder):
        self.book = Book(folder / "enrolment.db")
        self.security = SecurityLog(folder / "security.db")
        self.now_s, self.connected = 1000.0, set()
        now, lasts = datetime.now(UTC), timedelta(days=3650)
        authority = make_authority("clients CA", make_ec(), "clients", now=now, lasts=lasts)
        self.authority = authority
        ca = folder / "ca.pem"
        ca.write_bytes(certificate_pem(authority.certificate))
        self.evictor = Evictor(
            Ear("127.0.0.1", free_port("127.0.0.1"), ca, ca, ca),
            self.book,
            authority,
            self.security,
            lambda *_: None,
            monotonic_s=lambda: self.now_s,
            connected=lambda devices: self.connected & set(devices),
        )

    def bar(self, *devices, at_ms=NOW_MS):
        for one in devices:
            self.book.revoke(one, at_ms=at_ms, why="lost", by="test")

    def tries(self, *, after_s=0.0):
        """Make a round; how often each device was tried, in all."""
        self.now_s += after_s
        self.evictor.keep(NOW_MS)
        return {who: count for _, who, count, _ in self.security.named(0)}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(eviction, "_PATIENCE_S", 0.1)
    made = Place(tmp_path)
    with made.book, closing(made.security):
        yield made


def test_a_round_tries_two_and_no_more(place):
    place.bar("a", "b", "c")
    assert place.tries() == {"a": 1, "b": 1}
    assert place.tries() == {"a": 1, "b": 1, "c": 1}
    assert place.tries() == {"a": 1, "b": 1, "c": 1}


def test_one_that_failed_is_tried_again_less_and_less_often_though_it_says_nothing(place):
    place.bar("a")
    counts = [place.tries()["a"]]
    counts += [place.tries(after_s=10)["a"] for _ in range(360)]
    assert counts[1] == 2
    assert 8 <= counts[-1] <= 12, "an hour: 10 s, 20 s, and so on up to 10 minutes"


def test_one_that_is_heard_is_tried_sooner(place):
    place.bar("a")
    for _ in range(6):
        before = place.tries(after_s=700)["a"]
    place.evictor.heard("a")
    assert place.tries()["a"] == before
    assert place.tries(after_s=10)["a"] == before + 1


def test_bars_of_before_the_start_count_where_they_are_fresh_or_the_device_is_connected(place):
    place.bar("old", "old-and-connected", at_ms=NOW_MS - 9 * DAY_MS)
    place.bar("fresh", at_ms=NOW_MS - DAY_MS // 2)
    place.connected = {"old-and-connected", "another"}
    assert place.tries().keys() == {"fresh", "old-and-connected"}


def test_bars_that_came_back_after_a_restore_count_too(place):
    place.bar("first")
    place.tries()
    place.connected = {"came-back"}
    place.bar("came-back", "came-back-too", at_ms=NOW_MS - 9 * DAY_MS)
    assert place.tries().keys() == {"first", "came-back"}


def test_a_bar_of_a_clock_that_was_ahead_is_enforced_and_tried_again(place):
    place.bar("a", at_ms=NOW_MS + 365 * DAY_MS)
    assert place.tries()["a"] == 1
    assert place.tries(after_s=10)["a"] == 2


class Clock:
    """The centre's, and the lists and the pair it makes by it."""

    def __init__(self, place, folder):
        self.place, self.file, self.pair = place, folder / "clients.crl", folder / "pair.pem"
        self.lists = RevocationList(place.book, [place.authority], [self.file])
        self.own = OwnIdentity(self.pair, place.authority, lambda: None)

    def number(self, at_ms):
        """Let the list be kept at a moment; its number."""
        self.lists.keep(at_ms)
        made = x509.load_pem_x509_crl(self.file.read_bytes())
        return made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def make_pair(self, at_ms):
        key = make_ec()
        now = datetime.fromtimestamp(at_ms / 1000, UTC)
        made = self.place.authority.issue_client(
            "center_ingest", key.public_key(), now=now, lasts=timedelta(days=90)
        )
        self.pair.write_bytes(private_pem(key, None) + certificate_pem(made))


@pytest.fixture
def clock(place, tmp_path):
    return Clock(place, tmp_path)


def test_a_clock_that_was_set_back_makes_a_new_list_and_a_new_identity(clock):
    ahead = NOW_MS + 700 * DAY_MS
    assert clock.lists.keep(ahead)
    assert clock.lists.keep(NOW_MS)
    assert not clock.lists.keep(NOW_MS + 1000)
    assert clock.lists.keep(NOW_MS + DAY_MS), "and daily"
    clock.make_pair(ahead)
    assert clock.own.keep(NOW_MS)
    assert not clock.own.keep(NOW_MS)


def test_a_lists_number_grows_whatever_the_clock_and_the_backup_say(clock, tmp_path):
    numbers = [clock.number(NOW_MS + day * DAY_MS) for day in (0, 1, 700, 2, 3)]
    assert numbers == sorted(set(numbers))
    before = clock.number(NOW_MS + 4 * DAY_MS)
    with Book(tmp_path / "restored.db") as book:  # of before the first list
        again = RevocationList(book, [clock.place.authority], [clock.file])
        clock.lists = again
        assert clock.number(NOW_MS + 800 * DAY_MS) > before


def test_after_a_restore_a_lists_number_does_not_go_back(clock, tmp_path):
    with Book(tmp_path / "backup.db") as book:
        for minute in range(5):
            clock.place.book.rows.put(revoked(f"a{minute}"))
            before = clock.number(NOW_MS + minute * 60_000)
        clock.lists = RevocationList(book, [clock.place.authority], [clock.file])
        assert clock.number(NOW_MS + 10 * 60_000) > before


def test_the_list_is_for_every_account_to_read(clock):
    clock.lists.keep(NOW_MS)
    assert clock.file.stat().st_mode & 0o777 == 0o644


def test_certificates_are_looked_through_only_when_something_changed(clock, monkeypatch):
    looks = []
    book = clock.place.book
    found = book.revoked_certificates
    monkeypatch.setattr(
        book, "revoked_certificates", lambda at_ms: looks.append(at_ms) or found(at_ms)
    )
    for second in range(60):
        clock.lists.keep(NOW_MS + second * 1000)
    assert len(looks) == 1
    clock.place.bar("a")
    clock.lists.keep(NOW_MS + 60_000)
    assert len(looks) == 2


def _pem():
    now, lasts = datetime.now(UTC), timedelta(days=9)
    made = make_authority("another", make_ec(), "clients", now=now, lasts=lasts)
    return certificate_pem(made.certificate).decode()


def revoked(serial):
    return Certificate(
        serial=serial,
        device="pc-1",
        key_id="f" * 64,
        pem=_pem(),
        from_ms=NOW_MS,
        until_ms=NOW_MS + 90 * DAY_MS,
        revoked_ms=NOW_MS,
    )


def test_ingest_does_not_wait_for_a_page_that_holds_the_book(place, tmp_path):
    """The console writes while another process holds the audit log: its book waits with it."""
    holds, ended = threading.Event(), threading.Event()

    def page():
        with place.book.transaction():
            holds.set()
            ended.wait(PATIENCE_S)

    with Book(tmp_path / "enrolment.db") as own:
        bans = Bans(own, time.monotonic)
        place.bar("a")
        thread = threading.Thread(target=page)
        thread.start()
        try:
            assert holds.wait(PATIENCE_S)
            assert "a" in bans
            assert thread.is_alive(), "the page holds it still"
        finally:
            ended.set()
            thread.join()
