"""Fixtures that several test files use: small photos made on the spot, and a config that runs in seconds."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import SMALL

from pretext.backbones.initializers import he_normal_
from pretext.config import load_config


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """48 photos of 72 x 64 pixels: coloured stripes, whose colour follows from their direction."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[:64, :72]
    for number in range(48):
        rng = np.random.default_rng(number)
        stripes = 0.5 + 0.5 * np.sin((x if number % 2 else y) / 3 + rng.uniform(0, 6))
        color = np.array([220, 90, 40] if number % 2 else [40, 110, 220])
        pixels = stripes[..., None] * color + rng.normal(0, 8, (64, 72, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02d}.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def photo_folders(photo_folder, tmp_path_factory):
    """The same photos in two folders, by the direction of the stripes."""
    folder = tmp_path_factory.mktemp("labelled")
    for photo in photo_folder.glob("*.jpg"):
        link = folder / ("upright" if int(photo.stem) % 2 else "lying") / photo.name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(photo)
    return folder


@pytest.fixture(scope="session")
def pair_lists(photo_folder, tmp_path_factory):
    """The photos in pairs: by ``frames`` a list of frame pairs, by ``tracks`` one of tracks."""
    paths = sorted(photo_folder.glob("*.jpg"))
    pairs = list(zip(paths, paths[1:] + paths[:1], strict=True))
    lists = {kind: tmp_path_factory.mktemp("pairs") / f"list.{kind}" for kind in ("pairs", "tracks")}
    motions = [f"{first} {second} {k} {k % 7} {-k}\n" for k, (first, second) in enumerate(pairs)]
    lists["pairs"].write_text("".join(motions))
    boxes = [f"{first} 4 4 44 44 {second} 10 8 58 56\n" for first, second in pairs]
    lists["tracks"].write_text("".join(boxes))
    return {"frames": lists["pairs"], "tracks": lists["tracks"]}


@pytest.fixture
def small_config():
    """Loads a pretraining config and makes it small; more overrides may follow."""

    def load(name="colorization", *overrides, data=None):
        return load_config("pretext", name, data, [*SMALL, *overrides])

    return load


@pytest.fixture
def one_thread():
    """Small networks train faster on one thread, above all beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def train_method(one_thread, tmp_path):
    """Trains a pretext method on one batch of photos by AdamW; returns what it logged at each step."""

    def train(method, image, steps, lr=1e-3, photos=None):
        he_normal_(method, 0)
        if photos is not None:
            method.setup(photos, tmp_path)
        method.train()
        optimizer = torch.optim.AdamW((p for p in method.parameters() if p.requires_grad), lr)
        logged = []
        for step in range(steps):
            torch.manual_seed(step)
            losses, scalars = method(image, torch.arange(len(image)))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            logged.append({name: float(value.detach()) for name, value in {**losses, **scalars}.items()})
        return logged

    return train


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Write what was captured of names that are not UTF-8 so that a process of pytest-xdist can send it."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report
