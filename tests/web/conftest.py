"""A real OpenID Connect provider, in a process of its own; and patience with the browser."""

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from ketang_cli.local_broker import free_port
from tests.parts import PARTS
from tests.web.test_console import FLAGS

expect.set_options(timeout=30_000)
PATIENCE_S = 60


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def chromium():
    path = next(one for one in PARTS if one.name == "chromium").find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    port = free_port()
    program = Path(sys.executable).with_name("oidc-provider-mock")
    log = (tmp_path_factory.mktemp("provider") / "log").open("w")
    process = subprocess.Popen([program, "--port", str(port)], stdout=log, stderr=log)
    issuer = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                httpx.get(f"{issuer}/.well-known/openid-configuration")
                break
            except httpx.TransportError:
                assert process.poll() is None, "the provider ended"
                assert time.monotonic() < deadline, "the provider never came"
                time.sleep(0.1)
        yield issuer
    finally:
        process.terminate()
        process.wait(20)
        log.close()
