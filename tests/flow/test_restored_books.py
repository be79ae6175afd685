"""A centre put back from a backup sends nothing by itself that may have been taken back since."""

import shutil
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.permits import SHA
from tests.regions import Region, now_ms
from tests.rollouts import CENTER, OTHER, Scene

from ketang_center import commanding, restoring, settings
from ketang_center.access.audit import Audit
from ketang_center.access.policy import Actor, Grant, Role
from ketang_center.command_jobs import Job, Jobs, JobState
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.merging import PUT_BACK
from ketang_center.enrolment.offsite import Offsite
from ketang_center.registry.database import Registry
from ketang_center.rollouts.filing_desk import FilingDesk, trust_in
from ketang_center.rollouts.filing_refusals import FilingRefused
from ketang_center.rollouts.filing_values import FilingState
from ketang_center.rollouts.filings import Filings
from ketang_center.rollouts.office import open_office
from ketang_center.rollouts.part import Rollouts
from ketang_center.rollouts.values import RolloutState
from ketang_contract.commands import What
from ketang_contract.config import Config
from ketang_contract.permits import DataUsed, Subject
from ketang_provisioning import permits
from ketang_provisioning.keys import load_private

PUBLISHER = Actor("pu", (Grant(Role.PUBLISHER, "lan"),))
APPROVER = Actor("ap", (Grant(Role.APPROVER, "lan"),))
PROPOSAL = permits.Proposal(
    subject=Subject.MODEL,
    name="mtcnn",
    version="1.0.0",
    sha256=SHA,
    number="岚教备2026-12",
    purpose="统计教室人数",
    data=(DataUsed.HEAD_COUNTS,),
    scope="lan",
)


