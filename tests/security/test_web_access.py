"""Attacks on the console: each is refused, and counted where it is one. No browser here but one."""

import asyncio
import re
import socket
import sqlite3
import string
from urllib.parse import quote

import httpx
import pytest

from ketang_center.access.policy import Grant, Role
from ketang_center.registry.calendars import DAY_MS
from ketang_center.web import gate
from ketang_center.web.app import create_app
from ketang_center.web.gate import MOST_BYTES, OPEN, under
from tests.web.browsing import SECURE, visiting
from tests.web.seed import NOW_MS, PASSWORD, populate, seeded
from tests.web.serving import serving

pytestmark = pytest.mark.anyio
OTHER_COUNTY = re.compile(r"Songtai|松台|s3-(?:ifp|ops-pc)-[23]")
INJECTED = (
    "' OR '1'='1",
    "'; DROP TABLE account; --",
    '" UNION SELECT password_hash FROM account --',
    "1) OR (1=1",
    "\x00",
    "%' ESCAPE '\\",
    "9" * 40,
    "😀",
)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Clock:
    now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def context(tmp_path, clock):
    with seeded(tmp_path, demo=False, clock=clock) as (found, *_):
        populate(found.accounts)
        yield found


@pytest.fixture
def app(context):
    return create_app(context)


def counted(context, what):
    return {one.what: one.ever for one in context.security.tallies(0)}.get(what, 0)


def acted(context):
    return [(one.who, one.action) for one in context.audit]


def routes(app):
    """Yield ``(method, path)`` of every route, those of included routers too."""
    for route in app.routes:
        inner = getattr(route, "original_router", None)
        for one in inner.routes if inner else [route]:
            if one.path == "/static":
                yield "GET", "/static/console.css"
                continue
            for method in one.methods or ():
                yield method, one.path


def filled(path, **values):
    """Put an id into each place of a path; an unknown place gets ``x``."""
    return re.sub(r"{(\w+)(?::\w+)?}", lambda at: values.get(at[1], "x"), path)


# Who may in at all


async def test_without_a_log_in_every_route_answers_with_the_sign_in_page_and_nothing_else(app):
    seen = []
    async with visiting(app) as stranger:
        for method, path in routes(app):
            there = filled(path, device="s1-ifp-1", school="s1", name="root")
            answer = await stranger.http.request(method, there)
            seen.append(path)
            if under(there, OPEN):
                assert answer.status_code in {200, 401, 403, 404}, (method, path)
                assert not re.search(r"s1-ifp|Qinghe|Root", answer.text), path
                continue
            assert answer.status_code in {303, 401}, (method, path)
            assert answer.text == "", path
            assert answer.headers.get("location", "/sign-in").startswith("/sign-in"), path
    assert {"/", "/devices", "/device/{device}", "/live", "/accounts", "/audit"} <= set(seen)
    assert (await unknown_path(app)).headers["location"] == "/sign-in?next=%2Fnowhere"


async def unknown_path(app):
    async with visiting(app) as stranger:
        return await stranger.get("/nowhere")


async def test_a_county_gets_nothing_of_another_county_by_any_route(app, context):
    paths = [path for method, path in routes(app) if method == "GET" and path != "/live"]
    async with visiting(app, "county") as person:
        for path in paths:
            for asked in ("", "?unit=lan-qu", "?unit=s3", "?unit=s3-r1", "?q=s3", "?who=root"):
                there = filled(path, device="s3-ifp-1", school="s3", name="other-county")
                answer = await person.get(f"{there}{asked}")
                assert not OTHER_COUNTY.search(answer.text), (there, asked)
                if "{" in path or (asked.startswith("?unit=") and path in {"/", "/devices"}):
                    assert answer.status_code == 404, (there, asked)
    assert counted(context, "forbidden") > 0


