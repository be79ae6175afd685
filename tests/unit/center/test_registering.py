"""Pre-registration: all of a list or nothing, the same again changes nothing, ids stay."""

import re
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.center.schools import registry_data

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.registering import check, device_id, register
from ketang_center.registry.database import Registry
from ketang_center.registry.imports import BadRows, read_rows
from ketang_center.registry.values import Device, Kind, Level, Placement, ServiceState, Unit

NOW = 1_800_000_000_000
HEADER = "school,asset,room,kind,serial,name,shared"


@pytest.fixture
def registry(tmp_path):
    with Registry(tmp_path / "registry.db") as found:
        found.load(registry_data())
        yield found


@pytest.fixture
def book(tmp_path):
    with Book(tmp_path / "enrolment.db") as found:
        yield found


def rows(*lines):
    return read_rows("\n".join([HEADER, *lines]).encode(), "list.csv")


def do(registry, book, *lines, now_ms=NOW, add_rooms=False):
    return register(registry, book, rows(*lines), now_ms, add_rooms=add_rooms)


def counts(done):
    return done.added, done.changed, done.unchanged, done.rooms


def refused(registry, book, *lines, add_rooms=False):
    before = registry.revision(), book.assets()
    with pytest.raises(BadRows) as told:
        do(registry, book, *lines, add_rooms=add_rooms)
    assert (registry.revision(), book.assets()) == before
    return [str(one) for one in told.value.problems]


def test_a_row_becomes_an_asset_and_a_device_in_stock(registry, book):
    done = do(registry, book, "s1,ZC-001,1 年级 1 班,ifp,5cg1234abc,三楼大屏,")
    assert counts(done) == (1, 0, 0, 0)
    assert done.warnings == ()
    (asset,) = book.assets("s1")
    assert asset.device == "s1-zc-001"
    assert (asset.room, asset.kind, asset.serial, asset.claimed_ms) == (
        "s1-r1",
        Kind.IFP,
        "5CG1234ABC",
        None,
    )
    device = registry.device(asset.device)
    assert (device.name, device.kind, device.shared) == ("三楼大屏", Kind.IFP, True)
    assert registry.service_state(asset.device, NOW) is ServiceState.STOCK
    assert [one.room for one in registry.placements(asset.device)] == ["s1-r1"]
    # Not in service before it enrols: it stands in no denominator.
    assert asset.device not in {
        one.device.id for one in registry.in_service(NOW - 1, NOW + 86_400_000)
    }


def test_a_device_without_a_name_is_called_after_kind_and_asset(registry, book):
    do(registry, book, "s1,ZC-001,s1-r1,ifp,5cg1234abc,,")
    device = registry.device("s1-zc-001")
    assert (device.name, device.name_en) == ("交互式平板 ZC-001", "Interactive panel ZC-001")


def test_the_same_list_again_changes_nothing(registry, book):
    lines = [f"s1,ZC-{n:03},s1-r{n % 5 + 1},ifp,SN-{n:05}X,," for n in range(40)]
    assert counts(do(registry, book, *lines)) == (40, 0, 0, 0)
    before = registry.revision(), book.assets()
    assert counts(do(registry, book, *lines, now_ms=NOW + 9)) == (0, 0, 40, 0)
    assert (registry.revision(), book.assets()) == before


def test_an_unclaimed_device_follows_its_row(registry, book):
    do(registry, book, "s1,ZC-001,s1-r1,ifp,5CG1234ABC,,")
    later = NOW + 60_000
    done = do(registry, book, "s1,zc-001,s1-r2,ops_pc,5CG9999XYZ,,", now_ms=later)
    assert counts(done) == (0, 1, 0, 0)
    (asset,) = book.assets("s1")
    assert (asset.device, asset.asset, asset.room) == ("s1-zc-001", "ZC-001", "s1-r2")
    assert (asset.kind, asset.serial) == (Kind.OPS_PC, "5CG9999XYZ")
    assert registry.device("s1-zc-001").kind is Kind.OPS_PC
    assert [one.room for one in registry.placements("s1-zc-001")] == ["s1-r1", "s1-r2"]


def test_a_claimed_device_stays_as_it_is(registry, book):
    do(registry, book, "s1,ZC-001,s1-r1,ifp,5CG1234ABC,,")
    book.replace_asset(replace(book.assets()[0], claimed_ms=NOW))
    before = registry.revision(), book.assets()
    assert do(registry, book, "s1,ZC-001,s1-r1,ifp,5CG1234ABC,,").warnings == ()
    done = do(registry, book, "s1,ZC-001,s1-r2,ifp,5CG9999XYZ,,")
    assert counts(done) == (0, 0, 1, 0)
    assert ["in use" in one.what for one in done.warnings] == [True]
    assert (registry.revision(), book.assets()) == before


