"""Rollouts in the console: who sees what, who does what, and that it is said first in numbers."""

import csv
import io
import json
import re

import pytest
from playwright.sync_api import expect

from ketang_center.registry.values import Placement
from ketang_center.rollouts.plan import Rules, State
from ketang_center.rollouts.values import RolloutState, What
from ketang_center.web import rollout_words
from ketang_center.web.app import create_app
from ketang_center.web.rollout_bars import BAR, SEGMENTS, bar
from ketang_center.web.rollout_desk import BY
from ketang_center.web.text import LANGUAGES, words
from ketang_contract.config import Config
from ketang_contract.state import ConfigState
from tests.web.browsing import acts, signed_in, visiting
from tests.web.enrolled import HOSTILE
from tests.web.rolled import SLOWER, WIDER, rolled
from tests.web.serving import serving

pytestmark = pytest.mark.anyio
ALL = 26
"""Devices of the seeded region; 20 of them stand in the county ``lan-xian``, 12 in ``s1``."""
QUICK = {"groups": "5, 10", "percents": "100", "per_minute": "1200"}
ACTS = tuple(BY)


@pytest.fixture
def world(tmp_path):
    with rolled(tmp_path) as made:
        yield made


async def release(person, world, *more, **named) -> str:
    answer = await person.upload("/rollouts/releases", world.signed(*more, **named))
    assert answer.status_code == 303, answer.text
    return re.fullmatch(r"/rollouts/releases/(.+)\?done=admitted", answer.headers["location"])[1]


async def begin(person, name, **rules) -> int:
    answer = await person.post(f"/rollouts/releases/{name}/begin", **(QUICK | rules))
    assert answer.status_code == 303, answer.text
    return int(re.fullmatch(r"/rollouts/(\d+)\?done=began", answer.headers["location"])[1])


def rollout(world, no):
    with world.office() as office:
        return office.look.rollout(no)


def numbers(text):
    """The counts beside a page's bars: ``{"have it": 12}``, all groups together first."""
    found = re.findall(r"</i>([^<]+) <b>([\d,]+)</b>", text)
    return {name: int(n.replace(",", "")) for name, n in reversed(found)}


async def test_a_release_is_handed_in_rolled_out_paused_and_taken_back(world):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "publisher") as person:
        name = await release(person, world, SLOWER)
        page = (await person.get(f"/rollouts/releases/{name}")).text
        assert "host_s: 300 s" in page
        assert "config-1, config-2" in page
        asked = await person.get(f"/rollouts/releases/{name}/begin", params=QUICK)
        assert f"Devices it takes effect on: {ALL}" in asked.text
        assert re.findall(r"<li>(\d+)</li>", asked.text) == ["5", "15", str(ALL)]
        no = await begin(person, name)
        assert rollout(world, no).state is RolloutState.RUNNING
        with world.running() as steps:
            steps()
        page = (await person.get(f"/rollouts/{no}")).text
        assert numbers(page)["have it"] == ALL
        asked = (await person.get(f"/rollouts/{no}/back")).text
        assert f"Devices the undo goes to: {ALL};" in asked
        assert "for an undo never widens: host_s." in asked
        answer = await person.post(f"/rollouts/{no}/back", why="too slow")
        assert answer.headers["location"] == f"/rollouts/{no + 1}?done=back"
        with world.running() as steps:
            steps()
        page = (await person.get(f"/rollouts/{no + 1}")).text
        assert numbers(page)["have it"] == ALL
        assert "too slow" in (await person.get(f"/rollouts/{no}")).text
    assert (rollout(world, no).state, rollout(world, no + 1).what) == (
        RolloutState.ROLLED_BACK,
        What.UNDO,
    )
    assert {("publisher", "release_admitted", "lan"), ("publisher", "rollout_undo", "lan")} <= set(
        acts(world.context)
    )