async def test_a_viewer_changes_nothing_by_any_route(app, context):
    posts = [path for method, path in routes(app) if method not in {"GET", "HEAD"}]
    form = {"role": "admin", "unit": "lan", "name": "mallory", "session": "99", "subject": "x"}
    kept = (context.accounts.all(), context.sessions.of("root", NOW_MS))
    async with visiting(app, "county") as person:
        for path in posts:
            if path in {"/sign-in", "/sign-out"}:
                continue
            answer = await person.post(filled(path, name="root"), "/account", **form)
            assert answer.status_code in {400, 401, 404}, path
    assert (context.accounts.all(), context.sessions.of("root", NOW_MS)) == kept


async def test_an_account_without_grants_is_told_so_and_sees_no_figure(app, context):
    async with visiting(app, "nothing") as person:
        for path in ("/", "/devices", "/device/s1-ifp-1", "/live", "/audit", "/accounts"):
            answer = await person.get(path)
            assert answer.status_code == 403, path
            assert "Nothing granted yet" in answer.text
    assert counted(context, "forbidden") == 0, "that is nobody's attack"


@pytest.mark.parametrize(
    ("name", "office", "heading"),
    [
        ("county", "", "Qinghe County"),
        ("county", "s1", "Qinghe County"),
        ("school", "lan", "Qinghe First Primary"),
        ("two", "", "Qinghe County"),
        ("two", "s3", "Songtai School"),
    ],
)
async def test_a_cookie_chooses_among_granted_offices_alone(app, name, office, heading):
    async with visiting(app, name) as person:
        person.http.cookies.set("unit", office)
        assert heading in (await person.get("/")).text.partition("<h1>")[2][:100]


async def test_every_look_at_a_device_is_audited_under_the_persons_own_name(app, context):
    async with visiting(app, "school") as person:
        assert (await person.get("/device/s1-ifp-1")).status_code == 200
    last = list(context.audit)[-1]
    assert (last.who, last.action, last.unit) == ("school", "device_day", "s1")


# Passwords


async def test_brute_force_locks_its_source_while_others_still_get_in(app, context):
    async with visiting(app, source="203.0.113.9") as attacker:
        codes = [
            (await attacker.sign_in("root", f"guess number {no}")).status_code for no in range(12)
        ]
        assert codes == [401] * 10 + [429] * 2
        late = await attacker.sign_in("root")
        assert (late.status_code, late.headers["retry-after"]) == (429, "901")
        assert "session" not in attacker.http.cookies
    async with visiting(app, "root", source="198.51.100.1") as owner:
        assert (await owner.get("/")).status_code == 200
    assert counted(context, "login_failed") == 10
    assert counted(context, "login_locked") == 3
    assert acted(context).count(("root", "login_failed")) == 10
    assert acted(context).count(("root", "login_locked")) == 1
    assert {one.source for one in context.security.recent()} == {"203.0.113.9"}


async def test_one_hosts_ipv6_addresses_are_one_source(app):
    codes = []
    for no in range(12):
        async with visiting(app, source=f"2001:db8::{no:x}") as attacker:
            codes.append((await attacker.sign_in("root", "guess guess guess")).status_code)
    assert codes[-1] == 429


async def test_a_wrong_name_and_a_wrong_password_read_the_same(app, context):
    context.accounts.set_disabled("two", disabled=True)
    pages = []
    for name, password in (("root", "wrong"), ("nobody", "wrong"), ("two", PASSWORD)):
        async with visiting(app) as person:
            answer = await person.sign_in(name, password)
            assert answer.status_code == 401
            pages.append(re.sub(r'value="[^"]*"|: "\w+"', "", answer.text))
    assert pages[0] == pages[1] == pages[2]


# Sessions


@pytest.mark.parametrize("planted", ["", "x" * 43, "fixed-by-the-attacker"])
async def test_a_session_cannot_be_fixed_before_the_log_in(app, context, planted):
    async with visiting(app) as victim:
        victim.http.cookies.set("session", planted, domain="127.0.0.1")
        await victim.sign_in("root")
        sent = [one.value for one in victim.http.cookies.jar if one.name == "session"]
        assert planted not in sent or len(sent) > 1
    assert context.sessions.find(planted, NOW_MS) is None


