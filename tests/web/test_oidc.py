"""Sign-in by a real OpenID Connect provider, another process: what it vouches for, and attacks."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import httpx
import pytest

from ketang_center.settings import Oidc
from ketang_center.web.app import create_app
from tests.web.browsing import SECURE, visiting
from tests.web.seed import NOW_MS, populate, seeded

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Clock:
    now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


@contextmanager
def describing(says):
    """Serve one provider's description at an issuer of its own; give the issuer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(says(issuer)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def centre(tmp_path, clock):
    """Give what makes ``(context, app)`` for an issuer."""
    made = []

    def make(issuer):
        (tmp_path / "secret").write_text("not so secret\n", "utf-8")
        oidc = Oidc(
            issuer=issuer,
            client_id="ketang",
            client_secret_file=tmp_path / "secret",
            label="Region sign-in",
        )
        seed = seeded(tmp_path, demo=False, clock=clock, oidc=oidc)
        context, *_ = seed.__enter__()
        made.append(seed)
        populate(context.accounts)
        context.accounts.link("school", issuer, "s-4711")
        return context, create_app(context)

    yield make
    for one in made:
        one.__exit__(None, None, None)


def description_of(provider):
    return httpx.get(f"{provider}/.well-known/openid-configuration").json()


def vouched(there, subject):
    """Be the person at the provider; return where it sends the browser back to."""
    answer = httpx.post(there, data={"sub": subject})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def path_of(url):
    parts = urlsplit(url)
    return urlunsplit(("", "", parts.path, parts.query, ""))


def changed(url, **values):
    parts = urlsplit(url)
    asked = {key: value[0] for key, value in parse_qs(parts.query).items()} | values
    return urlunsplit(parts._replace(query=urlencode(asked)))


def why(context):
    return context.security.recent()[0].detail


def refusals(context):
    return {one.what: one.ever for one in context.security.tallies(0)}.get("login_failed", 0)


async def test_a_linked_person_signs_in_and_goes_on(provider, centre):
    context, app = centre(provider)
    async with visiting(app, base=SECURE) as person:
        page = await person.get("/sign-in?next=/devices")
        assert "Region sign-in" in page.text
        begun = await person.get("/oidc/begin?next=/devices")
        asked = parse_qs(urlsplit(begun.headers["location"]).query)
        assert asked["code_challenge_method"] == ["S256"]
        assert {"state", "nonce", "code_challenge"} <= asked.keys()
        assert asked["redirect_uri"] == [f"{SECURE}/oidc/callback"]
        assert "SameSite=lax" in begun.headers["set-cookie"]
        back = vouched(begun.headers["location"], "s-4711")
        done = await person.get(path_of(back))
        assert done.status_code == 200
        assert 'content="0;url=/devices"' in done.text
        assert "Qinghe First Primary" in (await person.get("/")).text
    assert ("school", "login", "oidc") in [(e.who, e.action, e.subject) for e in context.audit]


async def test_somebody_without_an_account_is_sent_to_the_administrator_and_gets_none(
    provider, centre
):
    context, app = centre(provider)
    before = context.accounts.all()
    async with visiting(app) as person:
        there = (await person.get("/oidc/begin")).headers["location"]
        answer = await person.get(path_of(vouched(there, "<b>stranger</b>")))
        assert answer.status_code == 403
        assert "&lt;b&gt;stranger&lt;/b&gt;" in answer.text
        assert (await person.get("/")).status_code == 303
    assert context.accounts.all() == before
    assert list(context.audit)[-1].action == "oidc_no_account"
    assert refusals(context) == 1
    assert why(context) == "oidc: no account"


