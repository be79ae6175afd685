"""Sign-in by the region's own OpenID Connect provider: code flow with PKCE, state and nonce.

Authlib does the protocol (RFC 6749, RFC 7636, OpenID Connect Core 1.0). What it keeps between the
two steps travels in a cookie of the browser that asked, under a MAC with a key that lives as long
as the process: strangers who begin a thousand times fill no table, and push nobody out. That a code
works once is the provider's to hold (RFC 6749, 4.1.2). A provider only vouches for a subject: an
account that is not linked to it is never made.
"""

import base64
import hashlib
import hmac
import json
import secrets
import ssl
from dataclasses import dataclass
from typing import Any

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.requests import Request

from ketang_center.access.vouching import NoProvider, NotVouched
from ketang_center.settings import Oidc
from ketang_contract.errors import BadInput

KEPT_MS = 10 * 60_000
"""How long a person may take at the provider."""
_MOST_TOKEN = 3800
"""Characters; browsers keep 4,096 bytes of a cookie with its name and flags."""
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class _Flow:
    kept: dict[str, Any]
    began_ms: int
    onward: str


class _Flows:
    """Writes what is kept of a sign-in into a token, and reads only tokens of its own."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def token(self, flow: _Flow) -> str:
        said = json.dumps([flow.began_ms, flow.onward, flow.kept], separators=(",", ":")).encode()
        body = base64.urlsafe_b64encode(said).decode()
        return f"{body}.{self._mac(body)}"

    def flow(self, token: str) -> _Flow | None:
        body, _, mac = token.partition(".")
        if not hmac.compare_digest(mac.encode(errors="replace"), self._mac(body).encode()):
            return None
        began_ms, onward, kept = json.loads(base64.urlsafe_b64decode(body))
        return _Flow(kept, began_ms, onward)

    def _mac(self, body: str) -> str:
        text = body.encode("utf-8", "surrogateescape")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


class Provider:
    """One provider. All on the event loop's thread."""

    def __init__(self, settings: Oidc) -> None:
        self.settings = settings
        self._flows = _Flows()
        self._app = _registered(settings)

    async def begin(
        self, request: Request, callback: str, onward: str, now_ms: int
    ) -> tuple[str, str]:
        """Return the provider's address to go to, and the token the browser is to hold meanwhile.

        Raises:
            NoProvider: it cannot be reached.
        """
        kept: dict[str, Any] = {}
        await self._known()
        request.scope["session"] = kept
        try:
            answer = await self._app.authorize_redirect(request, callback)
        except (httpx.HTTPError, AuthlibBaseError, RuntimeError) as problem:
            raise NoProvider(str(problem)) from problem
        token = self._flows.token(_Flow(kept, now_ms, onward))
        if len(token) > _MOST_TOKEN:
            token = self._flows.token(_Flow(kept, now_ms, "/"))
        return str(answer.headers["location"]), token

    async def finish(self, request: Request, token: str, now_ms: int) -> tuple[str, str]:
        """Return the subject vouched for and where the person was going.

        Raises:
            NotVouched: state, nonce, code, issuer, audience, signature or age is wrong.
            NoProvider: it cannot be reached.
        """
        flow = self._flows.flow(token)
        if flow is None or not 0 <= now_ms - flow.began_ms <= KEPT_MS:
            raise NotVouched("no sign-in was begun by this browser")
        state = request.query_params.get("state", "")
        if not any(key.endswith(f"_{state}") for key in flow.kept) or not state:
            raise NotVouched("state")
        named = request.query_params.get("iss")
        if named is not None and named != self.settings.issuer:  # RFC 9207
            raise NotVouched("issuer")
        await self._known()
        request.scope["session"] = flow.kept
        try:
            found = await self._app.authorize_access_token(
                request,
                claims_options={
                    "iss": {"essential": True, "value": self.settings.issuer},
                    "aud": {"essential": True, "value": self.settings.client_id},
                },
            )
        except httpx.HTTPError as problem:
            raise NoProvider(str(problem)) from problem
        except (AuthlibBaseError, JoseError, ValueError, RuntimeError, KeyError) as problem:
            raise NotVouched(str(problem)[:100]) from problem
        subject = str((found.get("userinfo") or {}).get("sub") or "")
        if not subject:
            raise NotVouched("no identity token")
        return subject, flow.onward

    async def _known(self) -> None:
        """Read the provider's description once, and believe it only under its own name.

        Raises:
            NoProvider: it cannot be read, or names another issuer (OpenID Discovery 1.0, 4.3).
        """
        try:
            said = await self._app.load_server_metadata()
        except (httpx.HTTPError, ValueError) as problem:
            raise NoProvider(str(problem)) from problem
        if said.get("issuer") != self.settings.issuer:
            self._app = _registered(self.settings)
            raise NoProvider(f"its description names {said.get('issuer')!r}")


def _registered(settings: Oidc) -> Any:
    try:
        secret = settings.client_secret_file.read_text("utf-8").strip()
        trust: ssl.SSLContext | bool = (
            ssl.create_default_context(cafile=str(settings.ca)) if settings.ca else True
        )
    except (OSError, UnicodeDecodeError) as problem:
        raise BadInput(f"[oidc]: client_secret_file or ca cannot be read: {problem}") from problem
    return OAuth().register(
        "oidc",
        client_id=settings.client_id,
        client_secret=secret,
        server_metadata_url=settings.issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid",
            "code_challenge_method": "S256",
            "timeout": _PATIENCE_S,
            "verify": trust,
            # The environment's proxies are not the region's provider.
            "trust_env": False,
        },
    )