async def test_one_that_widens_waits_for_another_person_and_both_are_named(world):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "root") as root, visiting(app, "approver") as approver:
        name = await release(root, world, WIDER)
        page = (await root.get(f"/rollouts/releases/{name}")).text
        assert "Widens what is collected: usage_s." in page
        assert '<li class="widens"><b>widens</b> usage_s: 10 s' in page
        no = await begin(root, name)
        page = (await root.get(f"/rollouts/{no}")).text
        assert "somebody else has to approve" in page
        assert f"Devices it takes effect on: {ALL}" in page
        assert 'id="act-approve"' not in page
        answer = await root.post(f"/rollouts/{no}/approve")
        assert answer.status_code == 409
        assert "approved by somebody else" in answer.text
        with world.running() as steps:
            steps()
        assert world.sent == [], "nothing before it is approved"
        asked = (await approver.get(f"/rollouts/{no}/approve")).text
        assert f"Devices it takes effect on: {ALL}." in asked
        assert "Begun by root at 2026-03-11 14:37" in asked
        assert (await approver.post(f"/rollouts/{no}/approve")).status_code == 303
        page = (await root.get(f"/rollouts/{no}")).text
        assert "approver, 2026-03-11 14:37" in page
        assert "root, 2026-03-11 14:37" in page
        with world.running() as steps:
            steps()
        assert len(set(world.sent)) == ALL


async def test_an_approver_declines_and_nobody_gets_it(world):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "publisher") as publisher, visiting(app, "approver") as approver:
        no = await begin(publisher, await release(publisher, world, WIDER))
        page = (await approver.get(f"/rollouts/{no}")).text
        assert re.findall(r'id="act-(\w+)"', page) == ["approve", "cancel"]
        assert "sent to nobody" in (await approver.get(f"/rollouts/{no}/cancel")).text
        assert (await approver.post(f"/rollouts/{no}/cancel")).status_code == 303
    assert rollout(world, no).state is RolloutState.CANCELLED


async def test_what_stops_a_rollout_is_told_and_the_failed_may_try_again(world):
    world.place()
    for name in ("s1-ifp-1", "s1-ifp-2", "s1-ops-pc-1", "s2-ifp-1", "s2-ops-pc-1"):
        world.device(name).answer, world.device(name).reason = ConfigState.ROLLED_BACK, "model_slow"
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "county-operator") as county:
        no = await begin(person, await release(person, world, SLOWER), groups="26")
        with world.running() as steps:
            steps()
        page = (await person.get(f"/rollouts/{no}")).text
        assert "It stands still; nothing is sent." in page
        assert re.search(r"group 1: \d of \d+ failed", page)
        assert "the model is too slow" in page
        assert "failed, went back" in page
        asked = (await person.get(f"/rollouts/{no}/retry")).text
        again = int(re.search(r"Devices that try once more: (\d+)", asked)[1])
        assert again == numbers(page)["failed"]
        seen = (await county.get(f"/rollouts/{no}")).text
        assert "not necessarily in your part" in seen
        assert not re.search(r"group 1: \d of \d+ failed", seen)
        assert (await person.post(f"/rollouts/{no}/resume")).status_code == 303
        for one in world.devices.values():
            one.answer, one.reason = ConfigState.COMMITTED, ""
        answer = await person.post(f"/rollouts/{no}/retry", device="s1-ifp-1")
        assert answer.status_code == 303
        assert (await person.post(f"/rollouts/{no}/retry")).status_code == 303
        with world.running() as steps:
            steps(40)
        page = (await person.get(f"/rollouts/{no}")).text
        assert numbers(page)["have it"] == ALL
        assert "had the failed ones try again: Devices:" in page


@pytest.mark.parametrize("act", ACTS)
async def test_what_cannot_be_done_now_is_refused_in_one_line(world, act):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "root") as root, visiting(app, "publisher") as publisher:
        no = await begin(publisher, await release(publisher, world, SLOWER))
        await root.post(f"/rollouts/{no}/cancel")
        answer = await root.post(f"/rollouts/{no}/{act}", why="again")
        assert answer.status_code == (303 if act == "back" else 409)
        if act != "back":
            assert f"rollout {no}: is cancelled and cannot be" in answer.text
            root.http.cookies.set("lang", "zh")
            asked = await root.get(f"/rollouts/{no}/{act}")
            assert asked.status_code == 409
            assert 'id="do"' not in asked.text
            told = (await root.post(f"/rollouts/{no}/{act}")).text
            assert "它的状态已经变了" in told


