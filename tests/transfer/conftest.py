"""A small backbone, and a small VOC devkit tree whose two classes even an untrained backbone can tell apart."""

import numpy as np
import pytest
from PIL import Image

from pretext.backbones.checkpoint import Provenance, build, save_backbone
from pretext.backbones.initializers import he_normal_

CLASSES = ("bars", "plain")
WIDTH, HEIGHT, SIDE = 80, 64, 36


def write_object(name, box, difficult):
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    bndbox = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners)
    return (
        f"<object><name>{name}</name><difficult>{difficult:d}</difficult><bndbox>{bndbox}</bndbox></object>"
    )


def write_photo(folder, name, objects):
    """A dark noisy photo with a bright square for each object: (class, left edge, difficult)."""
    rng = np.random.default_rng(int(name))
    pixels = rng.normal(60, 10, (HEIGHT, WIDTH, 3))
    entries = []
    for kind, left, difficult in objects:
        top = int(rng.integers(4, HEIGHT - SIDE - 4))
        square = np.full((SIDE, SIDE, 3), 210.0)
        if kind == "bars":
            square[:, np.arange(SIDE) % 8 < 4] = 20
        pixels[top : top + SIDE, left : left + SIDE] = square
        # The devkit's corners are 1-based and belong to the box.
        entries.append(write_object(kind, (left + 1, top + 1, left + SIDE, top + SIDE), difficult))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    xml = f"<annotation>{size}{''.join(entries)}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(xml)


def write_voc_tree(root, train=32, val=24):
    """VOC2007 below ``root``: bars, a plain square, both, or nothing, in turn; the last one's is difficult."""
    folder = root / "VOCdevkit" / "VOC2007"
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    names = [f"{number:06d}" for number in range(1, train + val + 1)]
    for number, name in enumerate(names):
        objects = [("bars", 2, False), ("plain", WIDTH - SIDE - 2, False)]
        chosen = [objects[:1], objects[1:], objects, []][number % 4]
        write_photo(folder, name, chosen)
    write_photo(folder, names[-1], [("plain", 20, True)])
    lists = {"train": names[:train], "val": names[train:], "trainval": names}
    for split, listed in lists.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed))
    return root


@pytest.fixture
def new_voc_tree(tmp_path):
    """A tree of its own for a test that damages it."""
    return write_voc_tree(tmp_path / "data", train=4, val=4)


@pytest.fixture(scope="session")
def voc_tree(tmp_path_factory):
    """A tree that tests share and leave as it is."""
    return write_voc_tree(tmp_path_factory.mktemp("voc"))


@pytest.fixture(scope="session")
def small_alexnet(tmp_path_factory):
    """What a job takes for an untrained AlexNet with few channels, to be trained in little time."""
    backbone = build("alexnet", {"channels": (16, 32, 32, 32, 32)})
    he_normal_(backbone, 0)
    path = tmp_path_factory.mktemp("backbones") / "small.safetensors"
    save_backbone(backbone, path, Provenance("random"))
    return f"random:{path}"