class Centre:
    """The files of a centre, a folder off the machine, and what its people do."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.region = folder, Region(folder)
        (folder / "away").mkdir()
        self.data = self.region.data_dir
        self.settings = settings.read(self.region.settings(offsite=folder / "away"))

    def book(self) -> Book:
        return Book(self.data / "enrolment.db")

    def filings(self) -> Filings:
        return Filings(self.data / "filings.db", now_ms)

    def jobs(self) -> Jobs:
        return Jobs(self.data / commanding.FILE)

    def send_journal(self) -> None:
        with self.book() as book:
            Offsite(self.folder / "away", self.region.code_key).send(book.rows)

    def back_up(self) -> None:
        self.send_journal()
        shutil.copytree(self.data, self.folder / "backup")

    def put_back(self) -> None:
        shutil.rmtree(self.data)
        shutil.copytree(self.folder / "backup", self.data)

    def finish(self):
        return restoring.bring_back(self.settings, int(time.time()))

    def acts(self) -> list[tuple[str, str]]:
        with closing(Audit(self.data / "audit.db")) as audit:
            return [(one.action, one.subject) for one in audit.entries()]

    def desk(self, stack: ExitStack) -> FilingDesk:
        registry = stack.enter_context(Registry(self.data / "registry.db"))
        audit = stack.enter_context(closing(Audit(self.data / "audit.db")))
        file = self.settings.enrolment.trust
        filings, book = stack.enter_context(self.filings()), stack.enter_context(self.book())
        return FilingDesk(filings, registry.tree(), audit, lambda: trust_in(file), now_ms, book)

    def key(self, name: str):
        secret = self.region.passphrases[name].encode()
        return load_private(self.region.folder / "offline" / f"{name}.key", secret)

    def granted(self) -> bytes:
        trust, now_s = trust_in(self.settings.enrolment.trust), now_ms() // 1000
        raw = permits.draft_grant(
            target="s1",
            school="s1",
            trust=trust,
            now_s=now_s,
            from_s=now_s,
            days=9,
            holder="config-1",
        )
        for name in ("config-1", "filing"):
            raw = permits.add_signature(raw, self.key(name), trust, now_s)
        return raw

    def filed(self) -> bytes:
        trust, now_s = trust_in(self.settings.enrolment.trust), now_ms() // 1000
        return permits.sign_filing(PROPOSAL, self.key("filing"), trust, now_s=now_s, days=9)


@pytest.fixture
def centre(tmp_path):
    return Centre(tmp_path)


def test_filings_and_grants_that_were_withdrawn_since_the_backup_stay_so(centre):
    grant, filing = centre.granted(), centre.filed()
    with ExitStack() as stack:
        desk = centre.desk(stack)
        no = desk.submit(PUBLISHER, PROPOSAL)
        desk.review(APPROVER, no, right=True)
        desk.approve(APPROVER, no, filing)
        taken = desk.take_grant(APPROVER, grant)
    centre.back_up()
    with ExitStack() as stack:
        desk = centre.desk(stack)
        desk.withdraw(APPROVER, no, "counts wrongly")
        desk.withdraw_grant(APPROVER, taken.digest)
        late = desk.submit(PUBLISHER, PROPOSAL)
        desk.withdraw(PUBLISHER, late, "once more")
    centre.send_journal()
    centre.put_back()
    with centre.filings() as filings:
        assert filings.filing(no).state is FilingState.APPROVED, "as the backup has it"
    assert restoring.was_put_back(centre.settings), "withdrawals alone tell it"
    assert centre.finish().stopped.permits == 2
    with centre.filings() as filings:
        one, given = filings.filing(no), filings.grant(taken.digest)
        assert (one.state, one.closed_by, one.note) == ("withdrawn", "ap", "counts wrongly")
        assert given.withdrawn_ms
        assert given.withdrawn_by == "ap"
        assert filings.permits_for("s1-ifp-1", ()) == ()
    with ExitStack() as stack:
        desk = centre.desk(stack)
        reviewed = desk.submit(PUBLISHER, PROPOSAL)
        desk.review(APPROVER, reviewed, right=True)
        for again in (
            lambda: desk.take_grant(APPROVER, grant),
            lambda: desk.approve(APPROVER, reviewed, filing),
        ):
            with pytest.raises(FilingRefused) as refused:
                again()
            assert refused.value.reason == "withdrawn"
    acts = [action for action, _ in centre.acts()]
    assert acts.count("filing_withdrawn") == 1
    assert {"grant_withdrawn", "center_restored"} <= set(acts)
    assert centre.finish().stopped.permits == 0


def test_a_withdrawal_that_was_cut_short_is_finished_by_the_next_look(centre, monkeypatch):
    from ketang_center.rollouts import filing_rows
    from ketang_center.rollouts.filing_recheck import recheck_in

    with ExitStack() as stack:
        desk = centre.desk(stack)
        taken = desk.take_grant(APPROVER, centre.granted())

        def crash(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(filing_rows.FilingRows, "put", crash)
            with pytest.raises(KeyboardInterrupt):
                desk.withdraw_grant(APPROVER, taken.digest)
    with centre.filings() as filings:
        assert not filings.grant(taken.digest).withdrawn_ms
        assert recheck_in(centre.data, centre.settings.enrolment.trust, now_ms) == 1
        assert filings.grant(taken.digest).withdrawn_by == "ap"


def test_commands_of_the_backup_are_never_sent_again(centre):
    def job(name, state):
        return Job(
            job=name,
            device="d0",
            what=What.READ_INVENTORY,
            who="op",
            unit="s1",
            countdown_s=None,
            asked_ms=now_ms(),
            state=state,
            expires_ms=now_ms() + 600_000,
            changed_ms=now_ms(),
        )

    with centre.jobs() as jobs:
        for state in (JobState.ASKED, JobState.SENT, JobState.WAITING_CONSENT, JobState.DONE):
            jobs.put(job(state.value, state))
    assert centre.finish().stopped.commands == 3
    with centre.jobs() as jobs:
        assert jobs.open_jobs() == []
        assert jobs.get("done").state is JobState.DONE
        assert {jobs.get(one).reason for one in ("asked", "sent", "waiting_consent")} == {
            "restored"
        }
    assert ("command_ended", "d0 read_inventory asked cancelled restored") in centre.acts()
    assert centre.finish().stopped.commands == 0


class Rolled:
    """A release that some have and some have not, as the backup has it; taken back since."""

    def __init__(self, centre: Centre, *, given: bool = False) -> None:
        self.centre = centre
        self.scene = Scene(centre.region, centre.data, 6)
        self.scene.place()
        for name in ("d4", "d5"):
            self.scene.devices[name].connected = False
        self.scene.start()
        self.no = self.scene.push(Config(host_s=60))
        self.scene.steps()
        assert self.scene.state(self.no) == "finished"
        assert self.scene.counts(self.no) == {"committed": 4, "pending": 2}
        if given:
            self._give()
        self.at_ms = self.heard_ms = self.scene.now_ms
        self.scene.close()
        centre.back_up()

    def _give(self) -> None:
        scene = self.scene
        scene.office.cancel(self.no, CENTER)
        scene.book.give_for_good(["d4", "d5"], "lan", scene.book.rollout(self.no).layer)
        school = scene.push(Config(host_s=120), target="s1", level="school")
        scene.steps()
        assert scene.state(school) == "finished"

    def engine(self, stack: ExitStack, sent: list[str]):
        """The running centre's own, over its real files; whom it sends to is written down."""

        def say(topic: str, _: bytes):
            sent.append(topic.split("/")[3])
            return lambda: True

        part = Rollouts(self.centre.settings, say, lambda: self.heard_ms)
        return part, part._engine(stack)

    def steps(self, part, engine, count=40) -> None:
        for name in ("d4", "d5"):
            one = self.scene.devices[name]
            one.connected = True
            part.inbox.hear(name, one.birth(), self.at_ms)
            part.inbox.hear(name, one.reported(), self.at_ms)
        for _ in range(count):
            self.at_ms += 500
            engine.step(self.at_ms)


