"""Small studies for tests: photos made on the spot, and a client of the server."""

import asyncio
from functools import partialmethod

import httpx2 as httpx
import numpy as np
from PIL import Image

from transfer.study.make import make_study
from transfer.study.study import StudySettings, load_study

SMALL = {"practice": 3, "tests": 20, "vigilance": 0.1, "seconds": 0.05, "seed": 7}
PHOTOS = 24


def write_folders(folder, count=PHOTOS, systems=("faded", "turned"), size=(40, 32)):
    """Write true photos of coloured noise, and copies of them with changed colours; return the folders by name."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        true = np.array(coarse.resize(size, Image.Resampling.BILINEAR))
        changed = {"truth": true, "faded": true // 2 + 64, "turned": true[..., ::-1]}
        for name in ("truth", *systems):
            path = folder / name / f"class{number % 3}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(changed[name])).save(path)
    return {name: folder / name for name in systems}


def small_study(folder, **changes):
    """Make a study of 24 photos and two systems, and load it."""
    folders = write_folders(folder)
    settings = StudySettings(**(SMALL | changes))
    make_study(folders, folder / "truth", folder / "study", settings)
    return load_study(folder / "study")


class Client:
    """Asks an application, without a socket, as a browser would that sends these headers."""

    def __init__(self, app, base_url, headers=()):
        self._options = {"base_url": base_url, "headers": dict(headers), "trust_env": False}
        self._transport = httpx.ASGITransport(app=app)

    def request(self, method, path, **options):
        async def ask():
            async with httpx.AsyncClient(transport=self._transport, **self._options) as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    get = partialmethod(request, "GET")
    post = partialmethod(request, "POST")
    put = partialmethod(request, "PUT")
    delete = partialmethod(request, "DELETE")
