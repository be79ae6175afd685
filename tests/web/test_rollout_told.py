"""What a page of rollouts warns of, and what it keeps from those whom it does not concern."""

import re

import pytest

from ketang_center.rollouts.plan import Rules
from ketang_center.web.app import create_app
from ketang_contract.config import Config
from ketang_contract.state import ConfigState
from tests.web.browsing import visiting
from tests.web.rolled import SLOWER, WIDER, rolled

pytestmark = pytest.mark.anyio
ALL = 26
"""Devices of the seeded region; 20 of them stand in the county ``lan-xian``, 12 in ``s1``."""
MORNING = Config(hours=tuple((day, 480, 720) for day in range(5)))
AFTERNOON = Config(hours=tuple((day, 780, 1020) for day in range(5)))


@pytest.fixture
def world(tmp_path):
    with rolled(tmp_path) as made:
        yield made


def begun(world, raw, *, by="publisher", rules=None):
    with world.office() as office:
        return office.begin(office.admit(raw, by).name, by, rules)


async def test_a_county_is_not_told_how_many_try_again_elsewhere(world):
    world.place()
    for name in ("s3-ifp-1", "s1-ifp-1"):
        world.device(name).answer = ConfigState.ROLLED_BACK
    no = begun(world, world.signed(SLOWER))
    with world.running() as steps:
        steps()
    with world.office() as office:
        assert office.retry_failed(no, "publisher") == 2
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "county") as county:
        told = "had the failed ones try again"
        assert f"{told}: Devices: 2" in (await person.get(f"/rollouts/{no}")).text
        page = (await county.get(f"/rollouts/{no}")).text
        assert told in page
        assert f"{told}:" not in page


async def test_of_one_that_paused_itself_the_reasons_are_summed_up_in_each_ones_part(world):
    world.place()
    failing = {"s1-ifp-1": "no_room", "s1-ifp-2": "no_room", "s3-ifp-1": "model_slow"}
    for name, why in failing.items():
        world.device(name).answer, world.device(name).reason = ConfigState.ROLLED_BACK, why
    no = begun(world, world.signed(SLOWER), rules=Rules(groups=(ALL,), unresolved=ALL))
    with world.running() as steps:
        steps()
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "county") as county:
        page = (await person.get(f"/rollouts/{no}")).text
        (told,) = re.findall(r'id="reasons">(.*?)</p>', page, re.DOTALL)
        assert "no room left on its disk <b>2</b>" in told
        assert "the model is too slow <b>1</b>" in told
        assert "roll it back" in told
        page = (await county.get(f"/rollouts/{no}")).text
        (told,) = re.findall(r'id="reasons">(.*?)</p>', page, re.DOTALL)
        assert "no room left on its disk <b>2</b>" in told
        assert "too slow" not in told
        assert "roll it back" not in told, "he may not"
        assert (await person.post(f"/rollouts/{no}/resume")).status_code == 303
        assert (await person.post(f"/rollouts/{no}/pause")).status_code == 303
        page = (await person.get(f"/rollouts/{no}")).text
        assert 'id="reasons"' not in page, "he has seen them"


async def test_an_engine_that_stands_still_is_told_where_a_rollout_is_to_go_on(world):
    world.place()
    app = create_app(world.context)
    async with visiting(app, "publisher") as person:

        async def bands(*paths):
            return ['id="engine-still"' in (await person.get(one)).text for one in paths]

        no = begun(world, world.signed(SLOWER))
        assert await bands("/rollouts", f"/rollouts/{no}") == [False, False]
        world.clock.now_ms += 61_000
        assert await bands("/rollouts", f"/rollouts/{no}") == [True, True], "it never worked"
        with world.running() as steps:
            steps(1)
            assert await bands("/rollouts", f"/rollouts/{no}") == [False, False]
            world.clock.now_ms += 61_000
            page = (await person.get("/rollouts")).text
            assert "engine has stood still since 2026-03-11 14:38" in page
        with world.running() as steps:
            steps()
        world.clock.now_ms += 61_000
        assert await bands("/rollouts") == [False], "it finished: nothing is to go on"


async def test_what_could_be_sent_to_nobody_is_not_begun_and_what_to_do_is_said(world):
    world.place("s1-ifp-1")
    with world.office() as office:
        name = office.admit(world.signed(SLOWER, "s2", "school"), "publisher").name
    async with visiting(create_app(world.context), "publisher") as person:
        page = (await person.get(f"/rollouts/releases/{name}")).text
        assert 'id="nobody"' in page
        assert 'id="begin"' not in page
        rules = {"groups": "20", "percents": "100", "per_minute": "1200"}
        asked = (await person.get(f"/rollouts/releases/{name}/begin", params=rules)).text
        assert "there is nobody to send it to" in asked
        assert 'id="do"' not in asked
        person.http.cookies.set("lang", "zh")
        answer = await person.post(f"/rollouts/releases/{name}/begin", **rules)
        assert answer.status_code == 409
        assert "s2 下没有设备有签好的位置证明" in answer.text


async def test_it_is_warned_who_would_have_no_hours_left_and_only_who_sees_them_all(world):
    world.place()
    begun(world, world.signed(MORNING, "s1", "school"))
    with world.running() as steps:
        steps()
    with world.office() as office:
        name = office.admit(world.signed(AFTERNOON), "publisher").name
    app = create_app(world.context)
    async with visiting(app, "publisher") as person, visiting(app, "county") as county:
        path = f"/rollouts/releases/{name}"
        assert "devices would have no hours left: 12." in (await person.get(path)).text
        rules = {"groups": "20", "percents": "100", "per_minute": "1200"}
        assert 'id="no-hours"' in (await person.get(f"{path}/begin", params=rules)).text
        assert 'id="no-hours"' not in (await county.get(path)).text


async def test_who_brought_it_first_is_named_and_may_not_approve_it(world):
    world.place()
    wide = world.signed(WIDER)
    with world.office() as office:
        name = office.admit(wide, "approver").name
        no = office.begin(name, "publisher")
    app = create_app(world.context)
    async with visiting(app, "approver") as approver, visiting(app, "root") as root:
        assert 'id="act-approve"' not in (await approver.get(f"/rollouts/{no}")).text
        assert (await approver.post(f"/rollouts/{no}/approve")).status_code == 409
        assert "handed in by approver" in (await root.get(f"/rollouts/{no}/approve")).text
    with world.office() as office:
        office.approve(no, "second", "local:ops")
    async with visiting(app, "root") as root:
        page = (await root.get(f"/rollouts/{no}")).text
        assert "approved: at the centre&#39;s machine, under the login ops" in page


async def test_the_limits_that_a_page_names_are_those_of_the_rules(world):
    world.place()
    with world.office() as office:
        name = office.admit(world.signed(SLOWER), "publisher").name
    rules = Rules()
    async with visiting(create_app(world.context), "publisher") as person:
        page = (await person.get(f"/rollouts/releases/{name}")).text
        assert f"begins when {rules.success_pct}% of the one before" in page
        typed = {"groups": "20", "percents": "100", "per_minute": "1200"}
        page = (await person.get(f"/rollouts/releases/{name}/begin", params=typed)).text
        assert (
            f"of a group more than {rules.failures_pct}%, of a kind more than {rules.kind_pct}%, of"
            f" a school more than {rules.school_pct}%, or of those that come on line in the same"
            f" quarter of an hour more than {rules.cohort_pct}% fail ({rules.failures_least} at"
        ) in page
