"""The console under noise: no query string and no form makes any route fall over.

The console publishes no description of itself, so its own list of routes is walked. An exception
that no handler catches fails the test where it is raised.
"""

import asyncio
import contextlib
import re
from collections import defaultdict
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ketang_center.web.app import create_app
from tests.security.test_web_access import filled, routes
from tests.web.browsing import visiting
from tests.web.seed import NOW_MS, populate, seeded

NAMES = (
    *("unit", "q", "day", "state", "kind", "page", "who", "action", "subject", "school", "no"),
    *("next", "lang", "done", "role", "name", "code", "session", "attention", "what", "sort", "x"),
)
FIELDS = (*NAMES, "password", "current", "new", "again", "display", "days", "uses", "contact")
SENSIBLE = {
    "unit": "s1",
    "school": "s1",
    "name": "noise",
    "role": "viewer",
    "session": "1",
    "days": "7",
    "uses": "5",
    "no": "1",
    "sure": "1",
    "why": "lost",
    "then": "split",
}
answered: defaultdict[str, set[int]] = defaultdict(set)
ENDLESS = {"/live"}
"""Answers with a stream that never ends; test_web_access looks at it."""
ENDS_THE_SESSION = re.compile(r"/sign-(out|in)|password|/root/|sessions?\b")
PEOPLE = ("root", "county")
ROUNDS = settings(
    max_examples=600,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

odd = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(
        ["", "0", "-1", "1e9", "9" * 40, "NaN", "2026-02-30", "9999-12-31", "0000-00-00", "lan",
         "s1", "s1-ifp-1", "../../etc/passwd", "\x00", "' OR 1=1 --", "<script>", "%", "{{7*7}}"]
    ),
)  # fmt: skip
raw = st.binary(max_size=60).map(quote)
query = st.one_of(
    st.lists(st.tuples(st.sampled_from(NAMES), odd), max_size=5).map(urlencode),
    st.lists(st.tuples(st.sampled_from(NAMES), raw), max_size=4).map(
        lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
    ),
    raw,
)


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    with seeded(folder, demo=False, clock=lambda: NOW_MS) as (context, *_):
        populate(context.accounts)
        yield create_app(context)


@pytest.fixture(scope="module")
def people(app, runner):
    """Give one signed-in person a kind, and one who is not."""
    entered = contextlib.AsyncExitStack()

    async def enter():
        return {
            name: await entered.enter_async_context(visiting(app, name)) for name in (*PEOPLE, "")
        }

    yield runner.run(enter())
    runner.run(entered.aclose())


@pytest.fixture(scope="module")
def walked(app):
    return {
        verb: sorted({path for method, path in routes(app) if method == verb} - ENDLESS)
        for verb in ("GET", "POST")
    }


@given(noise=st.data())
@ROUNDS
def test_no_query_string_makes_a_page_fall_over(people, runner, walked, noise):
    name = noise.draw(st.sampled_from(sorted(people)))
    path = filled(
        noise.draw(st.sampled_from(walked["GET"])), device="s1-ifp-1", unit="s1", name="county"
    )
    there = f"{path}?{noise.draw(query)}"
    answer = runner.run(people[name].get(there))
    assert answer.status_code < 500 or (
        answer.status_code == 503 and "retry-after" in answer.headers
    )


@given(part=st.one_of(odd, raw), noise=st.data())
@settings(ROUNDS, max_examples=300)
def test_no_name_in_a_path_makes_a_page_fall_over(people, runner, walked, part, noise):
    open_ended = [one for one in walked["GET"] if "{" in one]
    path = noise.draw(st.sampled_from(open_ended))
    answer = runner.run(
        people["root"].get(re.sub(r"{[^}]+}", lambda _: quote(part, safe="%"), path))
    )
    assert answer.status_code < 500


@given(fields=st.lists(st.tuples(st.sampled_from(FIELDS), odd), max_size=8), noise=st.data())
@settings(ROUNDS, max_examples=400)
def test_no_form_makes_a_page_fall_over(people, runner, walked, fields, noise):
    quiet = [one for one in walked["POST"] if not ENDS_THE_SESSION.search(one)]
    path = filled(noise.draw(st.sampled_from(quiet)), device="s1-ifp-1", name="other-county")
    form = {**SENSIBLE, **dict(fields)}
    answer = runner.run(sent(people["root"], path, form))
    answered[path].add(answer.status_code)
    assert answer.status_code < 500


async def sent(person, path, form):
    return await person.http.post(path, data={"csrf": await person.token("/definitions"), **form})


def test_most_pages_are_walked(walked, people, runner):
    assert {"/", "/devices", "/device/{device}", "/accounts", "/audit"} <= set(walked["GET"])
    assert len(walked["POST"]) > 5
    assert not answered or {200, 303} & set().union(*answered.values()), "no form was ever taken"
    assert runner.run(people["root"].get("/audit")).status_code == 200, "still signed in"