def test_a_device_that_was_thrown_out_does_not_come_back_with_the_next_list(registry, book):
    do(registry, book, "s1,ZC-001,s1-r1,ifp,5CG1234ABC,,")
    book.revoke("s1-zc-001", at_ms=NOW, why="stolen", by="x")
    before = registry.revision(), book.assets()
    done = do(registry, book, "s1,ZC-001,s1-r2,ifp,5CG1234ABC,,")
    assert counts(done) == (0, 0, 1, 0)
    assert "was thrown out" in done.warnings[0].what
    assert (registry.revision(), book.assets()) == before


def test_one_wrong_row_keeps_out_the_whole_list(registry, book):
    lines = refused(
        registry,
        book,
        "s1,ZC-001,s1-r1,ifp,5CG1234ABC,,",
        "s9,ZC-002,s1-r1,ifp,5CG1234ABD,,",
        "lan,ZC-003,s1-r1,ifp,5CG1234ABE,,",
        "s1,ZC-004,s2-r1,ifp,5CG1234ABF,,",
        "s1,ZC-005,nowhere,ifp,5CG1234ABG,,",
        "s1,zc-001,s1-r1,ifp,5CG1234ABH,,",
    )
    assert [one.split(": ")[1] for one in lines] == [f"row {n}" for n in (7, 3, 4, 5, 6)]
    assert "stands in row 2 already" in lines[0]
    assert "there is no school s9" in lines[1]
    assert "--add-rooms" in lines[4]


def test_checking_tells_the_same_and_writes_nothing(registry, book):
    before = registry.revision(), book.assets()
    told = check(registry, book, rows("s1,ZC-001,new room,ifp,,,"), NOW, add_rooms=True)
    assert counts(told) == (1, 0, 0, 1)
    assert len(told.warnings) == 1
    assert (registry.revision(), book.assets()) == before


def test_a_room_is_found_by_id_or_name_within_its_own_school(registry, book):
    do(
        registry,
        book,
        "s1,a1,S1-R2,ifp,SN00001,,",
        "s1,a2,class  2-1,ifp,SN00002,,",
        "s2,a3,２ 年级 1 班,ifp,SN00003,,",
    )
    assert [one.room for one in book.assets()] == ["s1-r2", "s1-r2", "s2-r2"]


def test_a_name_that_two_rooms_have_is_asked_about(registry, book):
    registry.add_unit(
        Unit(id="s1-x", level=Level.ROOM, parent="s1", name_zh="1 年级 1 班", name_en="x")
    )
    (line,) = refused(registry, book, "s1,a1,1 年级 1 班,ifp,SN00001,,")
    assert "2 rooms are called" in line
    assert "s1-r1, s1-x" in line


def test_missing_rooms_are_made_once_when_asked(registry, book):
    lines = [
        "s1,a1,音乐室,ifp,SN00001,,",
        "s1,a2,音乐室,ifp,SN00002,,",
        "s2,a1,lab-3,ifp,SN00003,,",
    ]
    assert counts(do(registry, book, *lines, add_rooms=True)) == (3, 0, 0, 2)
    music, again, lab = (one.room for one in book.assets())
    assert music == again
    assert lab == "s2-lab-3"
    assert registry.tree()[music].name_zh == "音乐室"
    assert registry.tree()[music].parent == "s1"
    assert counts(do(registry, book, *lines, add_rooms=True)) == (0, 0, 3, 0)


def test_serials_that_prove_nothing_are_told_of(registry, book):
    do(registry, book, "s1,old,s1-r1,ifp,SN-OLD-1,,")
    done = do(
        registry,
        book,
        "s1,a1,s1-r1,ifp,,,",
        "s1,a2,s1-r1,ifp,To be filled by O.E.M.,,",
        "s1,a3,s1-r1,ifp,SN-TWICE,,",
        "s1,a4,s1-r1,ifp,sn-twice,,",
        "s1,a5,s1-r1,ifp,sn-old-1,,",
        "s2,a6,s2-r1,ifp,SN-TWICE,,",
        "s1,a7,s1-r1,projector,,,",
        "s1,a8,s1-r1,ifp,SN-GOOD,,",
    )
    told = {one.row: one.what for one in done.warnings}
    assert set(told) == {2, 3, 4, 5, 6, 7, 8}
    assert all("wait for approval" in told[row] for row in (2, 3, 4, 5, 6))
    assert "that of old too" in told[6]
    assert "registered at s1 too" in told[7]
    assert "no agent runs on projector" in told[8]


