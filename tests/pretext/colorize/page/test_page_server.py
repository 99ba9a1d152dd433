import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from made_photos import encoded, gradient
from PIL import Image
from starlette.testclient import TestClient

from pretext.backbones import AlexNet
from pretext.color.lab import lab_to_rgb
from pretext.color.spaces import AbBins, HueChroma, ab_regression
from pretext.colorize.colorizer import ColorHead, Colorizer
from pretext.colorize.page import photos, server
from pretext.colorize.page.server import make_app
from pretext.colorize.painting import Decoding, decode, lightness_of, paint, predict
from pretext.colorize.reference import read_reference
from pretext.colorize.settings import Steering
from pretext.colorize.steering import find_biases, recolor, steer

BINS = [[0.0, 0.0], [40.0, 30.0], [-35.0, 30.0], [10.0, -45.0]]
HERE = "127.0.0.1:8313"


def make_colorizer(space):
    torch.manual_seed(0)
    return Colorizer(AlexNet(channels=(8, 8, 8, 8, 8)), ColorHead(8, space.channels), space, "conv5").eval()


@pytest.fixture(scope="module")
def colorizer():
    return make_colorizer(AbBins(BINS, neighbors=1))


def wide(width, height):
    return gradient(width).resize((width, height))


def client_of(colorizer, **arguments):
    app = make_app(colorizer, "a model", **({"size": 64} | arguments))
    return TestClient(app, base_url=f"http://{HERE}", raise_server_exceptions=False)


@pytest.fixture
def client(colorizer):
    with client_of(colorizer) as client:
        yield client


@pytest.fixture
def photo():
    return wide(60, 40)


def sent(client, data, **headers):
    return client.post(
        "/photos", content=data, headers={"X-Name": "a%20photo.jpg", "Origin": f"http://{HERE}", **headers}
    )


def test_a_photo_is_coloured_as_the_command_does(client, colorizer, photo):
    answer = sent(client, encoded(photo, "PNG")).json()
    assert (answer["name"], answer["size"], answer["preview"]) == ("a photo.jpg", [60, 40], [60, 40])
    rgb = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
    colors = predict(colorizer, rgb, 64)
    key = answer["key"]
    for words, decoding in (
        ("", Decoding()),
        ("?temperature=0.1", Decoding(temperature=0.1)),
        ("?rule=coherent&seed=3", Decoding("coherent", seed=3)),
    ):
        ab = decode(colorizer, colors, decoding)[0]
        got = np.frombuffer(client.get(f"/photos/{key}/colors{words}").content, np.float32)
        np.testing.assert_allclose(got.reshape(2, *answer["colors"][::-1]), ab.numpy(), atol=1e-4)
        painted = client.get(f"/photos/{key}/painted{words}")
        assert "a%20photo-colorized.png" in painted.headers["content-disposition"]
        expected = paint(lightness_of(rgb), ab)
        pixels = np.array(Image.open(io.BytesIO(painted.content))).transpose(2, 0, 1).astype(int)
        assert np.abs(pixels - expected.numpy()).max() <= 1


def test_the_preview_is_lightness_in_gray(client, photo):
    key = sent(client, encoded(photo, "PNG")).json()["key"]
    png = client.get(f"/photos/{key}/lightness").content
    lightness = lightness_of(torch.from_numpy(np.array(photo)).permute(2, 0, 1))[0]
    np.testing.assert_allclose(np.array(Image.open(io.BytesIO(png))) / 2.55, lightness.numpy(), atol=0.2)


def test_a_large_photo_has_a_smaller_preview(client, monkeypatch):
    monkeypatch.setattr(photos, "PREVIEW_PIXELS", 5000)
    answer = sent(client, encoded(wide(200, 100), "PNG")).json()
    assert answer["size"] == [200, 100]
    assert answer["preview"] == [100, 50]


