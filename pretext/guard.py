"""What a server refuses that pages of other sites can make a browser send to it."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of this machine to itself.
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Guard:
    """Refuses foreign Host headers and cross-site posts, and adds the headers that keep the page to itself.

    A page of another site can make a browser send requests here; the browser then says where they come from.

    Args:
        app: What is guarded.
        names: Names by which the server may be called.
        any_address: Whether every IP address is a name, too. A foreign page cannot point an address elsewhere, as it
            can a name.
        policy: The content security policy.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], any_address: bool, policy: str):
        self._app, self._names, self._any_address = app, {name.lower() for name in names}, any_address
        self._headers = {
            "Content-Security-Policy": policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in self._headers.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        refused = self._refusal(Request(scope))
        await (refused or self._app)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return JSONResponse({"error": "this server is not called by that name"}, 421)
        if request.method not in ("GET", "HEAD") and not _is_same_origin(request, hosts[0]):
            return JSONResponse({"error": "posts come from the page itself"}, 403)
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._any_address and _is_address(name))


def _is_same_origin(request: Request, host: str) -> bool:
    """Return whether a browser says that its own page here sent the request; every browser of today says so."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin is None and site is None:
        return False
    return site in (None, "same-origin") and (origin is None or origin.partition("://")[2] == host)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