@pytest.mark.parametrize(
    "name", ["county", "school", "other-county", "county-publisher", "county-operator", "approver"]
)
async def test_who_holds_no_right_on_the_target_sees_no_button_and_is_refused(world, name):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "publisher") as publisher, visiting(app, name) as person:
        named = await release(publisher, world, SLOWER)
        no = await begin(publisher, named)
        page = (await person.get(f"/rollouts/{no}")).text
        mine = {"cancel"} if name == "approver" else set()
        assert set(re.findall(r'id="act-(\w+)"', page)) == mine
        assert 'id="begin"' not in (await person.get(f"/rollouts/releases/{named}")).text
        there = f"/rollouts/releases/{named}/begin"
        assert (await person.get(there, params=QUICK)).status_code == 404
        assert (await person.post(there, **QUICK)).status_code == 404
        for act in set(ACTS) - {"cancel", "approve"}:
            assert (await person.get(f"/rollouts/{no}/{act}")).status_code == 404
            assert (await person.post(f"/rollouts/{no}/{act}")).status_code == 404
    assert rollout(world, no).state is RolloutState.RUNNING


async def test_a_countys_own_rollout_is_its_own_and_does_not_exist_for_others(world):
    world.place()
    app = create_app(world.context)
    async with (
        visiting(app, "county-publisher") as publisher,
        visiting(app, "county-operator") as operator,
        visiting(app, "other-county") as other,
        visiting(app, "school") as school,
    ):
        name = await release(publisher, world, SLOWER, "lan-xian", "county")
        no = await begin(publisher, name)
        with world.running() as steps:
            steps()
        for path in (f"/rollouts/{no}", f"/rollouts/{no}/devices.csv", f"/rollouts/{no}/live"):
            assert (await other.get(path)).status_code == 404
        assert (await other.get(f"/rollouts/releases/{name}")).status_code == 404
        assert name not in (await other.get("/rollouts")).text
        assert name not in (await other.get("/rollouts/releases")).text
        page = (await operator.get(f"/rollouts/{no}")).text
        assert numbers(page)["have it"] == 20
        assert 'id="act-pause"' in page
        assert (await operator.post(f"/rollouts/{no}/pause", why=HOSTILE)).status_code == 303
        page = (await operator.get(f"/rollouts/{no}")).text
        assert "&lt;img src=x" in page
        assert "<img src=x" not in page
        seen = (await school.get(f"/rollouts/{no}")).text
        assert numbers(seen)["have it"] == 12
        assert "counted in your part alone" in seen
        assert "s2-" not in seen
        for no_number in ("0", "-1", "x", "１", "9" * 40):
            assert (await operator.get(f"/rollouts/{no_number}")).status_code == 404


async def test_a_release_for_a_unit_one_may_not_publish_for_is_turned_away(world):
    app = create_app(world.context)
    async with visiting(app, "county-publisher") as person:
        for target, level in (("lan", "region"), ("lan-qu", "county"), ("nowhere", "school")):
            answer = await person.upload("/rollouts/releases", world.signed(SLOWER, target, level))
            assert answer.status_code == 400
            assert f"It is for {target}, which does not exist or is not yours" in answer.text
        await release(person, world, SLOWER, "s1", "school")
    assert [one for one in acts(world.context) if one[1] == "release_admitted"] == [
        ("county-publisher", "release_admitted", "s1")
    ]


@pytest.mark.parametrize(
    ("raw", "told", "zh"),
    [
        (b"", "Choose a file first", "请先选择文件"),
        (b"\xff\xfe\x00", "not a release file", "不是发布文件"),
        (b"{}", "not a release file", "不是发布文件"),
        (
            b'{"schema": 1, "layer": {}, "undo": {}}',
            "not a layer that can be read",
            "签名文件无法读取",
        ),
        (b"[" * 100_000, "not a release file", "不是发布文件"),
        (b"x" * (300 << 10), "at most 262144 bytes", "不得超过 262144 字节"),
    ],
)
async def test_a_file_that_is_no_release_is_refused_in_one_line(world, raw, told, zh):
    async with visiting(create_app(world.context), "publisher") as person:
        answer = await person.upload("/rollouts/releases", raw)
        assert answer.status_code == 400
        assert told in answer.text
        person.http.cookies.set("lang", "zh")
        assert zh in (await person.upload("/rollouts/releases", raw)).text
        assert "Traceback" not in answer.text