def test_a_rollout_of_the_backup_waits_for_a_person_and_so_does_all_that_is_sent(centre):
    rolled = Rolled(centre)
    centre.put_back()
    assert centre.finish().stopped.rollouts == (rolled.no,)
    sent: list[str] = []
    with ExitStack() as stack:
        office = stack.enter_context(open_office(centre.settings, lambda: rolled.at_ms))
        one = office.look.rollout(rolled.no)
        day = time.strftime("%Y-%m-%d", time.gmtime(rolled.at_ms // 1000))
        assert one.state is RolloutState.PAUSED
        assert one.reason.startswith(f"restored from a backup of {day} ")
        assert one.reason.endswith("look, then resume")
        part, engine = rolled.engine(stack, sent)
        rolled.steps(part, engine)
        assert sent == [], "nobody looked yet"
        office.resume(rolled.no, OTHER)
        rolled.steps(part, engine)
        assert set(sent) == {"d4", "d5"}
    paused = [subject for action, subject in centre.acts() if action == "rollout_paused"]
    assert [one.partition(" restored")[0] for one in paused] == [f"{rolled.no} lan-1"]
    (told,) = [subject for action, subject in centre.acts() if action == "center_restored"]
    assert told.startswith(f"rollouts paused: {rolled.no}; commands cancelled: 0")


def test_what_is_left_to_be_sent_outside_a_rollout_waits_too(centre):
    """The region's release was cancelled, and is still given to two; a school's is to be looked at.

    The two would get it as soon as they come, as the first half shows.
    """
    rolled = Rolled(centre, given=True)
    with ExitStack() as stack:
        sent: list[str] = []
        rolled.steps(*rolled.engine(stack, sent))
        assert set(sent) == {"d4", "d5"}
    centre.put_back()
    (school,) = centre.finish().stopped.rollouts
    with ExitStack() as stack:
        sent = []
        part, engine = rolled.engine(stack, sent)
        rolled.steps(part, engine)
        assert sent == []
        office = stack.enter_context(open_office(centre.settings, lambda: rolled.at_ms))
        office.cancel(school, OTHER)
        rolled.steps(part, engine)
        assert set(sent) == {"d4", "d5"}


def test_a_centre_that_finds_out_while_it_serves_stops_at_once(centre):
    rolled = Rolled(centre)
    with centre.book() as book:
        book.revoke("d0", at_ms=1, why="lost", by="op")
    centre.send_journal()
    centre.put_back()
    offsite = Offsite(centre.folder / "away", centre.region.code_key)
    with centre.book() as book:
        offsite.send(book.rows)
        assert restoring.stop_what_is_old(book, centre.data, now_ms())
        assert not restoring.stop_what_is_old(book, centre.data, now_ms()), "once"
        assert book.rows.mark(PUT_BACK), "the new epoch is still owed"
    with open_office(centre.settings, lambda: rolled.at_ms) as office:
        assert office.look.rollout(rolled.no).state is RolloutState.PAUSED
    assert restoring.was_put_back(centre.settings)


@pytest.mark.mosquitto
def test_a_real_centre_stops_them_before_it_hears_a_device(centre):
    rolled = Rolled(centre)
    with centre.book() as book:
        book.revoke("d0", at_ms=1, why="lost", by="op")
    centre.send_journal()
    centre.put_back()
    with centre.region.broker(), centre.region.center(offsite=centre.folder / "away"):
        assert f"rollouts paused: {rolled.no}" in centre.region.log()
        with open_office(centre.settings) as office:
            assert office.look.rollout(rolled.no).state is RolloutState.PAUSED
