"""Fixtures that several test files use: small photos made on the spot, and a config that runs in seconds."""

import numpy as np
import pytest
from PIL import Image
from small_run import SMALL

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


@pytest.fixture
def small_config():
    """Loads a pretraining config and makes it small; more overrides may follow."""

    def load(name="pretext/colorization_alexnet_toyworld", *overrides):
        return load_config(name, [*SMALL, *overrides])

    return load