async def test_larger_than_any_release_is_not_even_read(world):
    async with visiting(create_app(world.context), "publisher") as person:
        answer = await person.upload("/rollouts/releases", b"x" * (600 << 10))
        assert answer.status_code == 413


ODD = ("", "0", "-1", "1e9", "9" * 40, "\x00", "' OR 1=1 --", "<script>", "%", "{{7*7}}", "é😀")


async def test_no_odd_value_makes_a_page_of_a_rollout_fall_over(world):
    world.place()
    async with visiting(create_app(world.context), "root") as person:
        name = await release(person, world, SLOWER)
        no = await begin(person, name)
        token = await person.token("/definitions")
        for odd in ODD:
            for path, names in {
                f"/rollouts/{no}": ("state", "page", "done", "lang"),
                f"/rollouts/{no}/devices.csv": ("state",),
                f"/rollouts/{no}/retry": ("device",),
                f"/rollouts/releases/{name}/begin": ("groups", "percents", "per_minute"),
                "/rollouts/placements": ("unit", "why", "page", "taken", "same"),
                "/rollouts": ("page",),
            }.items():
                for one in names:
                    answer = await person.get(path, params={one: odd})
                    assert answer.status_code in {200, 400, 404}, (path, one, odd)
                    assert "<script>" not in answer.text
            for form in ({"why": odd}, {"device": odd}):
                for act in ("pause", "retry", "resume"):
                    there = f"/rollouts/{no}/{act}"
                    answer = await person.http.post(there, data={"csrf": token, **form})
                    assert answer.status_code in {303, 409}, (act, odd)


@pytest.mark.parametrize("lang", LANGUAGES)
async def test_a_page_holds_no_inline_script_or_style_and_no_foreign_address(world, lang):
    world.place()
    async with visiting(create_app(world.context), "publisher") as person:
        name = await release(person, world, WIDER)
        no = await begin(person, name)
        person.http.cookies.set("lang", lang)
        for path in (
            "/rollouts",
            f"/rollouts/{no}",
            f"/rollouts/{no}/cancel",
            "/rollouts/releases",
            f"/rollouts/releases/{name}",
            f"/rollouts/releases/{name}/begin?per_minute=60",
            "/rollouts/placements",
            "/rollouts/device/t-1",
        ):
            answer = await person.get(path)
            assert answer.status_code == 200, path
            assert re.findall(r"<script(?![^>]*\bsrc=)", answer.text) == []
            assert re.findall(r"<style|\sstyle=|\son\w+=", answer.text) == []
            assert re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", answer.text) == []
            ids = re.findall(r'\bid="([^"]+)"', answer.text)
            assert len(ids) == len(set(ids)), path


async def test_without_the_forms_token_nothing_is_done(world):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "publisher") as person:
        name = await release(person, world, SLOWER)
        no = await begin(person, name)
        for path in (
            "/rollouts/releases",
            f"/rollouts/releases/{name}/begin",
            f"/rollouts/{no}/pause",
            f"/rollouts/{no}/back",
            "/rollouts/placements",
        ):
            assert (await person.http.post(path, data=QUICK)).status_code == 403
            answer = await person.http.post(
                path,
                data={"csrf": await person.token("/definitions")},
                headers={"origin": "https://elsewhere.example"},
            )
            assert answer.status_code == 403
    assert rollout(world, no).state is RolloutState.RUNNING


