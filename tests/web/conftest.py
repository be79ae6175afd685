"""A real OpenID Connect provider, in a process of its own."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("oidc-provider-mock")
    log = (tmp_path_factory.mktemp("provider") / "log").open("w")
    process = subprocess.Popen([program, "--port", str(port)], stdout=log, stderr=log)
    issuer = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{issuer}/.well-known/openid-configuration")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield issuer
    finally:
        process.terminate()
        process.wait(20)
        log.close()