async def test_the_token_is_another_one_after_each_log_in_and_the_one_before_is_dead(app, context):
    async with visiting(app, "root") as person:
        before = person.http.cookies["session"]
        token = re.search(r'name="csrf" value="([\w-]+)"', (await person.get("/account")).text)[1]
        await person.http.post(
            "/sign-in", data={"csrf": token, "name": "root", "password": PASSWORD}
        )
        assert person.http.cookies["session"] != before
    assert context.sessions.find(before, NOW_MS) is None


async def test_a_token_from_before_the_log_in_is_never_promoted(app, context):
    async with visiting(app) as person:
        await person.get("/sign-in")
        visit = person.http.cookies["visit"]
        await person.sign_in("root")
        assert person.http.cookies["session"] != visit
    assert context.sessions.find(visit, NOW_MS) is None


async def test_cookies_carry_every_flag_their_transport_allows(app):
    for base, name, secure in (
        (SECURE, "__Host-session", True),
        ("http://127.0.0.1", "session", False),
        ("http://[::1]:8080", "session", False),
    ):
        async with visiting(app, base=base) as person:
            answer = await person.sign_in("school", there="/")
            found = [one for one in answer.headers.get_list("set-cookie") if one.startswith(name)]
            flags = {part.strip().lower() for part in found[0].split(";")[1:]}
            assert flags == {"path=/", "httponly", "samesite=strict"} | (
                {"secure"} if secure else set()
            )
            assert ("strict-transport-security" in answer.headers) is secure


async def test_idle_and_old_sessions_are_over_and_an_open_page_does_not_keep_one_alive(app, clock):
    async with visiting(app, "school") as person:
        for _ in range(5):
            clock.now_ms += 7 * 60_000
            fragment = await person.get("/", headers={"HX-Request": "true"})
        assert fragment.status_code == 401
        assert fragment.headers["hx-redirect"] == "/sign-in"
        assert (await person.get("/")).status_code == 303
    async with visiting(app, "school") as person:
        for _ in range(30):
            clock.now_ms += 25 * 60_000
            answer = await person.get("/")
        assert answer.status_code == 303, "twelve hours are over"


async def test_a_session_ends_with_its_account_and_with_its_password(app, context):
    async with visiting(app, "school") as person, visiting(app, "school") as elsewhere:
        token = person.http.cookies["session"]
        changed = await person.post(
            "/account/password",
            "/account",
            current=PASSWORD,
            new="nine dry parasols",
            again="nine dry parasols",
        )
        assert changed.status_code == 303
        assert person.http.cookies["session"] != token
        assert context.sessions.find(token, NOW_MS) is None
        assert (await person.get("/")).status_code == 200
        assert (await elsewhere.get("/")).status_code == 303
        context.accounts.set_disabled("school", disabled=True)
        assert (await person.get("/")).status_code == 303
        assert (await person.sign_in("school", "nine dry parasols")).status_code == 401


@pytest.mark.parametrize("act", ["reset", "disable"])
async def test_what_an_administrator_does_to_an_account_ends_what_it_has_open(app, act):
    async with visiting(app, "root") as admin, visiting(app, "school") as person:
        await admin.post(f"/accounts/school/{act}", "/account")
        assert (await person.get("/")).status_code == 303
        assert (await person.sign_in("school")).status_code == 401


async def test_when_rights_change_the_session_goes_on_under_a_new_token(app, context):
    async with visiting(app, "root") as admin, visiting(app, "school") as person:
        token = person.http.cookies["session"]
        done = await admin.post("/accounts/school/grant", "/account", role="viewer", unit="s2")
        assert done.status_code == 303
        assert (await person.get("/devices")).status_code == 200
        assert person.http.cookies["session"] != token
        assert context.sessions.find(token, NOW_MS) is None