@pytest.mark.parametrize(
    "wrong",
    [
        {"groups": "x"},
        {"percents": "50, 10"},
        {"percents": "101"},
        {"per_minute": "0"},
        {"per_minute": ""},
        {"groups": "9" * 30},
        {"groups": "1," * 20},
        {"per_minute": "１"},
    ],
)
async def test_rules_that_are_none_are_told_and_what_was_typed_stays(world, wrong):
    world.place()
    async with visiting(create_app(world.context), "publisher") as person:
        name = await release(person, world, SLOWER)
        answer = await person.get(f"/rollouts/releases/{name}/begin", params=QUICK | wrong)
        assert answer.status_code == 400
        assert "no numbers that fit" in answer.text
        assert f'value="{next(iter(wrong.values()))}"' in answer.text
        answer = await person.post(f"/rollouts/releases/{name}/begin", **(QUICK | wrong))
        assert answer.status_code == 400
    with world.office() as office:
        assert office.look.rollouts() == []


def test_what_a_person_types_as_rules_is_understood():
    read = rollout_words.rules_of
    assert read("20，200", "10%、50%, 100", " 600 ") == Rules(
        groups=(20, 200), percents=(10, 50, 100), per_minute=600
    )
    assert read("", "", "1") == Rules(groups=(), percents=(), per_minute=1)


async def test_placements_are_exported_signed_and_brought_back(world):
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "school") as school:
        page = (await person.get("/rollouts/placements")).text
        assert f"never signed <b>{ALL}</b>" in page
        answer = await person.get("/rollouts/placements/export")
        lines = [json.loads(one) for one in answer.text.splitlines()]
        assert len(lines) == ALL
        assert lines[0]["path"][0] == {"level": "region", "unit": "lan"}
        signed = b"\n".join(world.placements())
        answer = await person.upload("/rollouts/placements", signed)
        assert answer.headers["location"] == f"/rollouts/placements?taken={ALL}&same=0"
        page = (await person.get(answer.headers["location"])).text
        assert f"Taken in: {ALL}; known already: 0." in page
        assert f"placement fits <b>{ALL}</b>" in page
        assert (await person.get("/rollouts/placements/export")).text == ""
        moved = Placement(device="s1-ifp-1", room="s2-r1", from_ms=world.clock.now_ms - 1)
        world.context.registry.place(moved)
        page = (await person.get("/rollouts/placements")).text
        assert "the register has it elsewhere by now <b>1</b>" in page
        assert 'id="d-s1-ifp-1"' in page
        assert 'id="d-s1-ifp-1"' not in (await school.get("/rollouts/placements")).text
        assert (await school.get("/rollouts/placements/export")).status_code == 404
        assert (await school.upload("/rollouts/placements", signed)).status_code == 404
    assert ("publisher", "placements_taken", "") in acts(world.context)


async def test_a_county_takes_in_only_its_own_placements_and_each_wrong_one_is_told(world):
    app = create_app(world.context)
    async with visiting(app, "county-publisher") as person:
        lines = (await person.get("/rollouts/placements/export")).text.splitlines()
        assert len(lines) == 20
        assert not any("s3-" in one for one in lines)
        made = world.placements("s1-ifp-1", "s3-ifp-1")
        answer = await person.upload("/rollouts/placements", b"\n".join([*made, b"{}"]))
        assert answer.status_code == 400
        assert "Not taken in: 2; taken in: 1." in answer.text
        assert "not in a unit of yours" in answer.text
        for raw in (b"[" * 100_000, b"\xff\xfe", b'{"payload": 5}', b"null"):
            answer = await person.upload("/rollouts/placements", raw)
            assert answer.status_code == 400
            assert "Not taken in: 1; taken in: 0." in answer.text
        for raw in (b"", b"\n\n"):
            assert "Choose a file first" in (await person.upload("/rollouts/placements", raw)).text
    with world.office() as office:
        assert len(office.look.not_placed()) == ALL - 1


async def test_where_a_device_stood_in_another_county_is_not_told(world):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "county") as county:
        no = await begin(person, await release(person, world, SLOWER))
        with world.running() as steps:
            steps()
            assert "Songtai" not in (await county.get(f"/rollouts/{no}")).text
            moved = Placement(device="s3-ifp-1", room="s1-r1", from_ms=world.clock.now_ms - 1)
            world.context.registry.place(moved)
            world.place("s3-ifp-1")
            steps()
        page = (await county.get(f"/rollouts/{no}")).text
        assert 'id="d-s3-ifp-1"' in page
        assert "Songtai" not in page