def test_uncertainty_is_transparent_where_colours_are_surest(client, photo):
    answer = sent(client, encoded(photo, "PNG")).json()
    low, high = answer["entropy"]
    assert 0 <= low <= high <= 2
    alpha = np.array(Image.open(io.BytesIO(client.get(f"/photos/{answer['key']}/uncertainty").content)))[
        ..., 3
    ]
    assert alpha.shape == (40, 60)
    assert alpha.min() < 20
    assert alpha.max() > 200


def test_the_table_of_colours_is_that_of_lab():
    table = photos.color_table()
    assert tuple(table.shape[:3]) == photos.TABLE_POINTS
    lightness, middle = 20, photos.TABLE_POINTS[1] // 2  # L = 50, a = b = 0
    gray = lab_to_rgb(torch.tensor([50.0, 0.0, 0.0]).view(1, 3, 1, 1)).flatten() * 255
    torch.testing.assert_close(table[lightness, middle, middle].float(), gray, atol=0.5, rtol=0)
    color = lab_to_rgb(torch.tensor([50.0, 20.0, -12.0]).view(1, 3, 1, 1)).flatten() * 255
    torch.testing.assert_close(table[lightness, middle + 5, middle - 3].float(), color, atol=0.6, rtol=0)


def test_a_regression_has_no_temperature(photo):
    with client_of(make_colorizer(ab_regression())) as client:
        model = client.get("/model").json()
        assert (model["temperature"], model["rules"]) == (None, [])
        answer = sent(client, encoded(photo, "PNG")).json()
        assert answer["entropy"] is None
        assert client.get(f"/photos/{answer['key']}/colors").status_code == 200
        for words in ("colors?temperature=0.5", "colors?rule=mode", "uncertainty"):
            assert client.get(f"/photos/{answer['key']}/{words}").status_code == 400


def test_hue_and_chroma_have_no_temperature_of_their_own_but_draws(photo):
    colorizer = make_colorizer(HueChroma())
    with client_of(colorizer) as client:
        model = client.get("/model").json()
        assert (model["temperature"], model["rules"]) == (None, list(HueChroma.rules))
        answer = sent(client, encoded(photo, "PNG")).json()
        low, high = answer["entropy"]
        assert 0 <= low <= high <= 10
        for words in (
            "colors",
            "colors?rule=coherent&seed=1",
            "colors?rule=median",
            "uncertainty",
            "painted",
        ):
            assert client.get(f"/photos/{answer['key']}/{words}").status_code == 200
    with client_of(make_colorizer(AbBins(BINS, neighbors=1))) as client:
        assert client.get("/model").json()["temperature"] == 0.38


def referred(client, data, **headers):
    return client.post(
        "/references", content=data, headers={"X-Name": "warm.png", "Origin": f"http://{HERE}", **headers}
    )


def colors_of(client, key, words):
    answer = client.get(f"/photos/{key}/colors?{words}")
    assert answer.status_code == 200, answer.text
    width, height = map(int, answer.headers["colors-size"].split())
    return torch.frombuffer(bytearray(answer.content), dtype=torch.float32).view(2, height, width)


def painted_of(client, key, words):
    png = client.get(f"/photos/{key}/painted?{words}").content
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png)))).permute(2, 0, 1)


