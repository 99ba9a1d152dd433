"""The page in Debian's Chromium, as a person uses it."""

import base64
import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from made_photos import encoded, gradient
from PIL import Image
from playwright.sync_api import sync_playwright

from pretext.backbones import AlexNet
from pretext.backbones.checkpoint import Provenance
from pretext.color.bins import ab_bins
from pretext.color.spaces import AbBins
from pretext.colorize.colorizer import ColorHead, Colorizer, save_colorizer

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
]

#: Drops files, given as names and base64, onto an element, as a person does.
DROP = """([files, selector]) => {
  const transfer = new DataTransfer();
  for (const [name, data] of files)
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
  const event = new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
  document.querySelector(selector).dispatchEvent(event);
}"""
PIXELS = """canvas => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return [canvas.width, canvas.height, btoa(Array.from(data, v => String.fromCharCode(v)).join(""))];
}"""


@pytest.fixture
def address(tmp_path):
    torch.manual_seed(0)
    space = AbBins(ab_bins())
    colorizer = Colorizer(AlexNet(channels=(8, 8, 8, 8, 8)), ColorHead(8, space.channels), space, "conv5")
    # Decided enough that colours change from place to place.
    colorizer.head[0].weight.data *= 30
    save_colorizer(colorizer.eval(), tmp_path / "colorizer.safetensors", Provenance("colorization", step=1))
    words = [
        sys.executable,
        "-m",
        "pretext",
        "serve",
        "--model",
        str(tmp_path),
        "--port",
        "0",
        "--size",
        "128",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as serving:
        yield serving.stdout.readline().strip()
        serving.terminate()


@pytest.fixture
def page(address):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        foreign, errors = [], []
        page.on("request", lambda request: foreign.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Policy" in message.text else None)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        yield page
        assert [url for url in foreign if not url.startswith((address, "blob:", "data:"))] == []
        assert errors == []
        browser.close()


def photo_of(width, height):
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    gray = (127 + 90 * np.sin(x) * np.cos(y)).astype(np.uint8)
    return Image.fromarray(np.stack([gray, gray, gray], 2))


def drop(page, *, onto="body", **photos):
    files = [[name, base64.b64encode(data).decode()] for name, data in photos.items()]
    page.evaluate(DROP, [files, onto])


def pixels(page, selector):
    width, height, data = page.locator(selector).evaluate(PIXELS)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def test_drop_slide_draw_and_download(page, tmp_path):
    photo = photo_of(120, 80)
    drop(page, **{"old photo.png": encoded(photo, "PNG"), "broken.png": b"\x89PNG\r\n\x1a\n"})
    page.wait_for_selector("#errors p")
    assert page.inner_text("#errors").startswith("broken.png: ")
    page.wait_for_selector("#after[data-colors]")
    assert page.inner_text("#status") == "1 photo is coloured."
    # The temperature by the keyboard.
    page.focus("#temperature")
    before = pixels(page, "#after")
    page.keyboard.press("Home")
    page.wait_for_selector('#after[data-colors*="temperature=0.02"]')
    cold = pixels(page, "#after")
    assert np.abs(cold - before).max() > 10
    # The preview is what is downloaded, but for what interpolation in a table of colours loses.
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "old photo-colorized.png"
    exact = np.array(Image.open(io.BytesIO(download.value.path().read_bytes()))).astype(int)
    assert exact.shape == (80, 120, 3)
    assert np.abs(cold - exact).mean() < 2
    # Other colourings.
    page.click("#draw")
    page.wait_for_selector("#samples label:nth-child(4)")
    page.locator("#samples label").nth(2).click()
    page.wait_for_selector('#after[data-colors*="coherent"]')
    assert np.abs(pixels(page, "#after") - cold).max() > 10
    page.click("#undraw")
    page.wait_for_selector('#after[data-colors*="temperature=0.02"]')
    np.testing.assert_array_equal(pixels(page, "#after"), cold)
    # By another rule, which has no temperature.
    page.select_option("#rule", label="the likeliest colour")
    page.wait_for_selector('#after[data-colors="rule=mode"]')
    assert page.locator("#temperature").is_disabled()
    page.select_option("#rule", label="the annealed mean")
    page.wait_for_selector('#after[data-colors*="temperature=0.02"]')
    np.testing.assert_array_equal(pixels(page, "#after"), cold)
    # The colours of another photo, dropped on its place.
    assert page.locator("#bias").is_disabled()
    drop(page, onto="#steering p", **{"gray.png": encoded(photo, "PNG")})
    page.wait_for_selector("#errors p")
    assert "the reference is gray" in page.inner_text("#errors")
    drop(page, onto="#steering p", **{"warm.png": encoded(gradient(64), "PNG")})
    page.wait_for_selector('#after[data-colors*="transfer=energy"]')
    assert page.inner_text("#status") == "Colours are taken from warm.png."
    assert page.get_by_role("img", name="The reference, warm.png").is_visible()
    by_energy = pixels(page, "#after")
    assert np.abs(by_energy - cold).max() > 10
    page.select_option("#transfer", "quantile")
    page.wait_for_selector('#after[data-colors*="transfer=quantile"]')
    assert np.abs(pixels(page, "#after") - by_energy).max() > 10
    # Its hues, by the keyboard.
    page.focus("#bias")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('#after[data-colors*="bias=5"]')
    assert page.inner_text("#bias-value") == "5°"
    assert page.get_attribute("#bias", "aria-valuetext") == "5 degrees"
    matched = pixels(page, "#after")
    with page.expect_download() as download:
        page.click("#download")
    exact = np.array(Image.open(io.BytesIO(download.value.path().read_bytes()))).astype(int)
    assert np.abs(matched - exact).mean() < 4
    page.click("#no-reference")
    page.wait_for_selector('#after:not([data-colors*="reference"])')
    np.testing.assert_array_equal(pixels(page, "#after"), cold)
    # Before and after.
    page.fill("#split", "100")
    assert page.locator("#before").evaluate("e => e.style.clipPath") == "inset(0px 0% 0px 0px)"
    page.check("#show-uncertainty")
    assert page.locator("#uncertainty").is_visible()
    assert "bits" in page.inner_text("#uncertainty-hint")


def test_it_fits_a_telephone_and_a_reader_finds_every_control(page):
    page.set_viewport_size({"width": 390, "height": 844})
    drop(page, **{name: encoded(photo_of(90, 60), "PNG") for name in ("a.png", "b.png")})
    page.wait_for_selector("#photos label:nth-child(2)")
    page.wait_for_selector("#after[data-colors]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for role, name in (
        ("slider", "Temperature"), ("slider", "Before and after"), ("checkbox", "Show where colours are uncertain"),
        ("slider", "Turn the hues"), ("combobox", "How"), ("combobox", "Choose"), ("group", "Colours of another photo"),
        ("button", "Choose a reference"), ("button", "Draw other colourings"), ("radio", "a.png"), ("radio", "b.png"),
        ("link", "Download at full size"),
    ):  # fmt: skip
        assert page.get_by_role(role, name=name).count() == 1, name
    page.get_by_role("radio", name="a.png").check(force=True)
    assert page.get_by_role("radio", name="a.png").is_checked()
