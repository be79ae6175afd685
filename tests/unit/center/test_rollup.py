"""The rollup worker over the real files."""

import sqlite3

from tests.web.fakes import row
from tests.web.seed import NOW_MS, TODAY, seeded

from ketang_center.metrics.rollup import RollupReader
from ketang_center.registry.calendars import HOUR_MS, day_starts_ms
from ketang_center.registry.values import Placement
from ketang_contract.records import Event, EventName, Usage


def dump(path):
    with sqlite3.connect(path) as db:
        return [
            db.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()  # noqa: S608
            for table in ("hour", "day")
        ]


def test_doing_it_again_changes_no_byte(tmp_path):
    with seeded(tmp_path) as (_, reading, rollup):
        first = dump(tmp_path / "rollup.db")
        assert rollup.step() == 0, "nothing is left dirty"
        for rows in list(reading.rows.values()):
            again = rows[::-1]
            rows.clear()
            reading.add(again[0].record.subject, *again)
        while rollup.step(7):
            pass
        assert dump(tmp_path / "rollup.db") == first


def test_late_data_restates_its_hour_and_its_day(tmp_path):
    with seeded(tmp_path) as (context, reading, rollup):
        before = context.rollups.days(TODAY)["s1-ifp-1", "s1"]
        at_ms = day_starts_ms(TODAY) + 2 * HOUR_MS
        reading.add("s1-ifp-1", row("s1-ifp-1", at_ms, Usage(window_s=300, active_s=300)))
        generation = context.rollups.generation()
        assert rollup.step() == 1
        after = context.rollups.days(TODAY)["s1-ifp-1", "s1"]
        assert after.lesson_used_s == before.lesson_used_s + 300
        assert context.rollups.generation() > generation


def test_a_bucket_that_changes_while_it_is_done_stays_dirty(tmp_path):
    with seeded(tmp_path) as (_, reading, rollup):
        at_ms = day_starts_ms(TODAY) + 2 * HOUR_MS
        reading.add("s1-ifp-1", row("s1-ifp-1", at_ms, Usage(window_s=300, active_s=300)))
        bucket = reading.bucket

        def meanwhile(*key):
            found = bucket(*key)
            reading.bucket = bucket
            reading.add("s1-ifp-1", row("s1-ifp-1", at_ms + 300_000, Usage(window_s=300)))
            return found

        reading.bucket = meanwhile
        assert rollup.step() == 1
        assert rollup.step() == 1
        assert rollup.step() == 0


def test_a_device_that_moves_takes_only_its_later_hours_along(tmp_path):
    with seeded(tmp_path) as (context, _, rollup):
        moved_ms = day_starts_ms(TODAY) + 11 * HOUR_MS
        context.registry.place(Placement(device="s1-ifp-1", room="s2-r1", from_ms=moved_ms))
        whole = context.rollups.days(TODAY)["s1-ifp-1", "s1"]
        rollup.step()
        days = context.rollups.days(TODAY)
        here, there = days["s1-ifp-1", "s1"], days["s1-ifp-1", "s2"]
        assert here.reported_s == 3 * 3600
        assert here.reported_s + there.reported_s == whole.reported_s


def test_a_gateways_child_has_figures_of_its_own(tmp_path):
    with seeded(tmp_path) as (context, reading, rollup):
        told = row("s1-ops-pc-1", NOW_MS, Event(name=EventName.WAKE), subject="s1-ifp-2")
        reading.add("s1-ops-pc-1", told)
        rollup.step()
        assert context.rollups.days(TODAY)["s1-ifp-2", "s1"].last_ms == NOW_MS


def test_what_a_device_of_another_school_says_of_a_subject_is_in_no_figure(tmp_path):
    with seeded(tmp_path) as (context, reading, rollup):
        usage = Usage(window_s=300, active_s=300)
        for teller in ("s2-ops-pc-1", "nobody"):
            reading.add(teller, row(teller, NOW_MS - HOUR_MS, usage, subject="s1-ifp-2"))
        rollup.step()
        assert ("s1-ifp-2", "s1") not in context.rollups.days(TODAY)
        came_ms = day_starts_ms(TODAY)
        context.registry.place(Placement(device="s2-ops-pc-1", room="s1-r2", from_ms=came_ms))
        rollup.step()
        found = context.rollups.days(TODAY)["s1-ifp-2", "s1"]
        assert found.active_s == 300, "a move entered late restates what it told of others"


def test_a_crash_before_the_marks_are_cleared_only_costs_doing_it_again(tmp_path):
    with seeded(tmp_path) as (_, reading, rollup):
        told = dump(tmp_path / "rollup.db")
        key = ("s1-ifp-1", "s1-ifp-1", NOW_MS // HOUR_MS)
        reading.marks[key] = reading.mark = reading.mark + 1
        rollup.step()
        assert dump(tmp_path / "rollup.db") == told


def test_a_fresh_reader_finds_what_was_written_before(tmp_path):
    with seeded(tmp_path) as (context, *_):
        told = context.rollups.days(TODAY)
    reader = RollupReader(tmp_path / "rollup.db")
    assert reader.days(TODAY) == told
    reader.close()