async def test_signing_out_ends_the_session_on_the_server(app, context):
    async with visiting(app, "school") as person:
        token = person.http.cookies["session"]
        assert (await person.post("/sign-out")).status_code == 303
        person.http.cookies.set("session", token, domain="127.0.0.1")
        assert (await person.get("/")).status_code == 303
    assert context.sessions.find(token, NOW_MS) is None


async def test_others_sessions_can_be_ended_and_only_ones_own(app, context):
    async with visiting(app, "root") as other, visiting(app, "school") as person:
        theirs = context.sessions.of("root", NOW_MS)[0]
        answer = await person.post("/account/sessions", "/account", session=str(theirs.id))
        assert answer.status_code == 404
        assert (await other.get("/")).status_code == 200
        async with visiting(app, "school") as second:
            await person.post("/account/sessions", "/account", session="others")
            assert (await second.get("/")).status_code == 303
        assert (await person.get("/")).status_code == 200


async def test_a_first_password_opens_nothing_but_its_change(app, context):
    context.accounts.set_password(
        "school", context.accounts.get("school").password_hash, must_change=True
    )
    async with visiting(app, "school") as person:
        for path in ("/", "/devices", "/device/s1-ifp-1", "/live", "/definitions"):
            answer = await person.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/account"), path
        new = {"new": "nine dry parasols", "again": "nine dry parasols"}
        await person.post("/account/password", "/account", current=PASSWORD, **new)
        assert (await person.get("/")).status_code == 200


async def test_a_live_stream_ends_with_its_session(app, context):
    class Hub:
        @staticmethod
        def full(_):
            return False

        async def follow(self, _, *, again, whose):
            for no in range(1000):
                yield f"data: {no}\n\n".encode()
                if no == 2:
                    context.sessions.end_all("school")

    app.state.hub = Hub()
    async with visiting(app, "school") as person:
        assert (await person.get("/live")).text.count("data:") == 3


# Another site


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("", {}),
        ("x" * 43, {}),
        ("other", {}),
        ("visit", {}),
        ("own", {"Origin": "https://evil.example"}),
        ("own", {"Origin": "null"}),
        ("own", {"Origin": "http://127.0.0.1:81"}),
        ("own", {"Origin": "https://127.0.0.1"}),
        ("own", {"Sec-Fetch-Site": "cross-site"}),
        ("own", {"Sec-Fetch-Site": "same-site"}),
    ],
)
async def test_a_forged_form_is_refused_and_counted(app, context, token, headers):
    async with visiting(app, "root") as victim, visiting(app, "county-admin") as attacker:
        tokens = {
            "other": await attacker.token("/account"),
            "own": await victim.token("/account"),
        }
        async with visiting(app) as stranger:
            tokens["visit"] = await stranger.token("/sign-in")
        answer = await victim.http.post(
            "/accounts/school/disable", data={"csrf": tokens.get(token, token)}, headers=headers
        )
    assert answer.status_code == 403
    assert "no longer valid" in answer.text
    assert not context.accounts.get("school").disabled
    assert counted(context, "csrf") == 1


async def test_a_forms_own_token_is_taken_from_the_field_or_the_header(app, context):
    same_site = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    async with visiting(app, "root") as person:
        token = await person.token("/account")
        by_header = await person.http.post(
            "/accounts/school/disable", headers={"X-CSRF-Token": token, **same_site}
        )
        by_field = await person.http.post(
            "/accounts/school/enable", data={"csrf": token}, headers=same_site
        )
        by_part = await person.http.post(
            "/accounts/school/disable", files={"csrf": (None, token)}, headers=same_site
        )
    assert [one.status_code for one in (by_header, by_field, by_part)] == [303] * 3
    assert context.accounts.get("school").disabled


async def test_a_log_in_cannot_be_forged_either(app, context):
    async with visiting(app) as victim, visiting(app) as attacker:
        await victim.get("/sign-in")
        for token in ("", await attacker.token("/sign-in")):
            form = {"csrf": token, "name": "county", "password": PASSWORD}
            assert (await victim.http.post("/sign-in", data=form)).status_code == 403
        planted = attacker.http.cookies["visit"].replace(".", ".0")
        victim.http.cookies.set("visit", planted, domain="127.0.0.1")
        assert (await victim.http.post("/sign-in", data=form)).status_code == 403
        assert "session" not in victim.http.cookies
    assert counted(context, "csrf") == 3


