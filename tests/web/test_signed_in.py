"""The console as people use it who must sign in: a real browser, a real server."""

import socket

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from ketang_center.access.policy import Grant, Role
from ketang_center.access.scope import Scope
from ketang_center.listening import listening
from ketang_center.registry.values import Device, Kind, Level, Unit
from ketang_center.settings import Oidc
from ketang_center.web.server import console
from ketang_contract.errors import BadInput
from ketang_provisioning.ca import ThrowawayAuthority
from tests.web.seed import PASSWORD, populate, seeded
from tests.web.serving import serving
from tests.web.test_console import FLAGS

HOSTILE = (
    "<script>window.owned=1</script>",
    '"><img src=x onerror=window.owned=1>',
    "'-window.owned-'",
    "<svg/onload=window.owned=1>",
    "{{7*7}}${7*7}",
    "javascript:window.owned=1",
)


@pytest.fixture(scope="module")
def chromium():
    from tests.parts import PARTS

    path = next(one for one in PARTS if one.name == "chromium").find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def world(tmp_path, free_port):
    with (
        seeded(tmp_path, demo=False, home=Scope(Level.REGION, "lan")) as (context, reading, rollup),
        serving(context, free_port) as base,
    ):
        populate(context.accounts)
        yield base, context, reading, rollup


def page_at(chromium, lang="en", width=1280, **more):
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        locale="zh-CN" if lang == "zh" else "en-GB",
        **more,
    )
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda one: page.complaints.append(str(one)))
    page.on(
        "console",
        lambda one: (
            one.type in {"error", "warning"}
            and "status of 4" not in one.text
            and page.complaints.append(one.text)
        ),
    )
    page.on("dialog", lambda one: page.complaints.append(one.message) or one.dismiss())
    return page


