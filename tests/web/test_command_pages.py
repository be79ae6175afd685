"""Switching off after hours from the console: chosen from a list, said in numbers, followed."""

import re
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from playwright.sync_api import expect, sync_playwright

from ketang_center import commanding
from ketang_center.access.audit import Audit
from ketang_center.access.policy import Role
from ketang_center.command_jobs import Jobs, JobState
from ketang_center.command_views import IN_ROOM, Barrier
from ketang_center.commanding import Commanding, Wish
from ketang_center.enrolment.office import Office, Why
from ketang_center.web import command_words
from ketang_center.web.app import create_app
from ketang_center.web.text import LANGUAGES, words
from ketang_contract.commands import Answer, Countdown, State, What, write_answer
from ketang_provisioning.keys import load_private
from tests.parts import PARTS
from tests.web.browsing import visiting
from tests.web.rolled import rolled
from tests.web.seed import PASSWORD, populate
from tests.web.serving import serving
from tests.web.test_console import FLAGS

pytestmark = pytest.mark.anyio
CHOOSE, LIST = "/devices/shut-down", "/devices/commands"
PANEL, PC = "s1-ifp-1", "s1-ops-pc-1"
SHUT = Countdown(seconds=120, desktop=True)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def world(tmp_path):
    with rolled(tmp_path) as made:
        populate(made.context.accounts, [("s2-operator", [(Role.OPERATOR, "s2")])])
        yield made


class Devices:
    """The centre's sender and, behind it, devices that say what they are told to say."""

    def __init__(self, world, jobs: Jobs, audit: Audit) -> None:
        key = load_private(world.context.enrolment.kit_key.with_name(commanding.KEY), None)
        self._clock, self._jobs = world.clock, jobs
        self.reached: list[str] = []
        self._sender = Commanding(jobs, audit, key, world.folder, self._hear)

    def _hear(self, topic: str, _: bytes) -> None:
        self.reached.append(topic.split("/")[3])

    def send(self) -> None:
        self._sender.keep(self._clock.now_ms)

    def answer(self, device: str, state: State, **more) -> None:
        (job,) = [one for one in self._jobs.of([device]) if not one.is_over]
        self._clock.now_ms += 1000
        raw = write_answer(Answer(job=job.job, state=state, **more))
        self._sender.answered(device, job.job, raw, self._clock.now_ms)


@contextmanager
def devices_of(world):
    folder = world.folder
    with Jobs(folder / commanding.FILE) as jobs, closing(Audit(folder / "audit.db")) as audit:
        yield Devices(world, jobs, audit)


def jobs_of(world):
    with Jobs(world.folder / commanding.FILE) as jobs:
        return jobs.of()


def acts(world):
    return [(one.who, one.action, one.unit) for one in world.context.audit.entries()]


async def ask(person, *devices, **more):
    form = {"device": list(devices), "countdown_s": "120", "sure": "yes", **more}
    return await person.post(CHOOSE, **form)


async def asked(person, *devices) -> str:
    answer = await ask(person, *devices)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].partition("?")[0]


def outcome(page: str, device: str) -> str:
    row = re.search(rf'<tr id="j-{device}">.*?</tr>', page, re.DOTALL)[0]
    return " ".join(re.sub(r"<[^>]+>", " ", row).split())


async def test_idle_terminals_are_chosen_asked_and_each_answer_is_shown(world):
    async with visiting(create_app(world.context), "school-operator") as person:
        page = (await person.get("/devices?day_state=on")).text
        assert f'href="{CHOOSE}?day_state=on"' in page
        page = (await person.get(CHOOSE)).text
        assert "11 shared devices, 10 of which can be asked now" in page
        assert 'value="t-1"' not in page, "a teacher's own PC is nobody's to switch off"
        assert 'name="device" value="s1-ifp-2"' not in page, "it is off already"
        answer = await person.post(CHOOSE, device=[PANEL, PC, "s1-ifp-2"], countdown_s="120")
        assert "Devices asked to switch off: 2" in answer.text
        assert "countdown of 2 min" in answer.text
        assert "you (school-operator)" in answer.text
        assert "1 cannot be asked now" in answer.text
        assert jobs_of(world) == [], "it is said first, and asked when it is meant"
        there = await asked(person, PANEL, PC)
        with devices_of(world) as devices:
            devices.send()
            assert sorted(devices.reached) == [PANEL, PC]
            devices.answer(PANEL, State.RUNNING, result=SHUT)
            devices.answer(PC, State.REFUSED, reason="in_hours")
            page = (await person.get(there)).text
            assert "Counting down off at about" in outcome(page, PANEL)
            assert "countdown on the desktop" in outcome(page, PANEL)
            assert "The device refuses within school hours" in outcome(page, PC)
            assert 'hx-trigger="every 2s"' in page
            devices.answer(PANEL, State.CANCELLED, reason="cancelled")
        page = (await person.get(there)).text
        assert "Stays on somebody in the room cancelled it" in outcome(page, PANEL)
        assert "every 2s" not in page
        listed = (await person.get(LIST)).text
        assert f'href="{there}"' in listed
    assert acts(world).count(("school-operator", "command_asked", "s1")) == 2
    assert (f"device:{PANEL}", "command_ended", "s1") in acts(world)


