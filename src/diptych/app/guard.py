"""Who may ask the app, and what each of its answers tells a browser.

The app listens on this machine, and others are on it, too: other users, and the pages that its
browser shows. So every request needs a token that only who started the app was told, a name of
this machine as its host (a page whose name was pointed here, DNS rebinding, has its own), and, if
it comes from a page, that this page is ours.
"""

import ipaddress
import secrets
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Mapping[str, str] = {
    # Nothing but our own files: no inline script or style, no other place, no frame.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_FOREIGN = ("cross-site", "same-site")
"""What a browser says of a page of another origin; another port of this machine is of the same
site."""
_CLOSED = (
    "This is somebody's Diptych. To come in, open the address that `diptych app` printed when it "
    "was started: the token in it changes with each start."
)


@dataclass(frozen=True, kw_only=True)
class Door:
    """What a request needs.

    >>> from diptych.app.guard import Door
    >>> door = Door(port=8765)
    >>> door.knows("127.0.0.1:8765"), door.knows("localhost:9000"), door.knows("evil.example")
    (True, True, False)
    """

    port: int
    host: str = "127.0.0.1"
    """Where the app listens; a name of it is a name of ours."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def cookie(self) -> str:
        """What the token's cookie is called. Cookies don't know ports, so the name does."""
        return f"diptych-{self.port}"

    @property
    def address(self) -> str:
        """What opens the app, on this machine at least."""
        anywhere = self.host in ("0.0.0.0", "::")
        host = (socket.gethostname() if anywhere else self.host) or self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/?token={self.token}"

    def knows(self, host: str) -> bool:
        """Whether a Host header names this machine: by a number, to which no foreign name leads,
        or by a name that is its own."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        own = socket.gethostname().lower()
        if name in ("localhost", self.host.lower(), own, f"{own}.local"):
            return bool(name)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def opens(self, given: str) -> bool:
        """Whether it is the token."""
        return secrets.compare_digest(given.encode(), self.token.encode())


class Guard:
    """The app behind its door (ASGI)."""

    def __init__(self, app: ASGIApp, door: Door):
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app do it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("cache-control", "no-store")
                headers.update(HEADERS)
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: MutableMapping[str, Any]) -> Response | None:
        """The answer to who may not come in, or is to come in by another way; None: he may."""
        headers, door = Headers(scope=scope), self._door
        if not door.knows(headers.get("host", "")):
            return _refuse(scope, 421, "the Host header names no name of this machine")
        if scope["path"] == "/" and scope["method"] == "GET":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
            if given and door.opens(given):
                return self._welcome()
        bearer = _bearer(headers)
        if not door.opens(bearer or cookie_parser(headers.get("cookie", "")).get(door.cookie, "")):
            return _refuse(scope, 401, _CLOSED)
        # A browser sends the cookie with what any page asks of us; a program sends the header.
        if not bearer and not _is_own(scope, headers):
            return _refuse(scope, 403, "this was asked by a page of another origin")
        return None

    def _welcome(self) -> Response:
        """The token goes into a cookie, and out of the address and its history."""
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._door.cookie, self._door.token, httponly=True, samesite="lax")
        return answer


def _refuse(scope: MutableMapping[str, Any], status: int, sentence: str) -> Response:
    if scope["path"].startswith("/api/"):
        return JSONResponse({"error": sentence}, status)
    return PlainTextResponse(f"{sentence}\n", status)


def _bearer(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _is_own(scope: MutableMapping[str, Any], headers: Headers) -> bool:
    """Whether our own page asks, or the user himself by the address bar or a link. What changes
    something must say so; browsers do (Fetch Metadata, Origin)."""
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if origin and origin.partition("://")[2] != headers["host"]:
        return False
    if scope["method"] in ("GET", "HEAD"):
        goes_there = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        return site not in _FOREIGN or goes_there
    return site == "same-origin" or (not site and bool(origin))