def test_a_serial_that_moves_with_its_correction_is_no_repeat(registry, book):
    do(registry, book, "s1,a1,s1-r1,ifp,SN-00001,,", "s1,a2,s1-r1,ifp,SN-00002,,")
    done = do(registry, book, "s1,a1,s1-r1,ifp,SN-00002,,", "s1,a2,s1-r1,ifp,SN-00001,,")
    assert counts(done) == (0, 2, 0, 0)
    assert done.warnings == ()


def test_a_crash_between_the_two_databases_is_healed_by_running_it_again(
    registry, book, monkeypatch
):
    lines = ["s1,ZC-001,s1-r1,ifp,5CG1234ABC,,", "s1,资产 1,新房间,ifp,5CG1234ABD,,"]

    def crash(_):
        raise sqlite3.OperationalError("power")

    monkeypatch.setattr(book, "add_assets", crash)
    with pytest.raises(sqlite3.OperationalError):
        do(registry, book, *lines, add_rooms=True)
    monkeypatch.undo()
    assert book.assets() == []
    devices = {one.id for one in registry.devices()}
    units = registry.tree()
    assert counts(do(registry, book, *lines, now_ms=NOW + 5, add_rooms=True))[0] == 2
    assert {one.id for one in registry.devices()} == devices
    assert [one.id for one in registry.tree().children("s1")] == [
        one.id for one in units.children("s1")
    ]
    assert all(len(registry.placements(one.device)) == 1 for one in book.assets())


def test_an_id_that_another_device_has_is_not_taken_over(registry, book):
    registry.add_device(Device(id="s1-zc-001", kind=Kind.IFP, name="elsewhere"))
    registry.place(Placement(device="s1-zc-001", room="s2-r1", from_ms=1))
    do(registry, book, "s1,ZC-001,s1-r1,ifp,5CG1234ABC,,")
    (asset,) = book.assets()
    assert re.fullmatch("s1-zc-001-[0-9a-f]{8}", asset.device)
    assert registry.device("s1-zc-001").name == "elsewhere"


def test_a_barred_id_is_never_given_again(registry, book):
    book.revoke("s1-zc-001", at_ms=1, why="lost", by="x")
    do(registry, book, "s1,ZC-001,s1-r1,ifp,5CG1234ABC,,")
    assert book.assets()[0].device != "s1-zc-001"


TEXT = st.text(min_size=1, max_size=64)


@given(TEXT, TEXT)
def test_an_id_fits_is_stable_and_steps_aside(school, asset):
    first = device_id(school, asset, lambda _: False)
    assert re.fullmatch("[a-z0-9-]{1,36}", first)
    assert device_id(school, asset, lambda _: False) == first
    taken = set()
    for _ in range(4):
        taken.add(device_id(school, asset, taken.__contains__))
    assert len(taken) == 4
    assert all(re.fullmatch("[a-z0-9-]{1,36}", one) for one in taken)


def test_assets_that_look_alike_get_ids_of_their_own():
    names = ["ZC/001", "ZC 001", "ZC_001", "ZC-001", "资产001", "资產001", "x" * 64, "x" * 63]
    assert len({device_id("3264000123", one, lambda _: False) for one in names}) == len(names)
    assert device_id("3264000123", "ZC-001", lambda _: False) == "3264000123-zc-001"
    assert device_id("3264000123", "资产-0017", lambda _: False).startswith("3264000123-0017-")


@given(st.lists(st.text(alphabet="ab- 资/", min_size=1, max_size=6), min_size=1, max_size=12))
def test_no_two_devices_ever_share_an_id(tmp_path_factory, assets):
    folder = tmp_path_factory.mktemp("any")
    kept = {one.casefold(): one for one in (" ".join(a.split()) for a in assets) if one}
    lines = [f"s1,{one},s1-r1,ifp,SN-0000{n}X,," for n, one in enumerate(kept.values())]
    if not lines:
        return
    with Registry(folder / "registry.db") as registry, Book(folder / "enrolment.db") as book:
        registry.load(registry_data())
        assert do(registry, book, *lines).added == len(lines)
        ids = [one.device for one in book.assets()]
        assert len(set(ids)) == len(ids)
