"""Make the photos that the files beside this one were made from: always the same bytes, on any machine.

Only integers, NumPy's frozen RandomState, and PNG files written here without compression: neither an image encoder nor
zlib's version matters. The photos of the VOC tree are called .jpg, as a devkit's are, and are PNG files all the same.
"""

import struct
import zlib
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, SIDE = 80, 64, 36
CLASSES = ("bars", "plain")


def make_photos(folder: Path) -> None:
    """Make ``photos`` (16), ``labelled`` (two classes of 6 + 4 photos) and ``VOCdevkit`` (VOC2007 and VOC2012)."""
    for number in range(16):
        _write(
            folder / f"photos/{number % 2}/p{number:02d}.png",
            png(picture(number, 72 if number % 3 else 64, 64)),
        )
    for split, count in (("train", 6), ("val", 4)):
        for label, kind in enumerate(("lying", "upright")):
            for number in range(count):
                seed = 100 + 2 * (number + (50 if split == "val" else 0)) + label
                _write(folder / f"labelled/{split}/{kind}/{number}.png", png(picture(seed, 64, 72)))
    _make_voc(folder / "VOCdevkit")


def picture(seed: int, width: int, height: int) -> np.ndarray:
    """Return smooth random colours under stripes, which are upright if the seed is odd; (h, w, 3) uint8."""
    pixels = np.random.RandomState(seed).randint(0, 256, (7, 7, 3)).astype(np.int64)
    for axis, length in ((0, height), (1, width)):
        place = np.arange(length) * 6 * 64 // (length - 1)
        cell = np.minimum(place // 64, 5)
        share = (place - 64 * cell).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = (np.take(pixels, cell, axis) * (64 - share) + np.take(pixels, cell + 1, axis) * share) // 64
    y, x = np.mgrid[:height, :width]
    stripes = np.where((x if seed % 2 else y) % (4 + seed % 5) < 2, 40, -20)
    return (pixels + stripes[..., None]).clip(0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Return a PNG file of (h, w, 3) RGB or (h, w) gray values, not compressed."""
    height, width = pixels.shape[:2]
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    blocks = [raw[start : start + 65535] for start in range(0, len(raw), 65535)]
    stored = b"".join(
        struct.pack("<BHH", number == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for number, block in enumerate(blocks)
    )
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _make_voc(root: Path, train: int = 8, val: int = 6) -> None:
    names = [f"{number:06d}" for number in range(1, train + val + 1)]
    for folder in (root / "VOC2007", root / "VOC2012"):
        _write(folder / "labels.txt", "".join(f"{name}\n" for name in CLASSES).encode())
        for task in ("Main", "Segmentation"):
            for split, listed in (("train", names[:train]), ("val", names[train:])):
                _write(
                    folder / f"ImageSets/{task}/{split}.txt", "".join(f"{name}\n" for name in listed).encode()
                )
        for number, name in enumerate(names):
            photo, mask, annotation = _scene(number)
            _write(folder / f"JPEGImages/{name}.jpg", png(photo))
            _write(folder / f"SegmentationClass/{name}.png", png(mask))
            _write(folder / f"Annotations/{name}.xml", annotation.encode())


def _scene(number: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return a dark noisy photo with bars, a plain square, both or neither; its mask; its annotation."""
    random = np.random.RandomState(1000 + number)
    photo = random.randint(40, 80, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    objects, entries = [("bars", 2), ("plain", WIDTH - SIDE - 2)], ""
    for kind, left in [objects[:1], objects[1:], objects, []][number % 4]:
        top = int(random.randint(4, HEIGHT - SIDE - 4))
        square = np.full((SIDE, SIDE, 3), 210, np.uint8)
        if kind == "bars":
            square[:, np.arange(SIDE) % 8 < 4] = (20, 60, 120)
        photo[top : top + SIDE, left : left + SIDE] = square
        mask[top : top + SIDE, left : left + SIDE] = 1 + CLASSES.index(kind)
        corners = {"xmin": left + 1, "ymin": top + 1, "xmax": left + SIDE, "ymax": top + SIDE}
        box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners.items())
        entries += f"<object><name>{kind}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return photo, mask, f"<annotation>{size}{entries}</annotation>"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