async def test_devices_that_cannot_be_sent_to_are_listed_with_what_to_do(world):
    world.place("s1-ifp-1", "s1-ifp-2")
    async with visiting(create_app(world.context), "publisher") as person:
        no = await begin(person, await release(person, world, SLOWER))
        page = (await person.get(f"/rollouts/{no}")).text
        assert f"Devices without a placement that fits: {ALL - 2}" in page
        assert "export the list, sign it" in page
        assert "never signed" in page


async def test_the_list_is_filtered_by_the_address_and_given_as_a_table(world):
    world.place()
    world.device("s2-ifp-1").answer = ConfigState.REJECTED
    world.device("s2-ifp-1").reason = "expired"
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "county") as county:
        no = await begin(person, await release(person, world, SLOWER))
        with world.running() as steps:
            steps()
        page = (await person.get(f"/rollouts/{no}?state=rejected")).text
        assert "Devices listed: 1" in page
        assert re.findall(r'class="id" id="d-([\w-]+)"', page) == ["s2-ifp-1"]
        assert f'href="/rollouts/{no}/devices.csv?state=rejected"' in page
        answer = await person.get(f"/rollouts/{no}/devices.csv?state=rejected")
        rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert [(row["Device"], row["State"], row["Reason"]) for row in rows] == [
            ("s2-ifp-1", "refused by the device", "has expired")
        ]
        whole = (await person.get(f"/rollouts/{no}/devices.csv")).text.splitlines()
        assert len(whole) == ALL + 1
        part = (await county.get(f"/rollouts/{no}/devices.csv")).text
        assert len(part.splitlines()) == 21
        assert "s3-" not in part
        for odd in ("?state=nonsense", "?page=99", "?state=%00", "?done=x"):
            assert (await person.get(f"/rollouts/{no}{odd}")).status_code == 200
    assert ("county", "rollout_exported", "lan-xian") in acts(world.context)


async def test_of_a_personal_device_neither_times_nor_connection_are_told(world):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "school") as school:
        no = await begin(person, await release(person, world, SLOWER))
        page = (await person.get(f"/rollouts/{no}")).text
        with world.running() as steps:
            world.device("s2-ops-pc-4").connected = False
            steps(1)
        page = (await school.get(f"/rollouts/{no}")).text
        row = re.search(r'<tr><th scope="row"><a class="id" id="d-t-1".*?</tr>', page, re.DOTALL)[0]
        assert "personal" in row
        assert not re.search(r"\d\d:\d\d|off line|Class", row)
        assert "the device&#39;s own word" not in (await school.get("/rollouts/device/t-1")).text
        rows = (await person.get(f"/rollouts/{no}/devices.csv")).content.decode("utf-8-sig")
        own = next(one for one in csv.DictReader(io.StringIO(rows)) if one["Device"] == "t-1")
        assert (own["Sent"], own["State since"], own["Room"]) == ("", "", "")


async def test_pending_ones_that_are_off_line_are_said_to_be(world):
    world.place()
    async with visiting(create_app(world.context), "publisher") as person:
        no = await begin(person, await release(person, world, SLOWER))
        world.device("s2-ifp-2").connected = False  # silent since yesterday, as seeded
        world.device("s1-ifp-2").connected = False
        world.device("s2-ops-pc-4").connected = False
        with world.running() as steps:
            steps(40)
        page = (await person.get(f"/rollouts/{no}?state=pending")).text
        assert "off line now (personal ones not counted): 3." in page
        assert page.count("off line; gets it when it is back") == 3
        answer = await person.get(f"/rollouts/{no}/devices.csv?state=pending")
        rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert {row["Attempt"] for row in rows} == {""}, "nothing was tried there yet"