async def test_nothing_changes_by_a_get(app, context):
    kept = context.accounts.all()
    async with visiting(app, "root") as person:
        for path in ("disable", "grant?role=admin&unit=lan", "reset", "revoke", "link?subject=x"):
            assert (await person.get(f"/accounts/school/{path}")).status_code == 405
        assert (await person.get("/sign-out")).status_code == 405
        assert (await person.get("/")).status_code == 200
    assert context.accounts.all() == kept


async def test_a_name_rebound_to_this_machine_is_no_host_of_ours(app):
    for base in (
        "http://evil.example",
        "http://evil.example:8080",
        "http://127.0.0.1.evil.example",
    ):
        async with visiting(app, base=base) as person:
            assert (await person.get("/sign-in")).status_code == 421
    for base in ("http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:8080"):
        async with visiting(app, base=base) as person:
            assert (await person.get("/sign-in")).status_code == 200


@pytest.mark.parametrize(
    "there",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\n//evil.example",
        "javascript:alert(1)",
        "http:evil.example",
        "/..//evil.example\r\nSet-Cookie: a=b",
        "///evil.example",
        "//[",
        "evil",
        "/ok" + "x" * 3000,
    ],
)
async def test_signing_in_never_leads_to_another_site(app, there):
    async with visiting(app) as person:
        page = await person.http.get("/sign-in", params={"next": there})
        assert 'name="next" value="/"' in page.text
        assert (await person.sign_in("school", there=there)).headers["location"] == "/"
        again = await person.http.get("/sign-in", params={"next": there})
        assert again.headers["location"] == "/"


async def test_signing_in_leads_to_the_page_that_was_wanted(app):
    async with visiting(app) as person:
        asked = await person.get("/devices?q=panel&day=2026-03-10")
        page = await person.get(asked.headers["location"])
        there = re.search(r'name="next" value="([^"]+)"', page.text)[1].replace("&amp;", "&")
        done = await person.sign_in("school", there=there)
        assert done.headers["location"] == "/devices?q=panel&day=2026-03-10"


# More than was granted


@pytest.mark.parametrize(
    ("who", "path", "form"),
    [
        ("county-admin", "/accounts/county/grant", {"role": "viewer", "unit": "lan"}),
        ("county-admin", "/accounts/county/grant", {"role": "viewer", "unit": "lan-qu"}),
        ("county-admin", "/accounts/county/grant", {"role": "operator", "unit": "lan-xian"}),
        ("county-admin", "/accounts/county/grant", {"role": "publisher", "unit": "s1"}),
        ("county-admin", "/accounts/county/grant", {"role": "god", "unit": "s1"}),
        ("county-admin", "/accounts/county/grant", {"role": "viewer", "unit": "s1-r1"}),
        ("county-admin", "/accounts/county-admin/grant", {"role": "operator", "unit": "s1"}),
        ("county-admin", "/accounts/root/grant", {"role": "viewer", "unit": "s1"}),
        ("county-admin", "/accounts/root/reset", {}),
        ("county-admin", "/accounts/root/disable", {}),
        ("county-admin", "/accounts/root/revoke", {"role": "admin", "unit": "lan"}),
        ("county-admin", "/accounts/school-operator/reset", {}),
        ("county-admin", "/accounts/school-operator/link", {"subject": "mine"}),
        ("county-admin", "/accounts/two/disable", {}),
        ("county-admin", "/accounts/two/reset", {}),
        ("county-admin", "/accounts/two/revoke", {"role": "viewer", "unit": "s3"}),
        ("county-admin", "/accounts", {"name": "eve", "role": "operator", "unit": "s1"}),
        ("county-admin", "/accounts", {"name": "eve", "role": "viewer", "unit": "lan"}),
        ("county", "/accounts/county/grant", {"role": "admin", "unit": "lan-xian"}),
        ("school-operator", "/accounts", {"name": "eve", "role": "viewer", "unit": "s1"}),
    ],
)
async def test_nobody_gives_or_takes_more_than_is_his(app, context, who, path, form):
    kept = context.accounts.all()
    async with visiting(app, who) as person:
        answer = await person.post(path, "/account", **form)
    assert answer.status_code == 404
    assert context.accounts.all() == kept
    assert counted(context, "forbidden") == 1