def sign_in(page, base, name, password=PASSWORD, there="/"):
    page.goto(base + there)
    page.locator("#name").fill(name)
    page.locator("#password").fill(password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/sign-in" not in url)


@pytest.mark.chromium
def test_signing_in_leads_to_the_page_that_was_wanted_which_is_live(chromium, world):
    base, context, reading, _ = world
    page = page_at(chromium)
    sign_in(page, base, "school", there="/devices?q=panel")
    assert page.url == f"{base}/devices?q=panel"
    expect(page.locator("#pulse")).to_have_class("pulse on")
    expect(page.locator("#nav-account")).to_have_text("School")
    expect(page.locator("#nav-accounts")).to_have_count(0)
    assert page.complaints == []
    context.sessions.end_all("school")
    reading.set_presence(reading.present["s1-ifp-1"])
    expect(page.locator("#pulse")).to_have_class("pulse off")
    page.reload()
    assert "/sign-in?next=%2Fdevices%3Fq%3Dpanel" in page.url


@pytest.mark.chromium
def test_a_wrong_password_keeps_the_name_and_the_focus_is_in_the_password(chromium, world):
    base, *_ = world
    page = page_at(chromium, "zh")
    page.goto(base)
    expect(page.locator("#name")).to_be_focused()
    page.keyboard.type("school")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong wrong wrong")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("账户名与密码不符")
    expect(page.locator("#name")).to_have_value("school")
    expect(page.locator("#password")).to_be_focused()


@pytest.mark.chromium
def test_coming_back_from_the_provider_of_another_site_one_is_signed_in_at_once(
    chromium, tmp_path, free_port, provider
):
    """Strict cookies stay behind on what another site began; the page in between begins anew."""
    (tmp_path / "secret").write_text("not so secret", "utf-8")
    oidc = Oidc(
        issuer=provider,
        client_id="ketang",
        client_secret_file=tmp_path / "secret",
        label="Region sign-in",
    )
    with (
        seeded(tmp_path, demo=False, oidc=oidc) as (context, *_),
        serving(context, free_port),
    ):
        populate(context.accounts)
        context.accounts.link("school", provider, "s-4711")
        here = f"http://localhost:{free_port}"
        page = page_at(chromium)
        page.goto(f"{here}/devices?q=panel")
        page.locator("#oidc").click()
        page.wait_for_url(lambda url: url.startswith(provider))
        page.locator("input[name=sub]").fill("s-4711")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{here}/devices?q=panel")
        expect(page.locator("#nav-account")).to_have_text("School")
        expect(page.locator("table.list tbody tr").first).to_contain_text("Panel")


@pytest.mark.chromium
def test_an_administrator_adds_an_account_and_its_owner_must_set_a_password(chromium, world):
    base, context, *_ = world
    page = page_at(chromium)
    sign_in(page, base, "root", there="/accounts")
    page.locator("#n-name").fill("eve.wang")
    page.locator("#n-display").fill("王 Eve")
    page.locator("#g-role").select_option("operator")
    page.locator("#g-unit").select_option("s2")
    page.locator("main button.main").click()
    password = page.locator("#first-password").inner_text()
    page.locator("#to-account").click()
    expect(page.locator("h1")).to_contain_text("王 Eve")
    page.locator("#sign-out").click()
    expect(page.locator("#name")).to_be_visible()
    sign_in(page, base, "eve.wang", password, "/sign-in")
    page.goto(base + "/devices")
    assert page.url == base + "/account"
    expect(page.locator("main .ask")).to_contain_text("Set a password of your own")
    for field, text in (("current", password), ("new", "nine dry parasols"), ("again", "other")):
        page.locator(f"#{field}").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("differ")
    for field, text in (("current", password), ("new", "nine dry parasols")):
        page.locator(f"#{field}").fill(text)
    page.locator("#again").fill("nine dry parasols")
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_contain_text("password is changed")
    page.goto(base)
    expect(page.locator("h1")).to_contain_text("Liuwan")
    assert context.accounts.get("eve.wang").grants == (Grant(Role.OPERATOR, "s2"),)
    assert page.complaints == []


@pytest.mark.chromium
def test_whoever_holds_two_offices_looks_as_either(chromium, world):
    base, *_ = world
    page = page_at(chromium)
    sign_in(page, base, "two")
    expect(page.locator("h1")).to_contain_text("Qinghe County")
    page.locator("#unit-role").select_option("s3")
    page.get_by_role("button", name="Switch").click()
    expect(page.locator("h1")).to_contain_text("Songtai School")


@pytest.mark.chromium
@pytest.mark.parametrize(("lang", "width"), [("zh", 1280), ("en", 390)])
def test_pages_fit_their_width_and_the_keyboard_reaches_everything(chromium, world, lang, width):
    base, context, *_ = world
    page = page_at(chromium, lang, width)
    page.goto(base + "/sign-in")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    sign_in(page, base, "root")
    context.sessions.open("root", "password", context.clock())
    for path in ("/account", "/accounts", "/accounts/two", "/audit", "/nowhere"):
        page.goto(base + path)
        page.wait_for_function("window.htmx !== undefined")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        page.evaluate("document.activeElement.blur()")
        page.evaluate(
            "window.left = new Set([...document.querySelectorAll("
            "'a[href], button:not([disabled]), input:not([type=hidden]), select')]"
            ".filter(one => one.offsetParent))"
        )
        for _ in range(150):
            page.keyboard.press("Tab")
            page.evaluate("left.delete(document.activeElement)")
            if not page.evaluate("left.size"):
                break
        assert page.evaluate("[...left].map(one => one.outerHTML)") == [], path
    assert page.complaints == []


def plant(context, text):
    """Name a device, a school, a room and an account so."""
    registry, data = context.registry, context.registry.tree()
    for unit in ("lan-xian", "s1", "s1-r1"):
        one = data[unit]
        registry.add_unit(
            Unit(id=unit, level=one.level, parent=one.parent, name_zh=text, name_en=text)
        )
    registry.add_device(Device(id="s1-ifp-1", kind=Kind.IFP, name=text, name_en=text, shared=True))


@pytest.mark.chromium
def test_no_name_ever_runs_as_a_script(chromium, tmp_path, free_port):
    with (
        seeded(tmp_path, demo=False) as (context, *_),
        serving(context, free_port) as base,
    ):
        people = [(f"p{no}", [(Role.VIEWER, "s1")]) for no in range(len(HOSTILE))]
        populate(context.accounts, [("root", [(one, "lan") for one in Role]), *people])
        with context.accounts._file.transaction() as db:
            for no, text in enumerate(HOSTILE):
                db.execute("UPDATE account SET display_name = ? WHERE name = ?", (text, f"p{no}"))
        for who in ("root", "p1"):
            page = page_at(chromium)
            sign_in(page, base, who)
            for text in HOSTILE:
                plant(context, text)
                context.audit.note(1, text, text, text, "s1")
                for path in ("/", "/devices", "/device/s1-ifp-1", "/accounts", "/audit"):
                    page.goto(base + path)
                    page.wait_for_function("window.htmx !== undefined")
                    assert page.evaluate("window.owned") is None, (path, text)
                    assert page.evaluate("document.querySelectorAll('main img').length") == 0
                for asked in (f"/devices?q={text}", f"/audit?who={text}", f"/device/{text}"):
                    page.goto(base + asked)
                    assert page.evaluate("window.owned") is None, asked
            for no in range(len(HOSTILE)):
                page.goto(f"{base}/accounts/p{no}")
                assert page.evaluate("window.owned") is None
            assert page.complaints == [], "the content policy had nothing to report"
            page.close()


@pytest.mark.chromium
def test_over_https_the_cookie_is_bound_to_the_host_and_never_shown_to_scripts(
    chromium, tmp_path, free_port
):
    identity = ThrowawayAuthority(tmp_path / "keys").server("console")
    with (
        seeded(tmp_path, demo=False) as (context, *_),
        serving(
            context, free_port, certificate=identity.certificate_file, key=identity.key_file
        ) as base,
    ):
        populate(context.accounts)
        page = page_at(chromium, ignore_https_errors=True)
        sign_in(page, base, "school")
        expect(page.locator("h1")).to_contain_text("Qinghe First Primary")
        kept = {one["name"]: one for one in page.context.cookies()}
        session = kept["__Host-session"]
        assert (session["secure"], session["httpOnly"], session["sameSite"]) == (
            True,
            True,
            "Strict",
        )
        assert page.evaluate("document.cookie") == ""
        answer = httpx.get(f"{base}/sign-in", verify=False)  # noqa: S501  (a throwaway authority)
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{free_port}/sign-in")


def test_the_console_serves_on_ipv6_alone(tmp_path, free_port):
    with (
        seeded(tmp_path, demo=False) as (context, *_),
        serving(context, free_port, host="::1") as at,
    ):
        assert httpx.get(f"{at}/sign-in").status_code == 200


def test_a_console_on_every_address_is_reached_by_both_families(tmp_path, free_port):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    with (
        seeded(tmp_path, demo=False) as (context, *_),
        serving(context, free_port, host="::"),
    ):
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{free_port}/healthz").text == "ok"


def test_a_console_that_cannot_listen_says_so_in_one_line(tmp_path, free_port):
    with (
        seeded(tmp_path, demo=False) as (context, *_),
        listening("127.0.0.1", free_port, "x"),
        pytest.raises(BadInput, match=f"console: cannot listen on 127.0.0.1 port {free_port}"),
    ):
        console(context, "127.0.0.1", free_port).run()