async def test_a_device_tells_what_it_runs_and_who_set_each_value(world):
    world.place()
    app = create_app(world.context)
    async with (
        visiting(app, "publisher") as person,
        visiting(app, "school") as school,
        visiting(app, "county") as county,
        visiting(app, "other-county") as other,
    ):
        before = (await school.get("/device/s1-ifp-1")).text
        assert "the device has told nothing of it yet" in before
        await begin(person, await release(person, world, SLOWER, release="quiet-host"))
        with world.running() as steps:
            steps()
        for page in (
            (await school.get("/device/s1-ifp-1")).text,
            (await county.get("/rollouts/device/s1-ifp-1")).text,
        ):
            assert "as it is to be" in page
            assert re.search(r"Runs</dt><dd><span class=\"whole\">quiet-host</span>", page)
            assert re.search(r"host_s</th><td[^>]*>300 s</td><td[^>]*>Lanchuan", page)
            assert re.search(
                r"usage_s</th><td[^>]*>[^<]*</td><td[^>]*>its kind&#39;s profile", page
            )
        assert (await other.get("/rollouts/device/s1-ifp-1")).status_code == 404
        for odd in ("nothing", "lan", "s1", "%00"):
            assert (await county.get(f"/rollouts/device/{odd}")).status_code == 404
        world.device("s1-ifp-1").answer = ConfigState.ROLLED_BACK
        world.device("s1-ifp-1").reason = "collector_failing"
        await begin(
            person, await release(person, world, Config(host_s=300, network_s=300), version=3)
        )
        with world.running() as steps:
            steps()
        page = (await county.get("/rollouts/device/s1-ifp-1")).text
        assert "not what it is to be" in page
        assert "failed, went back: a collector failed" in page


async def test_a_centre_without_a_trust_document_says_so(world):
    from dataclasses import replace

    app = create_app(replace(world.context, enrolment=None))
    async with visiting(app, "publisher") as person:
        answer = await person.upload("/rollouts/releases", world.signed())
        assert answer.status_code == 400
        assert "no trust document" in answer.text
        assert (await person.get("/rollouts/placements")).status_code == 200
        assert (await person.get("/rollouts/placements/export")).status_code == 400


class Listening:
    """In place of the hub: tells as often as it is told to."""

    def __init__(self, acts):
        self.acts = acts

    @staticmethod
    def full(_):
        return False

    async def follow(self, hears, *, again, whose):
        assert hears(None)
        assert not hears(frozenset({"s1-ifp-1"}))
        yield b"retry: 2000\n\n"
        for at, act in enumerate(self.acts):
            act()
            yield f"id: {at + 1}\nevent: change\ndata: {at + 1}\n\n".encode()


async def test_a_page_hears_of_its_own_part_alone_and_events_are_numbered_by_page(world):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "other-county") as other:
        no = await begin(person, await release(person, world, SLOWER, "lan", "region"), groups="1")

        def happens(device):
            def act():
                from ketang_center.rollouts.book import RolloutBook

                with RolloutBook(world.folder / "rollouts.db") as book:
                    from dataclasses import replace

                    (one,) = book.members(no, "AND device = ?", device)
                    book.put_members(
                        [replace(one, state=State.SENT, updated_ms=one.updated_ms + 1)]
                    )

            return act

        with world.running() as steps:
            steps(1)
        await person.get(f"/rollouts/{no}")
        app.state.rollout_news.hub = Listening(
            [happens("s1-ifp-1"), happens("s2-ifp-1"), happens("s3-ifp-1"), lambda: None]
        )
        told = (await other.get(f"/rollouts/{no}/live")).text
        assert told == "retry: 2000\n\nid: 1\nevent: change\ndata: 1\n\n"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_word_a_page_may_need_is_there(lang):
    keys = words(lang).by_key
    for prefix, names in {
        "rollout_state": [one.value for one in RolloutState],
        "rollout_what": [one.value for one in What],
        "member_state": [one.value for one in State],
        "config_state": [one.value for one in ConfigState],
        "segment": SEGMENTS,
        "rollout_act": ACTS,
        "rollout_done": ACTS,
        "placement_why": ("missing", "elsewhere", "old_key"),
        "release_fault": ("no_file", "not_yours", "rules"),
    }.items():
        assert [one for one in names if f"{prefix}.{one}" not in keys] == []