async def test_a_disabled_account_is_not_let_in_by_the_provider(provider, centre):
    context, app = centre(provider)
    context.accounts.set_disabled("school", disabled=True)
    async with visiting(app) as person:
        there = (await person.get("/oidc/begin")).headers["location"]
        assert (await person.get(path_of(vouched(there, "s-4711")))).status_code == 403
        assert (await person.get("/")).status_code == 303


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("state", "state"),
        ("no state", "state"),
        ("nonce", "'nonce'"),
        ("code", "invalid_grant"),
        ("no cookie", "no sign-in was begun"),
        ("replay", "no sign-in was begun"),
        ("late", "no sign-in was begun"),
        ("issuer", "issuer"),
        ("deny", "access_denied"),
    ],
)
async def test_an_answer_that_is_not_to_this_browsers_question_is_refused(
    provider, centre, clock, attack, reason
):
    context, app = centre(provider)
    async with visiting(app) as person, visiting(app) as other:
        there = (await person.get("/oidc/begin")).headers["location"]
        if attack == "nonce":
            there = changed(there, nonce="another")
        back = path_of(vouched(there, "s-4711"))
        if attack == "state":
            back = changed(back, state="another")
        if attack == "no state":
            back = back.partition("&state")[0] if "&state" in back else "/oidc/callback?code=x"
        if attack == "code":
            back = changed(back, code="another")
        if attack == "issuer":
            back = changed(back, iss="https://evil.example")
        if attack == "deny":
            back = changed(back, error="access_denied")
        if attack == "late":
            clock.now_ms += 11 * 60_000
        if attack == "replay":
            assert (await person.get(back)).status_code == 200
            await person.post("/sign-out", "/account")
        answer = await (other if attack == "no cookie" else person).get(back)
        assert answer.status_code == 401
        assert "could not be verified" in answer.text
        for one in (person, other):
            assert (await one.get("/")).status_code == 303
    assert refusals(context) == 1
    assert reason in why(context)


@pytest.mark.parametrize("times", [110, pytest.param(1100, marks=pytest.mark.soak)])
async def test_a_flood_of_beginnings_pushes_nobody_out(provider, centre, times):
    _, app = centre(provider)
    async with visiting(app) as person, visiting(app, source="198.51.100.9") as flood:
        there = (await person.get("/oidc/begin?next=/devices")).headers["location"]
        for _ in range(times):
            assert (await flood.get("/oidc/begin")).status_code == 303
        done = await person.get(path_of(vouched(there, "s-4711")))
        assert done.status_code == 200
        assert 'content="0;url=/devices"' in done.text


async def test_a_flow_that_this_server_did_not_write_is_none(provider, centre):
    context, app = centre(provider)
    async with visiting(app) as person:
        there = (await person.get("/oidc/begin")).headers["location"]
        back = path_of(vouched(there, "s-4711"))
        body, _, mac = person.http.cookies["flow"].strip('"').partition(".")
        said = json.loads(base64.urlsafe_b64decode(body))
        said[1] = "/accounts"
        for forged in (
            base64.urlsafe_b64encode(json.dumps(said).encode()).decode() + "." + mac,
            f"{body}.",
            body,
            ".",
            "",
            "é.é",
        ):
            raw = f"flow={forged}".encode()
            answer = await person.http.get(back, headers={b"cookie": raw + b"; lang=en"})
            assert answer.status_code == 401, forged
    assert why(context).startswith("oidc: no sign-in was begun")


async def test_the_longest_way_onward_still_fits_a_cookie(provider, centre):
    _, app = centre(provider)
    async with visiting(app, base=SECURE) as person:
        begun = await person.get("/oidc/begin?next=/devices?q=" + "x" * 1980)
        cookie = next(
            one for one in begun.headers.get_list("set-cookie") if one.startswith("__Host-flow")
        )
        assert len(cookie) < 4096
        assert (await person.get(path_of(vouched(begun.headers["location"], "s-4711")))).is_success


async def test_who_comes_by_the_provider_needs_no_password_of_his_own(provider, centre):
    context, app = centre(provider)
    kept = context.accounts.get("school").password_hash
    context.accounts.set_password("school", kept, must_change=True)
    async with visiting(app) as person:
        there = (await person.get("/oidc/begin")).headers["location"]
        assert (await person.get(path_of(vouched(there, "s-4711")))).status_code == 200
        assert (await person.get("/")).status_code == 200
        assert "Choose a password" not in (await person.get("/account")).text
    async with visiting(app, "school") as person:
        assert (await person.get("/")).headers["location"] == "/account"


