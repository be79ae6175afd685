"""What a person decides, where a crash may part it, and what brings the register up to the book."""

from contextlib import closing
from dataclasses import replace

import pytest
from tests.regions import UNITS

from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import MOST_OF_SCHOOL, Book
from ketang_center.enrolment.office import Office, Why, heal, send_to_work
from ketang_center.enrolment.values import Asset, Code, Reason, Waiting
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data, Kind, ServiceState
from ketang_contract.errors import BadInput

NOW = 1_700_000_000_000
CODE = Code(
    id="c1",
    fingerprint=b"\1" * 32,
    school="s1",
    uses=2,
    used=0,
    expires_ms=NOW * 2,
    made_ms=1,
    made_by="x",
)


class Here:
    def __init__(self, folder):
        self.book = Book(folder / "enrolment.db")
        self.registry = Registry(folder / "registry.db")
        self.registry.load(Data(units=UNITS))
        self.audit = Audit(folder / "audit.db")
        self.office = Office(self.book, self.registry, self.audit, lambda: NOW)

    def enrolled(self, no=1):
        asset = Asset(
            device=f"pc-{no}",
            school="s1",
            asset=f"A{no}",
            room="s1-r1",
            kind=Kind.OPS_PC,
            serial=f"SN{no}",
        )
        self.book.add_assets([asset])
        self.book.claim(asset, NOW)
        send_to_work(self.registry, asset, NOW)
        return replace(asset, claimed_ms=NOW)

    def asks(self, key="k" * 64, **more):
        said = {
            "no": 0,
            "key_id": key,
            "school": "s1",
            "code_id": "c1",
            "serial": "SN1",
            "asset": "",
            "source": "192.0.2.1",
            "reason": Reason.ALREADY_CLAIMED,
            "asked_ms": NOW,
            "device": "pc-1",
        }
        return self.book.wait(Waiting(**(said | more)))

    def state(self, device):
        return self.registry.service_state(device, NOW)


@pytest.fixture
def here(tmp_path):
    made = Here(tmp_path)
    with closing(made.audit), made.registry, made.book:
        yield made


def test_what_is_let_in_again_gets_a_new_name_and_the_old_one_is_out(here):
    here.enrolled()
    here.book.add_code(CODE)
    asked = here.asks()
    here.office.approve(asked.no, "operator")
    (asset,) = here.book.assets("s1")
    assert asset.device != "pc-1"
    assert asset.claimed_ms is None
    assert here.book.is_barred("pc-1")
    assert here.state("pc-1") is ServiceState.SCRAPPED
    assert here.state(asset.device) is ServiceState.STOCK
    settled = here.book.waiting_no(asked.no)
    assert (settled.verdict, settled.source) == ("approved", ""), "its address is forgotten"


def test_an_approval_that_the_book_refuses_leaves_the_register_as_it_was(here, monkeypatch):
    here.enrolled()
    here.book.add_code(CODE)
    asked = here.asks()
    monkeypatch.setattr(here.book, "settle", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        here.office.approve(asked.no, "operator")
    assert not here.book.is_barred("pc-1")
    assert here.state("pc-1") is ServiceState.IN_SERVICE
    assert [one.id for one in here.registry.devices()] == ["pc-1"], "no ghosts"


@pytest.mark.parametrize(
    ("why", "freed"),
    [
        (Why.LOST, False),
        (Why.STOLEN, False),
        (Why.SCRAPPED, False),
        (Why.STOCK, True),
        (Why.CLONE, True),
    ],
)
def test_thrown_out_it_leaves_service_and_its_asset_comes_back_only_where_that_makes_sense(
    here, why, freed
):
    here.enrolled()
    assert here.office.throw_out("pc-1", why, "operator")
    assert not here.office.throw_out("pc-1", why, "operator"), "it was before"
    assert here.state("pc-1") is not ServiceState.IN_SERVICE
    (asset,) = here.book.assets("s1")
    assert (asset.device != "pc-1") is freed


def test_what_was_stolen_is_not_freed_by_throwing_it_out_again(here):
    here.enrolled()
    here.office.throw_out("pc-1", Why.STOLEN, "operator")
    assert not here.office.throw_out("pc-1", Why.STOCK, "operator")
    (asset,) = here.book.assets("s1")
    assert asset.device == "pc-1"


def test_nobody_of_this_name(here):
    with pytest.raises(BadInput, match="no device of this name"):
        here.office.throw_out("nobody", Why.LOST, "operator")


def test_the_register_is_brought_up_to_the_book(here):
    claimed, unclaimed = here.enrolled(1), here.enrolled(2)
    here.book.replace_asset(replace(unclaimed, claimed_ms=None))
    out = here.enrolled(3)
    here.book.revoke(out.device, at_ms=NOW, why="lost", by="operator")
    with here.registry._db:  # what a restore of the register alone would leave
        for query in (
            "DELETE FROM service WHERE device IN ('pc-1', 'pc-2')",
            "DELETE FROM placement WHERE device IN ('pc-1', 'pc-2')",
            "DELETE FROM device WHERE id IN ('pc-1', 'pc-2')",
        ):
            here.registry._db.execute(query)
    assert heal(here.book, here.registry, NOW) == 3
    assert here.state(claimed.device) is ServiceState.IN_SERVICE
    assert here.state("pc-2") is ServiceState.STOCK
    assert here.state("pc-3") is ServiceState.LOST
    assert heal(here.book, here.registry, NOW) == 0, "twice, it does nothing"


def test_one_code_cannot_fill_the_regions_queue(here):
    here.book.add_code(CODE)
    waits = [here.asks(key=f"{no:064x}") for no in range(60)]
    assert sum(one is not None for one in waits) == 2 * CODE.uses + 10
    other = here.asks(key="f" * 64, code_id="c2", school="s2")
    assert other is not None, "another school's place is its own"
    later = here.asks(key="e" * 64, asked_ms=NOW + 31 * 86_400_000)
    assert later is not None, "who has not asked for a month is forgotten"
    assert MOST_OF_SCHOOL > 200