@pytest.mark.parametrize(
    "space", [lambda: AbBins(BINS, neighbors=1), HueChroma], ids=["ab_bins", "hue_chroma"]
)
def test_a_reference_lends_its_colours_as_the_command_does(space, photo):
    colorizer = make_colorizer(space())
    reference = read_reference(encoded(photo), "warm.png")
    bias = 40.0 if colorizer.space.hue is not None else 0.0
    with client_of(colorizer) as client:
        key = sent(client, encoded(photo)).json()["key"]
        assert client.get("/model").json()["hue"] == (colorizer.space.hue is not None)
        answer = referred(client, encoded(photo)).json()
        assert answer["name"] == "warm.png"
        rgb = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
        lightness, colors = lightness_of(rgb), predict(colorizer, rgb, 64)
        for wish in (
            Steering(reference, "energy"), Steering(reference, "energy", bias), Steering(bias=bias),
            Steering(reference, "quantile", 40.0),
        ):  # fmt: skip
            words = f"bias={wish.bias:g}" + (
                f"&transfer={wish.transfer}&reference={answer['key']}" if wish.transfer else ""
            )
            ab = decode(colorizer, steer(colorizer, colors, wish), Decoding())[0]
            expected = recolor(paint(lightness, ab), lightness, wish)
            difference = (painted_of(client, key, words).int() - expected.int()).abs()
            assert difference.max() <= 1
            got = colors_of(client, key, words)
            if wish.transfer == "quantile":
                # A preview of at most a few pixels is matched at each of them.
                shown = paint(lightness, got)
                assert (shown.int() - expected.int()).abs().float().mean() < 1
            else:
                torch.testing.assert_close(got, ab, rtol=0, atol=1e-3)


def test_the_energy_of_a_reference_is_lowered_once_for_a_photo(client, photo, monkeypatch):
    found = []

    def counted(colorizer, colors, reference):
        found.append(reference.sha256)
        return find_biases(colorizer, colors, reference)

    monkeypatch.setattr(photos, "find_biases", counted)
    monkeypatch.setattr(photos, "MAX_REFERENCES", 2)
    key = sent(client, encoded(photo)).json()["key"]
    names = [referred(client, encoded(photo.rotate(turn))).json()["key"] for turn in (0, 90)]
    words = [f"transfer=energy&reference={name}" for name in names]
    for temperature in (0.2, 0.4, 0.6):
        assert client.get(f"/photos/{key}/colors?temperature={temperature}&{words[0]}").status_code == 200
    assert client.get(f"/photos/{key}/uncertainty?{words[0]}").status_code == 200
    client.get(f"/photos/{key}/colors?{words[1]}")
    assert len(found) == 2
    referred(client, encoded(photo.rotate(180)))
    gone = client.get(f"/photos/{key}/colors?{words[0]}")
    assert gone.status_code == 404
    assert "reference" in gone.json()["error"]
    assert "reference" not in client.get(f"/photos/gone/colors?{words[1]}").json()["error"]
    assert client.get(f"/photos/{key}/colors?{words[1]}").status_code == 200


def test_uncertainty_is_that_of_the_steered_colours(client, photo):
    key = sent(client, encoded(photo)).json()["key"]
    name = referred(client, encoded(photo)).json()["key"]
    ranges = [
        client.get(f"/photos/{key}/uncertainty{words}").headers["entropy"]
        for words in ("", f"?transfer=energy&reference={name}")
    ]
    assert len(set(ranges)) == 2
    assert [float(bits) for bits in ranges[0].split()] == pytest.approx(
        sent(client, encoded(photo)).json()["entropy"], abs=1e-3
    )


def test_what_cannot_be_a_reference_is_refused(client, photo, monkeypatch):
    for data in (b"", b"GIF89a", png_of(20_000, 20_000), png_of(10_000, 9_000), encoded(photo.convert("L"))):
        answer = referred(client, data)
        assert answer.status_code == 400
        assert "warm.png" in answer.json()["error"]
    assert referred(client, encoded(photo), Origin="http://evil.example").status_code == 403
    monkeypatch.setattr(server, "MAX_UPLOAD", 10)
    assert referred(client, encoded(photo)).status_code == 413


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("bias=30", 400),
        ("bias=warm", 400),
        ("bias=nan", 400),
        ("bias=999", 400),
        ("transfer=energy", 400),
        ("reference=gone&transfer=energy", 404),
        ("reference=KEY", 400),
        ("reference=KEY&transfer=both", 400),
        ("reference=KEY&transfer=energy&bias=30", 400),
        ("reference=KEY&transfer=quantile&bias=30", 200),
    ],
)
def test_steering_that_cannot_be_is_refused(client, photo, words, status):
    key, name = (take(client, encoded(photo)).json()["key"] for take in (sent, referred))
    assert client.get(f"/photos/{key}/colors?{words.replace('KEY', name)}").status_code == status