async def test_nobody_links_his_own_account(provider, centre):
    context, app = centre(provider)
    async with visiting(app, "root") as admin:
        for subject in ("mine", ""):
            answer = await admin.post("/accounts/root/link", subject=subject)
            assert answer.status_code == 400
            assert "another administrator" in answer.text
        assert 'name="subject"' not in (await admin.get("/accounts/root")).text
    assert context.accounts.get("root").subject == ""


async def test_a_used_code_is_refused_in_a_new_sign_in_too(provider, centre):
    context, app = centre(provider)
    async with visiting(app) as victim, visiting(app) as attacker:
        there = (await victim.get("/oidc/begin")).headers["location"]
        back = path_of(vouched(there, "s-4711"))
        code = parse_qs(urlsplit(back).query)["code"][0]
        assert (await victim.get(back)).status_code == 200
        mine = (await attacker.get("/oidc/begin")).headers["location"]
        state = parse_qs(urlsplit(mine).query)["state"][0]
        answer = await attacker.get(f"/oidc/callback?code={code}&state={state}")
        assert answer.status_code == 401
    assert refusals(context) == 1
    assert "invalid_grant" in why(context)


async def test_a_stolen_code_is_of_no_use_in_another_browser(provider, centre):
    """The nonce ties the token to the browser that asked, where a provider checks no PKCE."""
    context, app = centre(provider)
    async with visiting(app) as victim, visiting(app) as attacker:
        there = (await victim.get("/oidc/begin")).headers["location"]
        code = parse_qs(urlsplit(vouched(there, "s-4711")).query)["code"][0]
        mine = (await attacker.get("/oidc/begin")).headers["location"]
        state = parse_qs(urlsplit(mine).query)["state"][0]
        answer = await attacker.get(f"/oidc/callback?code={code}&state={state}")
        assert answer.status_code == 401
        assert (await attacker.get("/")).status_code == 303
    assert refusals(context) == 1
    assert "'nonce'" in why(context)


async def test_a_description_under_another_name_is_not_believed(provider, centre):
    known = description_of(provider)
    with describing(lambda _: known) as issuer:
        _, app = centre(issuer)
        async with visiting(app) as person:
            answer = await person.get("/oidc/begin")
            assert (answer.status_code, answer.headers.get("location")) == (502, None)


async def test_a_token_of_another_issuer_is_refused(provider, centre):
    known = description_of(provider)
    with describing(lambda own: known | {"issuer": own}) as issuer:
        context, app = centre(issuer)
        async with visiting(app) as person:
            there = (await person.get("/oidc/begin")).headers["location"]
            answer = await person.get(path_of(vouched(there, "s-4711")))
            assert answer.status_code == 401
    assert refusals(context) == 1
    assert "'iss'" in why(context)


async def test_when_the_provider_is_away_a_page_says_so_and_passwords_still_work(centre, free_port):
    _, app = centre(f"http://127.0.0.1:{free_port}")
    async with visiting(app) as person:
        answer = await person.get("/oidc/begin")
        assert answer.status_code == 502
        assert "does not answer" in answer.text
        assert (await person.sign_in("school")).status_code == 303


async def test_without_a_provider_there_is_no_such_way_in(tmp_path):
    with seeded(tmp_path, demo=False) as (context, *_):
        async with visiting(create_app(context)) as person:
            assert "/oidc" not in (await person.get("/sign-in")).text
            for path in ("/oidc/begin", "/oidc/callback?code=x&state=y"):
                assert (await person.get(path)).status_code in {403, 404}


async def test_an_administrator_links_an_account_and_the_link_can_be_ended(provider, centre):
    context, app = centre(provider)
    async with visiting(app, "root") as admin:
        assert provider in (await admin.get("/accounts/county")).text
        assert (await admin.post("/accounts/county/link", subject="c-1")).status_code == 303
        assert context.accounts.linked(provider, "c-1").name == "county"
        again = await admin.post("/accounts/two/link", subject="c-1")
        assert again.status_code == 400
        assert "linked to another account" in again.text
        await admin.post("/accounts/county/link", subject="")
        assert context.accounts.linked(provider, "c-1") is None
