"""Sign-in by the region's own OpenID Connect provider: code flow with PKCE, state and nonce.

Authlib does the protocol (RFC 6749, RFC 7636, OpenID Connect Core 1.0). What it keeps between the
two steps stays on the server, under a random token that the browser holds. A provider only vouches
for a subject: an account that is not linked to it is never made.
"""

import hashlib
import secrets
import ssl
from collections import OrderedDict
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
_MOST_FLOWS = 1000
_PATIENCE_S = 10.0


@dataclass(slots=True)
class _Flow:
    kept: dict[str, Any]
    began_ms: int
    onward: str


class Provider:
    """One provider. All on the event loop's thread."""

    def __init__(self, settings: Oidc) -> None:
        self.settings = settings
        self._flows: OrderedDict[bytes, _Flow] = OrderedDict()
        self._app = _registered(settings)

    async def begin(
        self, request: Request, callback: str, onward: str, now_ms: int
    ) -> tuple[str, str]:
        """Return the provider's address to go to, and the token the browser is to hold meanwhile.

        Raises:
            NoProvider: it cannot be reached.
        """
        flow = _Flow({}, now_ms, onward)
        await self._known()
        request.scope["session"] = flow.kept
        try:
            answer = await self._app.authorize_redirect(request, callback)
        except (httpx.HTTPError, AuthlibBaseError, RuntimeError) as problem:
            raise NoProvider(str(problem)) from problem
        token = secrets.token_urlsafe(32)
        self._flows[_hash(token)] = flow
        if len(self._flows) > _MOST_FLOWS:
            self._flows.popitem(last=False)
        return str(answer.headers["location"]), token

    async def finish(self, request: Request, token: str, now_ms: int) -> tuple[str, str]:
        """Return the subject vouched for and where the person was going; works once for a token.

        Raises:
            NotVouched: state, nonce, code, issuer, audience, signature or age is wrong.
            NoProvider: it cannot be reached.
        """
        flow = self._flows.pop(_hash(token), None)
        if flow is None or now_ms - flow.began_ms > KEPT_MS:
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


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
