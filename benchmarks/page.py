"""Time what the page takes to show another temperature of a photo of 1 megapixel.

server   the plain way: the server paints the whole photo at the new temperature and sends it as a PNG file.
page     the page's way: the server decodes the small map of colours, the browser joins it with the photo's lightness.
         Measured in Debian's Chromium, from the slider's event to the finished picture.
energy   the same, while the colours are led to those of a reference by its energy.
quantile the same, by quantiles.

The colorizer is an untrained AlexNet at 256 pixels, which takes as long as a trained one. Exits with 1 if the page's
median without a reference is 100 ms or more.

    python benchmarks/page.py
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from pretext.backbones import AlexNet
from pretext.backbones.checkpoint import Provenance
from pretext.color.bins import ab_bins
from pretext.color.spaces import AbBins
from pretext.colorize.colorizer import Colorizer, save_colorizer
from pretext.colorize.heads import ColorHead

SIDE = 1024
RUNS = 9
TARGET = 100.0  # milliseconds
#: Moves the slider to a value, as a hand does.
MOVE = "([slider, value]) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """Write a colorizer file, a photo and a reference; return the paths of both photos."""
    space = AbBins(ab_bins())
    backbone = AlexNet()
    colorizer = Colorizer(
        backbone, ColorHead(backbone.layer("conv5").channels, space.channels), space, "conv5"
    )
    save_colorizer(colorizer.eval(), folder / "colorizer.safetensors", Provenance("colorization", step=1))
    paths = folder / "photo.jpg", folder / "reference.jpg"
    for path, channels in zip(paths, (1, 3), strict=True):
        noise = torch.rand(1, channels, 32, 32, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(noise, size=(SIDE, SIDE), mode="bicubic")[0].clamp(0, 1)
        pixels = (smooth * 255).to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).contiguous()
        Image.fromarray(pixels.numpy()).save(path, quality=95)
    return paths


def time_server(address: str, photo: Path) -> list[float]:
    """Milliseconds from a request to the painted photo's last byte."""
    with urlopen(
        Request(
            f"{address}photos", photo.read_bytes(), {"X-Name": "photo.jpg", "Origin": address.rstrip("/")}
        )
    ) as answer:
        key = answer.read().decode().split('"key":"')[1].split('"')[0]
    times = []
    for run in range(RUNS + 1):
        began = time.perf_counter()
        urlopen(f"{address}photos/{key}/painted?temperature={0.1 + run / 20}").read()
        times.append((time.perf_counter() - began) * 1e3)
    return times[1:]


def time_page(page: Page, address: str, photo: Path, reference: Path) -> dict[str, list[float]]:
    """Milliseconds from the slider's event to the finished picture, as the page counts them, of each way."""
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.set_input_files("#files", photo)
    page.wait_for_selector("#after[data-colors]")
    found = {"page": times_of(page)}
    page.set_input_files("#reference", reference)
    for way in ("energy", "quantile"):
        page.wait_for_selector("#transfer:enabled")
        page.select_option("#transfer", way)
        page.wait_for_selector(f'#after[data-colors*="transfer={way}"]')
        found[way] = times_of(page)
    return found


def times_of(page: Page) -> list[float]:
    """Move the temperature's slider, and return the milliseconds."""
    times = []
    for run in range(RUNS + 1):
        temperature = f"{0.1 + run / 50:.2f}"
        page.evaluate(MOVE, [page.query_selector("#temperature"), temperature])
        page.wait_for_selector(f'#after[data-colors*="temperature={float(temperature):g}"]')
        times.append(float(page.get_attribute("#after", "data-milliseconds") or "nan"))
    return times[1:]


def main() -> int:
    """Measure both ways and compare."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("target not measured: needs chromium (apt-get install chromium)")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        photo, reference = write_inputs(Path(folder))
        words = [sys.executable, "-m", "pretext", "serve", "--model", folder, "--port", "0"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as serving:
            assert serving.stdout is not None
            address = serving.stdout.readline().strip()
            try:
                server = time_server(address, photo)
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                    found = time_page(browser.new_page(), address, photo, reference)
                    browser.close()
            finally:
                serving.terminate()
    for name, times in {"server": server, **found}.items():
        print(f"{name:<9}{statistics.median(times):8.1f} ms  ({min(times):.1f} to {max(times):.1f})")
    median = statistics.median(found["page"])
    print(f"ratio     {statistics.median(server) / median:8.1f}")
    print(f"target    below {TARGET:.0f} ms: {'met' if median < TARGET else 'missed'}")
    return int(median >= TARGET)


if __name__ == "__main__":
    sys.exit(main())
