"""The page's server: for this machine and this page alone, within bounds.

`pretext.guard` refuses foreign Host headers and photos that are not sent by the page. With another host than the
loopback, all addresses begin with a random token.
"""

import socket
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from pretext.colorize.colorizer import Colorizer
from pretext.colorize.page.photos import (
    TABLE_POINTS,
    TABLE_REACH,
    KeptPhoto,
    KeptPhotos,
    color_table,
    entropy_range,
    lightness_png,
    uncertainty_png,
)
from pretext.colorize.painting import Decoding
from pretext.colorize.settings import Steering
from pretext.errors import InputError
from pretext.guard import LOOPBACK, Guard

#: Most bytes of an upload.
MAX_UPLOAD = 64 << 20
#: Photos that wait or are worked on at the same time; each holds its upload.
MAX_AT_ONCE = 4
#: What the page may load: its own files and what the server gives it, nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_FILES = {
    "": ("page.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
}


T = TypeVar("T")


class _RefusedError(Exception):
    """A request that is not served: status and reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


def make_app(
    colorizer: Colorizer, title: str, *, size: int | None = None, host: str = "127.0.0.1", token: str = ""
) -> ASGIApp:
    """Make the page's application.

    Args:
        colorizer: In eval mode.
        title: What the page calls it.
        size: Shorter side of what the network sees, in pixels; None takes the one of training.
        host: The address that the server is bound to.
        token: First part of every path; empty for none.
    """
    page = _Page(KeptPhotos(colorizer, size), title)
    routes: list[Route | Mount] = [
        Route("/", partial(page.file, name="")),
        Route("/page.js", partial(page.file, name="page.js")),
        Route("/page.css", partial(page.file, name="page.css")),
        Route("/model", page.model),
        Route("/table", page.table),
        Route("/photos", page.add, methods=["POST"]),
        Route("/references", page.add_reference, methods=["POST"]),
        Route("/photos/{key}/lightness", page.lightness),
        Route("/photos/{key}/colors", page.colors),
        Route("/photos/{key}/uncertainty", page.uncertainty),
        Route("/photos/{key}/painted", page.painted),
    ]
    if token:
        routes = [Mount(f"/{token}", routes=routes)]
    handlers: Mapping[Any, Callable[..., Any]] = {
        InputError: _refused,
        _RefusedError: _refused,
        KeyError: _not_kept,
        404: _unknown,
    }
    app = Starlette(routes=routes, exception_handlers=dict(handlers))
    is_local = host in LOOPBACK
    return Guard(app, {*LOOPBACK, *(() if is_local else (host, socket.gethostname()))}, not is_local, POLICY)


class _Page:
    """The page's answers."""

    def __init__(self, photos: KeptPhotos, title: str):
        self._photos, self._title = photos, title
        self._table = color_table().numpy().tobytes()
        self._places = anyio.Semaphore(MAX_AT_ONCE)

    async def file(self, request: Request, name: str) -> Response:
        file, media_type = PAGE_FILES[name]
        return Response((files(__package__) / file).read_bytes(), media_type=media_type)

    async def model(self, request: Request) -> Response:
        space = self._photos.colorizer.space
        return JSONResponse(
            {
                "title": self._title,
                "rules": space.rules,
                "temperature": space.temperature,
                "hue": space.hue is not None,
                "table": {"points": TABLE_POINTS, "reach": TABLE_REACH},
            }
        )

    async def table(self, request: Request) -> Response:
        return Response(self._table, media_type="application/octet-stream")

    async def add(self, request: Request) -> Response:
        name, (key, photo) = await self._taken(request, self._photos.add)
        return JSONResponse(
            {
                "key": key,
                "name": name,
                "size": list(photo.rgb.shape[:0:-1]),
                "preview": list(photo.preview.shape[:0:-1]),
                "colors": list(photo.colors.ab.shape[:1:-1]),
                "entropy": entropy_range(photo.colors),
            }
        )

    async def add_reference(self, request: Request) -> Response:
        name, key = await self._taken(request, self._photos.add_reference)
        return JSONResponse({"key": key, "name": name})

    async def _taken(self, request: Request, take: Callable[[bytes, str], T]) -> tuple[str, T]:
        """Receive a photo; return its name, and what is made of it."""
        name = unquote(request.headers.get("x-name", "photo"))
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            raise _RefusedError(
                503, f"{MAX_AT_ONCE} photos are being coloured; try again when one is done"
            ) from None
        try:
            return name, await run_in_threadpool(take, await _body(request), name)
        finally:
            self._places.release()

    async def lightness(self, request: Request) -> Response:
        return Response(await run_in_threadpool(lightness_png, self._photo(request)), media_type="image/png")

    async def colors(self, request: Request) -> Response:
        photo, steering = self._photo(request), self._steering(request)
        ab = await run_in_threadpool(self._photos.ab, photo, _decoding(request), steering)
        headers = {"Colors-Size": f"{ab.shape[2]} {ab.shape[1]}"}
        return Response(
            ab.contiguous().numpy().tobytes(), media_type="application/octet-stream", headers=headers
        )

    async def uncertainty(self, request: Request) -> Response:
        photo = self._photo(request)
        colors = await run_in_threadpool(self._photos.colors, photo, self._steering(request))
        png = await run_in_threadpool(uncertainty_png, photo, colors)
        low, high = entropy_range(colors) or (0, 0)
        return Response(png, media_type="image/png", headers={"Entropy": f"{low:.3f} {high:.3f}"})

    async def painted(self, request: Request) -> Response:
        photo, upsampling = self._photo(request), request.query_params.get("upsampling", "bilinear")
        steering = self._steering(request)
        png = await run_in_threadpool(self._photos.painted, photo, _decoding(request), steering, upsampling)
        name = quote(
            f"{photo.name.rpartition('.')[0] or photo.name}-colorized.png", safe="", errors="replace"
        )
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return Response(png, media_type="image/png", headers=headers)

    def _photo(self, request: Request) -> KeptPhoto:
        return self._photos.get(request.path_params["key"])

    def _steering(self, request: Request) -> Steering:
        query = request.query_params
        try:
            reference = self._photos.reference(query["reference"]) if "reference" in query else None
        except KeyError:
            raise _RefusedError(404, "this reference is no longer kept; choose it again") from None
        return Steering(reference, query.get("transfer"), _number(query.get("bias", "0")))


async def _body(request: Request) -> bytes:
    """Read an upload; stop at the first byte too many, whatever the headers say."""
    if int(request.headers.get("content-length", "0") or 0) > MAX_UPLOAD:
        raise _RefusedError(413, f"a photo may have {MAX_UPLOAD >> 20} MB at the most")
    parts, received = [], 0
    try:
        async for part in request.stream():
            received += len(part)
            if received > MAX_UPLOAD:
                raise _RefusedError(413, f"a photo may have {MAX_UPLOAD >> 20} MB at the most")
            parts.append(part)
    except ClientDisconnect:
        raise _RefusedError(400, "the upload was broken off") from None
    return b"".join(parts)


def _decoding(request: Request) -> Decoding:
    query = request.query_params
    temperature = _number(query["temperature"]) if "temperature" in query else None
    try:
        seed = int(query.get("seed", "0"))
    except ValueError:
        raise InputError("a seed must be a whole number", received=query["seed"]) from None
    return Decoding(query.get("rule", "annealed"), temperature, seed)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError("temperature and bias must be numbers", received=text) from None


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, getattr(error, "status", 400))


async def _not_kept(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "this photo is no longer kept; choose it again"}, 404)


async def _unknown(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "there is nothing at this address"}, 404)