def test_a_bars_parts_add_up_and_a_single_failure_is_seen():
    counts = {State.COMMITTED: 9_990, State.FAILED: 1, State.PENDING: 9}
    drawn = bar(1, counts, 10_500)
    assert drawn.total == 10_500
    assert [(one.name, one.n) for one in drawn.segments] == [
        ("committed", 9_990),
        ("trouble", 1),
        ("pending", 509),
    ]
    assert all(one.width for one in drawn.segments)
    assert drawn.segments[-1].at + drawn.segments[-1].width == BAR
    assert bar(2, {}, None).segments == ()
    assert {one for of in SEGMENTS.values() for one in of} == set(State)


@pytest.mark.parametrize(
    ("text", "zh", "part"),
    [
        ("group 2: 3 of 10 failed", "第 2 批：10 台中 3 台失败", ""),
        ("kind ops_pc: 3 of 5 failed", "OPS 电脑：5 台中 3 台失败", ""),
        ("school s2: 3 of 5 failed", "柳湾中学：5 台中 3 台失败", ""),
        ("school s2: 3 of 5 failed", "失败过多（不一定在您所辖部分）", "s1"),
        ("school s2: 3 of 5 failed", "柳湾中学：5 台中 3 台失败", "lan-xian"),
        ("group 1: 3 of 9 committed", "第 1 批：9 台中只有 3 台确认", ""),
        ("cohort 3: 3 of 9 failed", "开始后 30–45 分钟上线的设备：9 台中 3 台失败", ""),
        ("cohort 3: 3 of 9 failed", "失败过多（不一定在您所辖部分）", "s1"),
        ("7 failures", "失败 7 台", ""),
        ("30 tell nothing", "30 台没有回音", ""),
        ("the release has expired", "发布已过期", "s1"),
        ("先等等", "先等等", "s1"),
    ],
)
def test_why_it_stands_still_is_said_in_chinese_and_without_names_of_others(world, text, zh, part):
    tree = world.context.registry.tree()
    assert rollout_words.stop(text, words("zh"), tree, part) == zh


def test_in_a_browser_a_release_goes_its_way_and_back(chromium, world, free_port, tmp_path):
    world.place()
    file = tmp_path / "release.json"
    file.write_bytes(world.signed(WIDER, release="faster"))
    with serving(world.context, free_port) as base:
        page, other = (
            signed_in(chromium, base, one, "rollouts") for one in ("publisher", "approver")
        )
        page.click("#tab-releases")
        page.set_input_files("#u-file", file)
        page.click("#upload")
        expect(page.locator(".done")).to_contain_text("还没有发给任何设备")
        page.fill("#b-groups", "5, 10")
        page.fill("#b-percents", "100")
        page.click("#begin")
        expect(page.locator("#h-reach")).to_have_text(f"将影响的设备：{ALL}")
        page.click("#do")
        expect(page.locator("#live .ro-awaiting")).to_be_visible()
        other.click("#tab-rollouts")
        other.click("#r-1")
        other.click("#act-approve")
        other.click("#do")
        expect(other.locator(".done")).to_contain_text("已批准")
        expect(page.locator("#live .ro-running")).to_be_visible()
        shown = page.locator("#group-1 .count")
        page.select_option("#f-state", "committed")
        with world.running() as steps:
            steps(3)
            expect(shown.first).to_contain_text("已用上 5")
            chosen = page.locator("#f-state").input_value()
            assert chosen == "committed", "what a person is about to choose outlives the news"
            page.locator("#act-pause").focus()
            page.keyboard.press("Enter")
            page.fill("#why", "先看看")
            page.keyboard.press("Enter")
            expect(page.locator("#live .ro-paused")).to_be_visible()
            expect(page.locator("#live")).to_contain_text("先看看")
            page.click("#act-resume")
            page.click("#do")
            steps(40)
            expect(page.locator("#live .legend")).to_have_text(re.compile(f"已用上 {ALL}\\s*$"))
            page.click("#act-back")
            expect(page.locator("#h-means + p")).to_contain_text(f"{ALL}，不分批")
            page.click("#do")
            expect(page.locator(".done")).to_contain_text("正在撤回")
            steps(20)
            expect(page.locator("#live .legend")).to_have_text(re.compile(f"已用上 {ALL}\\s*$"))
        expect(other.locator("#live .ro-rolled_back")).to_be_visible()
        assert page.complaints == other.complaints == []
        for one in (page, other):
            one.context.close()
