"""People before the console: an HTTP client that signs in and carries the form token, a browser."""

import re
from contextlib import asynccontextmanager

import httpx

from tests.web.seed import PASSWORD

HERE = "http://127.0.0.1"
SECURE = "https://console.example"


class Person:
    """Requests from one source, with cookies. ``post`` puts the form token of ``page`` in."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **more):
        return await self.http.get(path, **more)

    async def token(self, page: str) -> str:
        text = (await self.http.get(page)).text
        return re.search(r'name="csrf" value="([\w-]+)"', text)[1]

    async def post(self, path: str, page: str = "/definitions", **form):
        return await self.http.post(path, data={"csrf": await self.token(page), **form})

    async def upload(self, path: str, raw: bytes, page: str = "/definitions"):
        files = {"file": ("signed.json", raw, "application/json")}
        return await self.http.post(path, data={"csrf": await self.token(page)}, files=files)

    async def sign_in(self, name: str, password: str = PASSWORD, there: str = ""):
        return await self.post("/sign-in", "/sign-in", name=name, password=password, next=there)


@asynccontextmanager
async def visiting(app, name: str = "", *, source: str = "192.0.2.1", base: str = HERE, **more):
    """Give a person at a source; signed in when a name is given."""
    transport = httpx.ASGITransport(app, client=(source, 40000))
    async with httpx.AsyncClient(transport=transport, base_url=base, **more) as http:
        http.cookies.set("lang", "en")
        person = Person(http)
        if name:
            answer = await person.sign_in(name)
            assert answer.status_code == 303, answer.text
        yield person


def acts(context):
    """Return who did what to which unit, as the audit log has it."""
    return [(one.who, one.action, one.unit) for one in context.audit.entries()]


def signed_in(chromium, base: str, name: str, pages: str):
    """Give a page of a browser, after a log-in, at an entry of the menu.

    ``complaints`` are what its console said and the errors of its scripts.
    """
    page = chromium.new_context(locale="zh-CN").new_page()
    page.complaints = []
    page.on("pageerror", lambda one: page.complaints.append(str(one)))
    page.on(
        "console",
        lambda one: one.type in {"error", "warning"} and page.complaints.append(one.text),
    )
    page.goto(f"{base}/sign-in")
    page.locator("input[name=name]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.locator(f"#nav-{pages}").click()
    return page
