"""The page of a study, and what it asks the server: one process, no file from elsewhere, works offline.

Both pictures of a pair are sent as one, side by side, so that neither a name, a size, a header nor the order or time of
loading tells which is true. A pair is sent only while it is its turn.
"""

import base64
import hashlib
import io
import json
import re
import secrets
import socket
from collections.abc import Collection, Mapping
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from pretext.files import is_file
from pretext.guard import LOOPBACK, Guard
from transfer.study.store import FullError, NoSuchParticipantError, OutOfTurnError, Store
from transfer.study.study import ANSWERS_NAME, Study
from transfer.study.trials import Side

#: Addresses that stand for all of this machine's.
EVERY_ADDRESS = ("0.0.0.0", "::")
#: Bytes of a request's body, at most.
MAX_BODY = 1024
#: Milliseconds that an answer may say it took, at most: a day.
MAX_MILLISECONDS = 86_400_000


def study_app(
    study: Study, store: Store, host: str = "127.0.0.1", names: Collection[str] = (), secret: str = ""
) -> ASGIApp:
    """Return the application of a study.

    Args:
        study: What is shown.
        store: Where answers go.
        host: The address that the server is bound to.
        names: Further names by which it may be called.
        secret: First part of every path; empty for none.
    """
    page = _page()
    held = _Held(study, store, page)
    routes = [
        Route("/", held.page),
        Route("/state", held.plan),
        Route("/start", held.start, methods=["POST"]),
        Route("/s/{token}", held.participant),
        Route("/s/{token}/state", held.state),
        Route("/s/{token}/pair/{position:int}", held.pair),
        Route("/s/{token}/answers", held.answer, methods=["POST"]),
    ]
    app = Starlette(
        routes=[Mount(f"/{secret}", routes=routes)] if secret else routes,
        exception_handlers={
            NoSuchParticipantError: lambda request, error: JSONResponse({"error": "unknown link"}, 404),
            OutOfTurnError: lambda request, error: JSONResponse({"error": "not the turn of this pair"}, 409),
            FullError: lambda request, error: JSONResponse({"error": "the study is full"}, 403),
            HTTPException: lambda request, error: JSONResponse(
                {"error": error.detail}, error.status_code, error.headers
            ),
        },
    )
    is_local = host in LOOPBACK
    own = {*names, *LOOPBACK, *(() if is_local else (host, socket.gethostname()))}
    return Guard(app, own, not is_local, _policy(page))


def serve(study: Study, host: str, port: int, names: Collection[str] = ()) -> None:
    """Serve a study until interrupted; print its address.

    Args:
        study: What is shown.
        host: Address to bind to; other than loopback, the page's address has a random token, which is kept with the
            answers' database.
        port: Port to bind to; 0 takes a free one.
        names: Further names by which the server may be called.

    Raises:
        OSError: The address cannot be bound to.
    """
    secret = "" if host in LOOPBACK else _secret(study.folder / "address_token")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(Store(study.folder / ANSWERS_NAME, study.id)) as store, socket.socket(family) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # who follows the address at once waits
        known = socket.gethostname() if host in EVERY_ADDRESS else host
        shown = f"[{known}]" if ":" in known else known
        print(f"http://{shown}:{bound.getsockname()[1]}/{f'{secret}/' if secret else ''}", flush=True)
        # No log of requests: their addresses name participants.
        config = uvicorn.Config(
            study_app(study, store, host, names, secret),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=200,
        )
        uvicorn.Server(config).run(sockets=[bound])


def _secret(path: Path) -> str:
    """Read the token of the address, so that links stay good when the server starts again; make it the first time."""
    if not is_file(path) or not path.read_text().strip():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(16))
    return path.read_text().strip()


