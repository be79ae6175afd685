"""Commands and their answers: the closed list, the ten minutes, an archive bound to its line."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_contract.commands import (
    ENDS,
    MAX_ARCHIVE_BYTES,
    Answer,
    Archive,
    Command,
    Countdown,
    InventoryRead,
    Probed,
    State,
    What,
    check_archive,
    payload,
    split_answer,
    write_answer,
)
from ketang_contract.errors import Refused
from ketang_contract.records import Family
from ketang_contract.validate import document, signed


def command(what=What.READ_INVENTORY, **changes):
    said = {"device": "d-1", "job": "j-1", "who": "li", "issued_s": 1000, "expires_s": 1600}
    return Command(what=what, **(said | changes))


def archived(content, **changes):
    said = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} | changes
    return Answer(job="j-1", state=State.DONE, result=Archive(**said))


@pytest.mark.parametrize("what", What)
def test_every_command_is_read_back_as_it_was_written(what):
    made = command(what, countdown_s=60 if what is What.SHUT_DOWN else None)
    assert signed(Command, payload(made)) == made


def test_the_list_is_closed_and_holds_no_program():
    assert {one.value for one in What} == {
        "read_inventory",
        "network_probe",
        "restart_agent",
        "diagnostics",
        "shut_down",
    }
    assert set(Command.__dataclass_fields__) == {
        "device", "job", "what", "who", "issued_s", "expires_s", "countdown_s"
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_s": 1601},
        {"expires_s": 1000},
        {"expires_s": 999},
        {"countdown_s": 60},
        {"what": What.SHUT_DOWN},
    ],
)
def test_a_command_that_holds_too_long_or_counts_for_nothing_cannot_be_made(changes):
    with pytest.raises(ValueError, match=r"at most 600|countdown"):
        command(**changes)


@pytest.mark.parametrize(
    "result",
    [
        None,
        InventoryRead(recorded=True),
        Probed(family=Family.V6, rtt_ms=1, dns_ms=0, connect_ms=2),
        Probed(),
        Countdown(seconds=60, desktop=True),
    ],
)
@pytest.mark.parametrize("state", State)
def test_every_answer_is_one_line_that_is_read_back(state, result):
    made = Answer(job="j-1", state=state, reason="x" if state in ENDS else "", result=result)
    line, archive = split_answer(write_answer(made))
    assert archive == b""
    assert document(Answer, line) == made


@given(st.binary(min_size=1, max_size=2000))
def test_whatever_an_archive_holds_it_comes_apart_as_it_was_put_together(content):
    line, archive = split_answer(write_answer(archived(content), content))
    assert archive == content
    check_archive(document(Answer, line), archive)


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (archived(b"abc"), b"abd"),
        (archived(b"abc"), b"ab"),
        (archived(b"abc"), b""),
        (archived(b"abc", bytes=4), b"abc"),
        (Answer(job="j-1", state=State.DONE), b"abc"),
        (Answer(job="j-1", state=State.FAILED, result=archived(b"abc").result), b"abc"),
    ],
)
def test_an_archive_that_is_not_the_one_named_is_refused(answer, content):
    with pytest.raises(Refused, match="archive"):
        check_archive(answer, content)


def test_what_is_too_large_is_refused_before_it_is_read():
    for raw in (b"x" * 5000, b"{}\n" + b"x" * (MAX_ARCHIVE_BYTES + 1)):
        with pytest.raises(Refused):
            split_answer(raw)