async def test_the_idle_ones_or_all_are_chosen_without_a_script(world):
    async with visiting(create_app(world.context), "school-operator") as person:
        page = (await person.get(CHOOSE)).text
        assert " checked" not in page
        some = (await person.get(f"{CHOOSE}?pick=rests")).text
        every = (await person.get(f"{CHOOSE}?pick=all")).text
    said = int(re.search(r"choose the idle ones \((\d+)\)", page)[1])
    assert 0 < said < 10
    assert some.count(" checked") == said
    assert every.count(" checked") == 10


@pytest.mark.parametrize(
    "name", ["school", "publisher", "approver", "county-admin", "county", "other-county"]
)
async def test_who_operates_nothing_finds_nothing_of_it(world, name):
    async with visiting(create_app(world.context), name) as person:
        assert CHOOSE not in (await person.get("/devices")).text
        assert LIST not in (await person.get("/devices")).text
        for path in (CHOOSE, LIST, f"{LIST}/x"):
            assert (await person.get(path)).status_code == 404
        assert (await ask(person, PANEL)).status_code == 404
    assert jobs_of(world) == []


async def test_beyond_ones_own_units_nobody_is_asked_and_nothing_is_told(world):
    app = create_app(world.context)
    async with (
        visiting(app, "school-operator") as person,
        visiting(app, "s2-operator", source="192.0.2.2") as other,
    ):
        assert (await ask(person, PANEL, "s2-ifp-1")).status_code == 404
        assert (await ask(person, PANEL, "t-1")).status_code == 404
        assert (await ask(person, PANEL, "nowhere")).status_code == 404
        assert jobs_of(world) == []
        there = await asked(person, PANEL)
        assert (await other.get(there)).status_code == 404
        assert there not in (await other.get(LIST)).text
        assert (await other.get(f"{CHOOSE}?unit=s1")).status_code == 404


async def test_above_the_school_why_a_device_stays_on_is_not_told(world):
    app = create_app(world.context)
    async with (
        visiting(app, "county-operator") as county,
        visiting(app, "school-operator", source="192.0.2.2") as school,
    ):
        page = (await county.get(f"{CHOOSE}?day_state=on&pick=rests")).text
        assert " checked" not in page
        assert not re.search(r"sw-(active|presenting|idle|day-)", page)
        there = await asked(county, PANEL, PC)
        with devices_of(world) as devices:
            devices.send()
            devices.answer(PANEL, State.CANCELLED, reason="in_use")
            devices.answer(PC, State.CANCELLED, reason="cancelled")
        page = (await county.get(there)).text
        for one in (PANEL, PC):
            assert "Stays on it was stopped in the room" in outcome(page, one)
        assert "is the school&#39;s own" in page
        page = (await school.get(there)).text
        assert "the device is in use" in outcome(page, PANEL)


async def test_all_are_asked_or_none_and_the_log_has_it_before(world, monkeypatch):
    async with visiting(create_app(world.context), "school-operator") as person:
        with Jobs(world.folder / commanding.FILE) as jobs:
            wish = Wish(what=What.SHUT_DOWN, by="li", units={PC: "s1"})
            commanding.ask(jobs, world.context.audit, wish, world.clock.now_ms)
        page = (await person.get(CHOOSE)).text
        assert "asked already, not over yet" in page
        assert f'name="device" value="{PC}"' not in page
        answer = await ask(person, PC)
        assert "None of those chosen can be asked now." in answer.text
        real = commanding.ask_as
        late = [Wish(what=What.SHUT_DOWN, by="li", units={PANEL: "s1"})]

        def overtaken(actor, tree, jobs, audit, wish, now_ms):
            if late:
                commanding.ask(jobs, audit, late.pop(), now_ms)
            return real(actor, tree, jobs, audit, wish, now_ms)

        monkeypatch.setattr(commanding, "ask_as", overtaken)
        answer = await ask(person, "s1-ifp-3", PANEL)
        assert answer.status_code == 409
        assert "Nothing was asked" in answer.text
    assert {one.device for one in jobs_of(world)} == {PC, PANEL}
    assert ("school-operator", "command_asked", "s1") not in acts(world)


