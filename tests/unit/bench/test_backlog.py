"""The backlog a drain starts from: real records, as many as asked for, all of them in the past."""

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_bench import backlog
from ketang_contract import validate
from ketang_contract.records import to_line

NOW = Instant(1_790_000_000_000, 100_000_000, "boot")


def test_every_record_is_one_the_centre_accepts_and_no_two_are_alike():
    made = list(backlog.records(500, "gateway", NOW))
    lines = {to_line(one) for one in made}
    assert len(lines) == 500
    assert [validate.record(to_line(one)) for one in made] == made
    assert all(one.wall_ms < NOW.wall_ms for one in made)
    assert len({one.subject for one in made}) == backlog.SUBJECTS


def test_the_spool_holds_exactly_what_was_asked_for(tmp_path):
    backlog.fill(tmp_path / "spool.db", 7_001, "gateway", NOW)
    with Spool(tmp_path / "spool.db") as spool:
        assert sum(len(spool.pending(lane)) for lane in spool.lanes()) == 7_001