async def test_a_county_admin_manages_his_own_and_sees_nothing_of_others(app, context):
    async with visiting(app, "county-admin") as admin:
        page = (await admin.get("/accounts")).text
        assert re.findall(r'id="a-([\w-]+)"', page) == [
            "county",
            "county-admin",
            "school",
            "school-operator",
            "two",
        ]
        assert not OTHER_COUNTY.search(page)
        both = (await admin.get("/accounts/two")).text
        assert "more roles outside" in both
        assert not OTHER_COUNTY.search(both)
        made = await admin.post("/accounts", name="Eve", role="viewer", unit="s2", display="Eve")
        password = re.search(r'id="first-password">([\w-]+)<', made.text)[1]
        assert (await admin.post("/accounts/school/disable")).status_code == 303
        assert (await admin.post("/accounts/county-admin/disable")).status_code == 400
        log = (await admin.get("/audit")).text
        assert "added an account" in log
        assert "signed in" not in log.partition("<tbody>")[2], "log-ins are the centre's own"
    async with visiting(app) as eve:
        assert (await eve.sign_in("eve", password)).status_code == 303
        assert (await eve.get("/")).headers["location"] == "/account"
    assert context.accounts.get("eve").grants == (Grant(Role.VIEWER, "s2"),)
    assert ("county-admin", "account_added") in acted(context)
    assert ("county-admin", "account_disabled") in acted(context)


async def test_nobody_resets_his_own_password_past_the_current_one(app, context):
    kept = context.accounts.get("root").password_hash
    async with visiting(app, "root") as admin:
        answer = await admin.post("/accounts/root/reset")
        assert answer.status_code == 400
        assert "My account" in answer.text
        assert "/reset" not in (await admin.get("/accounts/root")).text
    assert context.accounts.get("root").password_hash == kept


@pytest.mark.parametrize(
    ("held", "unit", "given", "at"),
    [
        ("publisher", "lan-xian", "approver", "lan-xian"),
        ("publisher", "lan-xian", "approver", "s1"),
        ("approver", "s1", "publisher", "lan"),
    ],
)
async def test_who_publishes_does_not_approve(app, context, held, unit, given, at):
    context.accounts.add("eve", "", "", must_change=False, at_ms=NOW_MS)
    context.accounts.grant("eve", Grant(Role(held), unit))
    async with visiting(app, "root") as admin:
        answer = await admin.post("/accounts/eve/grant", role=given, unit=at)
        assert answer.status_code == 400
        assert "cannot both publish and approve" in answer.text
        elsewhere = await admin.post("/accounts/eve/grant", role=given, unit="s3")
        assert elsewhere.status_code == 303
    assert {one.unit for one in context.accounts.get("eve").grants} == {unit, "s3"}


async def test_taking_the_last_role_away_is_no_attack(app, context):
    async with visiting(app, "county-admin") as admin:
        role = {"role": "viewer", "unit": "s1"}
        answer = await admin.post("/accounts/school/revoke", "/account", **role)
        page = await admin.get(answer.headers["location"])
        assert page.status_code == 200
        assert "The role of school was taken away" in page.text
        role = {"role": "admin", "unit": "lan-xian"}
        answer = await admin.post("/accounts/county-admin/revoke", "/account", **role)
        page = await admin.get(answer.headers["location"])
        assert page.status_code == 200
        assert "you no longer manage accounts" in page.text
    assert counted(context, "forbidden") == 0