async def test_one_that_was_thrown_out_is_not_to_be_asked(world):
    context = world.context
    Office(context.book, context.registry, context.audit, context.clock).throw_out(
        PANEL, Why.LOST, "root"
    )
    async with visiting(create_app(context), "school-operator") as person:
        page = (await person.get(CHOOSE)).text
        assert f'name="device" value="{PANEL}"' not in page
        assert "thrown out" in page
        await ask(person, PANEL)
    assert jobs_of(world) == []


async def test_a_centre_without_its_key_says_so_and_offers_nothing(world, tmp_path):
    bare = replace(world.context.enrolment, kit_key=tmp_path / "kit.key")
    async with visiting(
        create_app(replace(world.context, enrolment=bare)), "school-operator"
    ) as person:
        page = (await person.get(CHOOSE)).text
        assert "no command key" in page
        assert re.search(r'<button class="main" type="submit" id="next" disabled>', page)
        answer = await ask(person, PANEL)
        assert answer.status_code == 409
    assert jobs_of(world) == []


async def test_in_the_demo_nobody_switches_anything_off(world):
    async with visiting(create_app(replace(world.context, demo=True))) as person:
        assert CHOOSE not in (await person.get("/devices")).text
        assert (await person.get(CHOOSE)).status_code == 404


async def test_a_request_that_another_site_makes_is_turned_away(world):
    async with visiting(create_app(world.context), "school-operator") as person:
        form = {"device": PANEL, "countdown_s": "120", "sure": "yes"}
        assert (await person.http.post(CHOOSE, data=form)).status_code == 403
        token = await person.token("/definitions")
        answer = await person.http.post(
            CHOOSE, data={**form, "csrf": token}, headers={"origin": "https://elsewhere.example"}
        )
        assert answer.status_code == 403
        for countdown in ("0", "59", "121", "601"):
            assert (await ask(person, PANEL, countdown_s=countdown)).status_code == 400
        assert (await ask(person)).status_code == 400
    assert jobs_of(world) == []


REASONS = """
    cancelled in_use in_hours no_hours clock_wrong interrupted not_permitted no_logind power_off
    no_answer not_sent busy used expired too_early forged no_trust bad_envelope bad_document
    wrong_device wrong_job retained not_judged declined nobody_agreed disk failed not_read
    no_result too_slow not_built too_large changed
"""


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_word_a_page_may_need_is_there(lang):
    keys = words(lang).by_key
    for prefix, names in {
        "command_what": [one.value for one in What],
        "command_state": [one.value for one in JobState],
        "command_count": command_words.ORDER,
        "command_reason": [*REASONS.split(), IN_ROOM],
        "command_barrier": [one.value for one in Barrier],
        "command_fault": ("nothing_chosen", "countdown", "not_asked"),
        "acted": ("command_asked", "command_ended", "command_archive_taken"),
    }.items():
        assert [one for one in names if f"{prefix}.{one}" not in keys] == []


@pytest.fixture(scope="module")
def chromium():
    path = next(one for one in PARTS if one.name == "chromium").find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("wide", [True, False], ids=["desk", "phone"])
def test_by_keyboard_the_idle_ones_are_switched_off_and_followed(chromium, world, free_port, wide):
    size = {"width": 1280, "height": 900} if wide else {"width": 390, "height": 844}
    page = chromium.new_context(locale="zh-CN", viewport=size).new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda one: complaints.append(str(one)))
    page.on("console", lambda one: one.type in {"error", "warning"} and complaints.append(one.text))
    with serving(world.context, free_port) as base, devices_of(world) as devices:
        page.goto(f"{base}/sign-in")
        page.fill("input[name=name]", "school-operator")
        page.fill("input[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        for link in ("#nav-devices", "#shut-down"):
            page.locator(link).focus()
            page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("课后关机")
        for one in (PANEL, PC):
            page.locator(f"#pick-{one}").focus()
            page.keyboard.press("Space")
        page.locator("#next").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#h-means")).to_have_text("将向 2 台设备请求关机")
        page.locator("#do").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".done")).to_contain_text("请求已记录")
        expect(page.locator(f"#j-{PANEL}")).to_contain_text("等待发出")
        devices.send()
        expect(page.locator(f"#j-{PANEL}")).to_contain_text("已发出，等待回答")
        devices.answer(PANEL, State.RUNNING, result=SHUT)
        devices.answer(PC, State.RUNNING, result=SHUT)
        expect(page.locator(f"#j-{PC}")).to_contain_text("正在倒计时")
        devices.answer(PC, State.CANCELLED, reason="cancelled")
        devices.answer(PANEL, State.FAILED, reason="not_permitted")
        expect(page.locator(f"#j-{PC}")).to_contain_text("现场有人取消")
        expect(page.locator(f"#j-{PANEL}")).to_contain_text("polkit")
        expect(page.locator("#live .facts")).to_have_text("全部结束")
        wider = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wider, "the page is wider than the screen"
    assert complaints == []
    page.context.close()
