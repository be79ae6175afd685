"""Accounts, passwords and the door: equal work, bounded work, lock-outs that bind the source."""

import asyncio
import math
import threading
import time

import argon2
import pytest
from tests.web.seed import NOW_MS, PASSWORD, hash_of_the_password, offices, populate

from ketang_center.access import passwords
from ketang_center.access.accounts import BadAccount, name_of
from ketang_center.access.door import Door, Locked, NotLetIn
from ketang_center.access.passwords import Busy, Desk
from ketang_center.access.policy import Grant, Role


class Clock:
    now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


@pytest.fixture
def books(tmp_path):
    with offices(tmp_path) as found:
        populate(found["accounts"], [("ann", [(Role.VIEWER, "s1")]), ("ben", [])])
        yield found


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def door(books, clock):
    return Door(books["accounts"], books["audit"], books["security"], clock)


def enter(door, name, password, source="192.0.2.1"):
    return asyncio.run(door.enter(source, name, password))


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("seven wet umbrellas", None),
        ("十二个以上互不相同的汉字也行", None),
        ("eleven char", "short"),
        ("x" * 257, "long"),
        ("ann is a good name", "name"),
        ("ANN is a good name", "name"),
        ("passwordpassword", "common"),
        ("PasswordPassword", "common"),
        ("123456789012", "common"),
        ("aaaaaaaaaaaaaaaa", "common"),
        ("abababababababab", "common"),
    ],
)
def test_a_password_is_judged_by_length_name_and_the_commonest_alone(password, fault):
    assert passwords.fault_of(password, "ann") == fault


def test_first_passwords_pass_the_rule_and_never_repeat():
    made = {passwords.temporary() for _ in range(50)}
    assert len(made) == 50
    assert {passwords.fault_of(one, "administrator") for one in made} == {None}


def test_a_hash_is_argon2id_and_fits_however_the_characters_were_composed():
    kept = passwords.hashed("cafe\u0301 cafe\u0301 cafe\u0301")
    assert kept.startswith("$argon2id$")
    assert passwords.matches(kept, "café café café")
    assert not passwords.matches(kept, "cafe cafe cafe")
    assert not passwords.matches("", "")
    assert not passwords.matches("no hash at all", "x")


def test_an_account_is_kept_as_it_was_added_and_its_hash_is_not_shown(books):
    accounts = books["accounts"]
    one = accounts.get("ann")
    assert (one.display_name, one.grants) == ("Ann", (Grant(Role.VIEWER, "s1"),))
    assert one.password_hash not in repr(one)
    accounts.grant("ann", Grant(Role.VIEWER, "s1"))
    accounts.grant("ann", Grant(Role.ADMIN, "s2"))
    accounts.revoke("ann", Grant(Role.VIEWER, "s1"))
    assert accounts.get("ann").grants == (Grant(Role.ADMIN, "s2"),)
    assert accounts.all() == [accounts.get("ann"), accounts.get("ben")]
    accounts.set_disabled("ann", disabled=True)
    assert accounts.get("ann").actor.grants == ()


@pytest.mark.parametrize("name", ["", "a", "-x", "a b", "x" * 65, "a/b", "a\nb", "张三", "a'--"])
def test_what_can_be_no_name_is_refused(name):
    with pytest.raises(BadAccount):
        name_of(name)


def test_a_taken_name_a_strange_display_name_and_a_subject_linked_twice_are_refused(books):
    accounts = books["accounts"]
    for name, display, reason in (("ANN", "", "taken"), ("eve", "a\x00b", "display")):
        with pytest.raises(BadAccount) as caught:
            accounts.add(name, display, "", must_change=True, at_ms=0)
        assert caught.value.reason == reason
    accounts.link("ann", "https://idp", "7")
    with pytest.raises(BadAccount) as caught:
        accounts.link("ben", "https://idp", "7")
    assert caught.value.reason == "linked"
    assert accounts.linked("https://idp", "7").name == "ann"
    assert accounts.linked("https://other", "7") is None
    accounts.link("ann", "https://idp", "")
    assert accounts.linked("https://idp", "7") is None
    assert accounts.linked("", "") is None, "an account without a link is nobody's"


def test_each_thread_has_a_connection_of_its_own(books):
    found = []

    def look():
        found.append(books["accounts"].get("ann"))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [one.name for one in found] == ["ann"] * 4


