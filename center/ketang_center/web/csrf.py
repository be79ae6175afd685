"""Against requests that another site makes in a visitor's name, and the cookies they would ride on.

Three guards, each enough alone in a current browser: SameSite cookies, the origin that the browser
itself names, and a token in each form that only this server's own pages can know.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response

FIELD = "csrf"
HEADER = "x-csrf-token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TRUSTED_SITES = frozenset({"same-origin", "none"})
_FLOW_S = 600


class Visits:
    """Makes the cookie of a visitor who has not logged in, and the form token that fits it.

    Both follow from a key that lives as long as the process, so that strangers fill no table.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def make(self) -> str:
        """Return a new visitor's cookie."""
        name = secrets.token_urlsafe(32)
        return f"{name}.{self._mac('visit', name)}"

    def own(self, cookie: str) -> bool:
        """Tell whether this server made a cookie."""
        name, _, mac = cookie.partition(".")
        return same(mac, self._mac("visit", name))

    def form_token(self, cookie: str) -> str:
        """Return what that visitor's forms must carry."""
        return self._mac("form", cookie)

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(
            self._key, f"{purpose}:{text}".encode("utf-8", "surrogateescape"), hashlib.sha256
        ).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare two tokens in constant time; the empty one is like none."""
    return bool(one) and hmac.compare_digest(
        one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    )


def foreign(scheme: str, headers: Headers) -> bool:
    """Tell whether the browser says that another site makes this request."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _TRUSTED_SITES:
        return True
    origin = headers.get("origin")
    return origin is not None and origin != f"{scheme}://{headers.get('host', '')}"


def cookie_names(*, secure: bool) -> Mapping[str, str]:
    """Return the names of our cookies: with ``__Host-`` no other host can set them (RFC 6265bis).

    Browsers take that prefix over HTTPS only; plain HTTP is served on a loopback host alone.
    """
    return {one: f"__Host-{one}" if secure else one for one in ("session", "visit", "flow")}


def cookie_of(request: Request, which: str) -> str:
    """Return the value a browser sent for ``session``, ``visit`` or ``flow``; empty for none."""
    name = cookie_names(secure=request.url.scheme == "https")[which]
    return request.cookies.get(name, "")


def set_cookie(response: Response, request: Request, which: str, value: str) -> None:
    """Let a browser hold a token until it is closed; an empty value takes it away.

    ``flow`` alone is Lax, since it must come along when the provider sends the browser back.
    """
    secure = request.url.scheme == "https"
    response.set_cookie(
        cookie_names(secure=secure)[which],
        value,
        max_age=(_FLOW_S if which == "flow" else None) if value else 0,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax" if which == "flow" else "strict",
    )