class _Held:
    """What the paths of the page answer."""

    def __init__(self, study: Study, store: Store, page: str):
        self._study, self._store, self._page = study, store, page

    def page(self, request: Request) -> Response:
        return HTMLResponse(self._page)

    def participant(self, request: Request) -> Response:
        self._store.trials(_token(request))
        return HTMLResponse(self._page)

    async def start(self, request: Request) -> Response:
        body = await _body(request)
        key = body.get("key") if isinstance(body, Mapping) else None
        if not isinstance(key, str) or not re.fullmatch(r"[0-9a-f]{32}", key):
            raise HTTPException(400, "who starts sends a key of 32 hexadecimal digits")
        return JSONResponse({"token": await run_in_threadpool(self._store.enter, key, self._study.draw)}, 201)

    def plan(self, request: Request) -> Response:
        return JSONResponse(self._told(0))

    def state(self, request: Request) -> Response:
        return JSONResponse(self._state(_token(request)))

    def pair(self, request: Request) -> Response:
        token, position = _token(request), request.path_params["position"]
        trials = self._store.trials(token)
        if position >= len(trials):  # SQLite has no number as large as a path may name
            raise OutOfTurnError
        self._store.see(token, position)
        trial = trials[position]
        photo = self._study.photos[trial.photo]
        names = [photo.truth, photo.fake(trial.system)]
        shown = names if trial.real == "left" else names[::-1]
        return Response(side_by_side(*map(self._study.picture, shown)), media_type="image/png")

    async def answer(self, request: Request) -> Response:
        position, fake, milliseconds = _answer(await _body(request))
        return JSONResponse(
            await run_in_threadpool(self._answered, _token(request), position, fake, milliseconds)
        )

    def _answered(self, token: str, position: int, fake: Side, milliseconds: int) -> dict[str, Any]:
        trials = self._store.trials(token)
        counted = self._store.answer(token, position, fake, milliseconds)
        state = self._state(token)
        if trials[position].part == "practice":
            state["feedback"] = {"answer": counted, "fake": trials[position].fake}
        return state

    def _state(self, token: str) -> dict[str, Any]:
        self._store.trials(token)  # tells of an unknown token
        return self._told(self._store.position(token))

    def _told(self, position: int) -> dict[str, Any]:
        """How far a participant is; nothing of what a pair is."""
        settings = self._study.settings
        total = settings.practice + settings.tests
        return {
            "position": position,
            "practice": settings.practice,
            "total": total,
            "seconds": settings.seconds,
            "done": position == total,
        }


def side_by_side(left: Path, right: Path) -> bytes:
    """Return two pictures of one size as one PNG, twice as wide."""
    with Image.open(left, formats=("PNG",)) as first, Image.open(right, formats=("PNG",)) as second:
        joined = Image.new("RGB", (first.width + second.width, first.height))
        joined.paste(first, (0, 0))
        joined.paste(second, (first.width, 0))
    written = io.BytesIO()
    joined.save(written, "PNG", compress_level=1)
    return written.getvalue()


def _token(request: Request) -> str:
    token: str = request.path_params["token"]
    return token


async def _body(request: Request) -> Any:
    """Read a short JSON body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the body must be at most {MAX_BODY} bytes", {"Connection": "close"})
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body must be JSON") from None


def _answer(body: Any) -> tuple[int, Side, int]:
    """Check an answer: the pair's position, the side, the milliseconds."""
    if not isinstance(body, Mapping) or body.keys() != {"position", "fake", "milliseconds"}:
        raise HTTPException(400, "an answer has position, fake and milliseconds")
    position, fake, milliseconds = body["position"], body["fake"], body["milliseconds"]
    whole = all(
        type(number) is int and 0 <= number <= MAX_MILLISECONDS for number in (position, milliseconds)
    )
    if not whole or fake not in get_args(Side):
        raise HTTPException(400, "position and milliseconds are whole numbers; fake is left or right")
    return position, fake, milliseconds


def _page() -> str:
    return (files("transfer.study") / "page.html").read_text(encoding="utf-8")


def _policy(page: str) -> str:
    """Allow the page's own style and script, by their hashes, and requests to this server; nothing else."""
    hashes = {}
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.S)
        hashes[kind] = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}';"
        " img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