def test_the_right_password_lets_in_and_any_other_does_not(door, books):
    assert enter(door, " Ann ", PASSWORD).name == "ann"
    for name, password in (("ann", PASSWORD + "x"), ("nobody", PASSWORD), ("", ""), ("'", "'")):
        with pytest.raises(NotLetIn):
            enter(door, name, password)
    books["accounts"].set_disabled("ann", disabled=True)
    with pytest.raises(NotLetIn):
        enter(door, "ann", PASSWORD)


def test_an_account_without_a_password_cannot_be_entered_by_one(door, books):
    books["accounts"].add("sso", "", "", must_change=False, at_ms=0)
    with pytest.raises(NotLetIn):
        enter(door, "sso", "")


def test_an_unknown_name_and_a_disabled_account_cost_the_same_work(door, books, monkeypatch):
    books["accounts"].set_disabled("ben", disabled=True)
    kept = []
    real = passwords.matches
    monkeypatch.setattr(passwords, "matches", lambda *said: kept.append(said[0]) or real(*said))
    names = ("ann", "ben", "nobody", "no name at all")
    least = dict.fromkeys(names, math.inf)
    # The least of a few: what else the process does at the time is nobody's work.
    for turn in range(3):
        for name in names:
            began = time.process_time()
            with pytest.raises(NotLetIn):
                enter(door, name, "wrong wrong wrong", f"192.0.2.{turn}")
            least[name] = min(least[name], time.process_time() - began)
    spent = least.values()
    assert len(kept) == 3 * len(names)
    assert min(spent) > max(spent) / 3, "one hash each, whatever the name"


def test_guessing_locks_the_source_and_never_the_account(door, books, clock):
    for _ in range(10):
        with pytest.raises(NotLetIn):
            enter(door, "ann", "wrong wrong wrong")
    for _ in range(3):
        with pytest.raises(Locked):
            enter(door, "ann", PASSWORD)
    assert enter(door, "ann", PASSWORD, "198.51.100.7").name == "ann"
    tallies = {one.what: one.ever for one in books["security"].tallies(0)}
    assert tallies == {"login_failed": 10, "login_locked": 3}
    acts = [one.action for one in books["audit"]]
    assert acts == ["login_failed"] * 10 + ["login_locked"], "a lock is audited once"
    clock.now_ms += 901_000
    assert enter(door, "ann", PASSWORD).name == "ann"


def test_a_success_of_ones_own_does_not_forgive_guesses_at_another(door):
    for _ in range(2):
        for _ in range(5):
            with pytest.raises(NotLetIn):
                enter(door, "ann", "wrong wrong wrong")
        enter(door, "ben", PASSWORD)
    with pytest.raises(Locked):
        enter(door, "ann", PASSWORD)
    assert enter(door, "ben", PASSWORD).name == "ben"


def test_guesses_sent_at_once_are_no_more_than_in_turn(door, books):
    async def flood():
        tries = [door.enter("192.0.2.1", "ann", f"wrong wrong {no}") for no in range(30)]
        return await asyncio.gather(*tries, return_exceptions=True)

    kinds = [type(one).__name__ for one in asyncio.run(flood())]
    assert (kinds.count("NotLetIn"), kinds.count("Locked")) == (10, 20)


def test_hashing_runs_two_at_once_off_the_loop_and_what_waits_is_bounded(monkeypatch):
    at_once, most = [], []
    lock = threading.Lock()

    def slow(kept, password):
        with lock:
            at_once.append(threading.current_thread().name)
            most.append(len(at_once))
        time.sleep(0.01)
        with lock:
            at_once.pop()
        return False

    monkeypatch.setattr(passwords, "matches", slow)

    async def flood():
        desk = Desk()
        return await asyncio.gather(
            *(desk.matches("", "x") for _ in range(60)), return_exceptions=True
        )

    found = asyncio.run(flood())
    assert max(most) == 2
    assert sum(isinstance(one, Busy) for one in found) == 20
    assert threading.main_thread().name not in at_once


def test_a_hash_of_yesterdays_parameters_is_made_anew_at_the_next_log_in(door, books):
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)
    books["accounts"].set_password("ann", old, must_change=False)
    enter(door, "ann", PASSWORD)
    kept = books["accounts"].get("ann").password_hash
    assert kept != old
    assert not passwords.outdated(kept)
    assert not passwords.outdated(hash_of_the_password())


def test_a_name_nobody_has_is_not_written_down(door, books):
    with pytest.raises(NotLetIn):
        enter(door, "my-secret-password", "x")
    assert [one.who for one in books["audit"]] == ["?"]
    assert [one.who for one in books["security"].recent()] == ["?"]