async def test_an_act_on_an_account_is_noted_before_it_is_done(app, context, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    kept = context.accounts.all()
    acts = (
        ("/accounts", {"name": "eve", "role": "viewer", "unit": "s1"}),
        ("/accounts/county/grant", {"role": "viewer", "unit": "s1"}),
        ("/accounts/county/revoke", {"role": "viewer", "unit": "lan-xian"}),
        ("/accounts/county/disable", {}),
        ("/accounts/county/reset", {}),
        (
            "/account/password",
            {"current": PASSWORD, "new": "nine dry parasols", "again": "nine dry parasols"},
        ),
    )
    async with visiting(app, "root") as admin:
        token = await admin.token("/definitions")
        monkeypatch.setattr(context.audit, "note", full)
        for path, form in acts:
            with pytest.raises(sqlite3.OperationalError):
                await admin.http.post(path, data={"csrf": token, **form})
    assert context.accounts.all() == kept


async def test_a_part_of_the_audit_log_tells_nothing_of_the_rest(app, context, clock):
    for no in range(40):
        context.audit.note(NOW_MS, "x", "code" if no else "register", "", "s3")
    async with visiting(app, "county-admin") as admin:
        await admin.post("/accounts/school/disable")
        page = (await admin.get("/audit")).text
    head = context.audit.head()
    assert "The chain holds" in page
    assert head.hash not in page
    assert re.findall(r'<option value="(\w+)"', page) == ["account_disabled"]
    assert str(head.no) not in re.sub(r"<[^>]*>", " ", page.partition("<main")[2]).split()
    async with visiting(app, "root") as admin:
        page = (await admin.get("/audit")).text
    assert 'class="id hash"' in page
    assert '<option value="register"' in page


# What is sent


@pytest.mark.parametrize("text", INJECTED, ids=range(len(INJECTED)))
async def test_sql_in_any_parameter_or_field_finds_and_breaks_nothing(app, context, text):
    kept = context.accounts.all()
    names = ("unit", "day", "q", "connection", "freshness", "day_state", "attention", "page")
    names += ("who", "action", "lang", "next", "device", "state", "code", "done")
    async with visiting(app, "root") as person:
        reads = {path for method, path in routes(app) if method == "GET"} - {"/live", "/sign-in"}
        for path in sorted(reads):
            there = filled(path, device="s1-ifp-1", school="s1", name="school")
            answers = [await person.http.get(there, params={name: text}) for name in names]
            answers.append(await person.http.get(there, params=dict.fromkeys(names, text)))
            for answer in answers:
                assert answer.status_code in {200, 400, 403, 404}, path
                assert "argon2" not in answer.text
        for path in sorted(one for one in reads if "{" in one):
            there = re.sub(r"{\w+}", quote(text, safe=""), path)
            assert (await person.get(there)).status_code == 404, path
        posts = [path for method, path in routes(app) if method == "POST" and path != "/sign-out"]
        form = dict.fromkeys(
            ("name", "display", "role", "unit", "subject", "current", "new", "again", "session"),
            text,
        )
        for path in posts:
            there = filled(path, name="school")
            if there.endswith(("enable", "disable", "reset", "link", "/sign-in")):
                continue
            answer = await person.post(there, "/account", **form)
            assert answer.status_code in {400, 401, 404, 409}, path
    async with visiting(app) as stranger:
        assert (await stranger.sign_in(text, text)).status_code == 401
    assert context.accounts.all() == kept


def raw(port, path):
    """Ask for a path exactly as written: clients take ``..`` out."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
        )
        found = b""
        while part := line.recv(65536):
            found += part
    return int(found.split()[1]), found


def test_no_path_leaves_the_static_folder(context, free_port):
    with serving(context, free_port):
        for path in (
            "/static/../app.py",
            "/static/..%2fapp.py",
            "/static/%2e%2e/app.py",
            "/static/..\\app.py",
            "/static//etc/passwd",
            "/static/%2fetc%2fpasswd",
            "/static/vendor/../../app.py",
            "/static/....//app.py",
            "/static/%00",
            "/static/" + "../" * 12 + "etc/passwd",
            "/static/",
            "/static/vendor",
        ):
            status, text = raw(free_port, path)
            assert status in {303, 400, 404}, path
            assert b"create_app" not in text
            assert b"root:" not in text
        assert raw(free_port, "/static/console.css")[0] == 200
        for path in ("/device/..%2f..%2fetc%2fpasswd", "/accounts/../../x"):
            assert raw(free_port, path)[0] == 303
    assert counted(context, "forbidden") >= 4


@pytest.mark.parametrize("path", ["/sign-in", "/accounts", "/static/console.css", "/nowhere"])
async def test_a_body_over_the_limit_is_refused_as_it_comes(app, context, path):
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 64 * MOST_BYTES:
            sent += 4096
            yield b"x" * 4096

    async with visiting(app) as person:
        told = await person.http.post(path, content=b"x" * (MOST_BYTES + 1))
        untold = await person.http.post(path, content=endless())
        strange = await person.http.post(path, content=b"", headers={"Content-Length": "-1"})
        fits = await person.http.post(path, content=b"x" * MOST_BYTES)
    assert (told.status_code, untold.status_code, strange.status_code) == (413, 413, 413)
    assert fits.status_code != 413
    assert counted(context, "oversized") == 3


async def test_a_larger_body_is_taken_from_whom_the_centre_knows_alone(app, context, monkeypatch):
    monkeypatch.setitem(gate.LARGER, "/accounts", 4 * MOST_BYTES)
    big = {"name": "x" * 2 * MOST_BYTES}
    async with visiting(app) as stranger, visiting(app, "root") as person:
        assert (await stranger.http.post("/accounts", data=big)).status_code == 413
        answer = await person.post("/accounts", "/account", role="viewer", unit="s1", **big)
        assert answer.status_code == 400
        assert (await person.post("/sign-out", "/account", **big)).status_code == 413
    assert counted(context, "oversized") == 2


def test_a_real_server_stops_reading_what_is_too_large(context, free_port):
    with serving(context, free_port) as base:

        def endless():
            for _ in range(5000):
                yield b"x" * 4096

        try:
            answer = httpx.post(f"{base}/sign-in", content=endless(), timeout=20)
            assert answer.status_code == 413
        except httpx.TransportError:
            pass  # the server had closed the line while this was still sending
        assert httpx.get(f"{base}/healthz").text == "ok"
    assert counted(context, "oversized") == 1


async def test_a_broken_multipart_body_is_no_crash(app, context):
    async with visiting(app, "root") as person:
        answer = await person.http.post(
            "/accounts",
            content=b"--b\r\nnonsense" + string.printable.encode(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
    assert answer.status_code == 403
    assert counted(context, "csrf") == 1


async def test_the_page_with_a_first_password_and_all_others_are_kept_by_no_cache(app):
    async with visiting(app, "root") as person:
        made = await person.post("/accounts/school/reset")
        assert made.headers["cache-control"] == "no-store"
        for path in ("/", "/accounts", "/audit", "/account", "/nowhere"):
            assert (await person.get(path)).headers["cache-control"] == "no-store"


async def test_a_flood_of_log_ins_from_everywhere_is_bounded(app):
    async def attempt(no):
        async with visiting(app, source=f"198.51.100.{no}") as person:
            return (await person.sign_in("root", "guess guess guess")).status_code

    codes = await asyncio.gather(*(attempt(no) for no in range(60)))
    assert set(codes) == {401, 503}


async def test_the_audit_page_says_when_the_chain_is_broken(app, context, clock, tmp_path):
    async with visiting(app, "root") as person:
        assert "The chain holds" in (await person.get("/audit")).text
        with sqlite3.connect(tmp_path / "audit.db") as db:
            db.execute("DROP TRIGGER audit_keeps")
            db.execute("UPDATE audit SET who = 'x' WHERE no = 1")
        clock.now_ms += DAY_MS // 1440 + 1
        assert "broken at entry 1" in (await person.get("/audit")).text