def test_the_page_loads_nothing_from_elsewhere(client):
    for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith(kind)
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        assert answer.headers["content-security-policy"] == server.POLICY


def png_of(width, height):
    """A PNG that says it is large; its pixels are of one colour and so a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", png_of(20_000, 20_000), png_of(10_000, 9_000)],
    ids=["empty", "gif", "bomb", "large"],
)
def test_what_is_not_a_photo_or_too_large_is_refused(client, data):
    answer = sent(client, data)
    assert answer.status_code == 400
    assert "a photo.jpg" in answer.json()["error"]


def test_an_upload_is_refused_at_its_first_byte_too_many(client, monkeypatch):
    monkeypatch.setattr(server, "MAX_UPLOAD", 1000)
    taken = []

    def parts():
        for number in range(1000):
            taken.append(number)
            yield b"x" * 400

    assert client.post("/photos", content=parts(), headers={"Origin": f"http://{HERE}"}).status_code == 413
    assert sent(client, b"x" * 1001).status_code == 413
    assert sent(client, b"x" * 999).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_are_refused(client, photo, headers):
    assert sent(client, encoded(photo, "PNG"), **headers).status_code == 403


def test_a_foreign_host_sees_nothing(client):
    for path in ("/", "/model", "/photos/x/colors"):
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/pyproject.toml",
        "/photos/../../etc/passwd/colors",
        "/server.py",
        "/page.html",
    ],
)
def test_nothing_outside_is_served(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "words", ["temperature=0", "temperature=warm", "rule=best", "seed=-1", "seed=x", "temperature=nan"]
)
def test_a_wish_that_cannot_be_is_refused(client, photo, words):
    key = sent(client, encoded(photo, "PNG")).json()["key"]
    assert client.get(f"/photos/{key}/colors?{words}").status_code == 400


def test_with_a_token_nothing_else_is_served(colorizer, photo):
    with client_of(colorizer, host="0.0.0.0", token="secret") as client:
        assert client.get("/").status_code == 404
        assert client.get("/secret/", headers={"Host": "192.0.2.7:8313"}).status_code == 200
        assert client.get("/secret/", headers={"Host": "evil.example"}).status_code == 421
        headers = {"Origin": f"http://{HERE}"}
        assert client.post("/secret/photos", content=encoded(photo), headers=headers).status_code == 200


def test_memory_is_bounded_and_the_oldest_goes_first(client, photo, monkeypatch):
    keys = [sent(client, encoded(photo, "PNG")).json()["key"] for _ in range(2)]
    monkeypatch.setattr(photos, "MAX_KEPT", 60 * 40 * 3 * 2)
    client.get(f"/photos/{keys[0]}/lightness")
    keys.append(sent(client, encoded(photo, "PNG")).json()["key"])
    answers = [client.get(f"/photos/{key}/lightness").status_code for key in keys]
    assert answers == [404, 404, 200]


def test_more_than_a_few_at_once_are_told_to_wait(client, photo, monkeypatch):
    began, go_on = threading.Semaphore(0), threading.Event()
    add = photos.KeptPhotos.add

    def slow_add(self, data, name):
        began.release()
        assert go_on.wait(30)
        return add(self, data, name)

    monkeypatch.setattr(photos.KeptPhotos, "add", slow_add)
    with ThreadPoolExecutor(server.MAX_AT_ONCE) as pool:
        running = [pool.submit(sent, client, encoded(photo, "PNG")) for _ in range(server.MAX_AT_ONCE)]
        for _ in running:
            assert began.acquire(timeout=30)
        assert sent(client, encoded(photo, "PNG")).status_code == 503
        go_on.set()
        assert [one.result().status_code for one in running] == [200] * server.MAX_AT_ONCE
    assert sent(client, encoded(photo, "PNG")).status_code == 200
