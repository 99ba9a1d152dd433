import io
import json
import os
import shutil
import zlib
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from made_photos import encoded, gradient
from PIL import Image
from refusals import refused
from small_alexnet import small_alexnet

from pretext.__main__ import main
from pretext.backbones.checkpoint import Provenance
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.lab import rgb_to_lab
from pretext.color.spaces import AbBins, HueChroma, ab_regression
from pretext.colorize import batch
from pretext.colorize.colorizer import ColorHead, Colorizer, load_colorizer, save_colorizer
from pretext.colorize.header import find_colorizer
from pretext.data.decoding import read_rgb
from pretext.errors import InputError

PROVENANCE = Provenance("colorization", config={"view": {"size": 32, "resize": 32}})


def save(path, space, seed=0):
    made = Colorizer(small_alexnet("lightness"), ColorHead(32, space.channels), space, "conv5").eval()
    he_normal_(made, seed)
    if space.channels > 2:
        made.head[0].weight.data *= 0.3
    save_colorizer(made, path, PROVENANCE)
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "colorizer.safetensors", AbBins(ab_bins()[::9]))


@pytest.fixture
def album(tmp_path, monkeypatch):
    """Gray photos, in ``album`` below the current folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.jpg", "b.png", "sub/c.png")):
        photo = gradient(40).rotate(90 * number).convert("L")
        (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "album" / name).write_bytes(encoded(photo, "JPEG" if name == "a.jpg" else "PNG"))
    return tmp_path / "album"


@pytest.fixture(scope="module")
def loaded():
    return cache(load_colorizer)


@pytest.fixture
def colorize(model, loaded, monkeypatch, capsys):
    """Runs the command into ``out``; gives the exit code and what it said on stderr."""

    monkeypatch.setattr("pretext.colorize.colorizer.load_colorizer", loaded)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # the power does not fail here

    def run(*words, model=model):
        code = main(["colorize", *map(str, words), "--model", model, "--out", "out"])
        return code, capsys.readouterr().err

    return run


def bomb():
    """A small PNG that says it has 20,000 x 20,000 pixels."""
    data = bytearray(encoded(gradient()))
    data[16:24] = 2 * (20_000).to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def files(folder="out"):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def lab_of(path):
    pixels = np.array(read_rgb(path))
    return rgb_to_lab(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def test_a_folder_is_coloured_and_keeps_its_lightness(album, colorize):
    code, said = colorize("album")
    assert (code, files().keys()) == (0, {"a.jpg", "b.png", "sub/c.png", "colorized.jsonl"})
    assert "3 photos coloured" in said
    for name in ("b.png", "sub/c.png"):
        gray, colored = lab_of(album / name), lab_of(Path("out") / name)
        assert (gray[:, 0] - colored[:, 0]).abs().max() < 0.5
        assert colored[:, 1:].abs().max() > 3
    assert files()["a.jpg"].startswith(b"\xff\xd8\xff")


def test_started_again_it_goes_on_and_rewrites_nothing(album, colorize):
    colorize("album")
    before = files()
    Path("out/b.png").unlink()
    stamp = Path("out/a.jpg").stat().st_mtime_ns
    code, said = colorize("album")
    assert code == 0
    assert "1 photos coloured, 2 finished before" in said
    assert Path("out/a.jpg").stat().st_mtime_ns == stamp
    after = files()
    assert after.pop("colorized.jsonl") != before.pop("colorized.jsonl")
    assert after == before


def test_an_interrupted_run_ends_with_the_same_files(album, colorize, monkeypatch):
    colorize("album")
    whole = files()
    shutil.rmtree("out")
    original, calls = batch.write_whole, []

    def interrupted(path, content):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "write_whole", interrupted)
        assert colorize("album")[0] == 130
    assert "sub/c.png" not in files()
    assert colorize("album")[0] == 0
    assert {name: data for name, data in files().items() if name != "colorized.jsonl"} == {
        name: data for name, data in whole.items() if name != "colorized.jsonl"
    }


def test_other_settings_in_the_same_folder_are_an_error(album, colorize):
    colorize("album")
    before = files()
    for words in (("--size", "64"), ("--decode", "mode"), ("--seed", "3"), ("--upsampling", "bilateral")):
        code, said = colorize("album", *words)
        assert code == 2
        assert words[1] in said
        assert files() == before


def test_another_colorizer_in_the_same_folder_is_an_error(album, colorize, tmp_path):
    colorize("album")
    other = save(tmp_path / "other.safetensors", AbBins(ab_bins()[::9]), seed=1)
    code, said = colorize("album", model=other)
    assert code == 2
    assert "colorizer=" in said


def test_nothing_is_overwritten(album, colorize):
    Path("out").mkdir()
    Path("out/b.png").write_bytes(b"mine")
    code, said = colorize("album")
    assert code == 2
    assert "album/b.png" in said
    assert "out/b.png" in said
    assert Path("out/b.png").read_bytes() == b"mine"
    assert {"a.jpg", "sub/c.png"} < files().keys()


def test_a_photo_that_changed_is_told(album, colorize):
    colorize("album")
    before = files()
    shutil.copy(album / "b.png", album / "sub" / "c.png")
    code, said = colorize("album")
    assert code == 2
    assert "sub/c.png" in said
    assert files() == before


def test_what_cannot_be_read_is_named_and_the_rest_is_done(album, colorize):
    whole = (album / "b.png").read_bytes()
    broken = {
        "empty.jpg": b"",
        "cut.png": whole[: len(whole) // 2],
        "tiff.jpg": b"II*\0" + bytes(100),
        "bomb.png": bomb(),
        "moving.webp": encoded(gradient(), "WebP", save_all=True, append_images=[gradient().rotate(9)]),
        "alpha.jpg": encoded(Image.new("RGBA", (9, 9))),
    }
    for name, data in broken.items():
        (album / name).write_bytes(data)
    (album / "loop.png").symlink_to("loop.png")
    odd = os.fsdecode(b"caf\xe9.png")
    (album / odd).write_bytes(whole)
    code, said = colorize("album")
    assert code == 2
    assert "7 of 11" in said
    reasons = {line.split("album/")[1].split(": ")[0]: line for line in said.splitlines() if "album/" in line}
    assert reasons.keys() == {*broken, "loop.png"}
    for name, word in {"tiff.jpg": "TIFF", "bomb.png": "20000x20000", "moving.webp": "2 frames"}.items():
        assert word in reasons[name]
    assert "transparent" in reasons["alpha.jpg"]
    assert files().keys() == {"a.jpg", "b.png", "sub/c.png", odd, "colorized.jsonl"}


def odd_photos():
    """200 odd files: those that can be coloured, and those that cannot, by their names, with a word of the reason."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8))
    gray16 = Image.fromarray(np.arange(24 * 30, dtype=np.uint16).reshape(24, 30) * 90)
    whole = encoded(noise)
    jpeg = encoded(noise, "JPEG")
    moving = {"save_all": True, "append_images": [noise.rotate(9)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    good = {
        "dot.png": encoded(noise.crop((0, 0, 1, 1))),
        "high.png": encoded(noise.resize((1, 4000))),
        "wide.jpg": encoded(noise.resize((4000, 1)), "JPEG"),
        "sixteen bits.png": encoded(gray16),
        "cmyk.jpg": encoded(noise.convert("CMYK"), "JPEG"),
        "progressive.jpg": encoded(noise, "JPEG", progressive=True),
        "turned.jpg": encoded(noise, "JPEG", exif=exif),
        "palette.png": encoded(noise.convert("P")),
        "glass palette.png": encoded(noise.convert("P"), transparency=3),
        "glass.png": encoded(noise.convert("LA")),
        "one bit.png": encoded(noise.convert("1")),
        "still.webp": encoded(noise, "WebP", lossless=True),
        "jpeg.png": jpeg,
        "png.JPG": whole,
        "-o.png": whole,
        'quote\'s "name".png': whole,
        "two\nlines.png": whole,
        **{os.fsdecode(bytes([0xE0 + n]) + b".png"): whole for n in range(20)},
        **{f"{n}/{n}/deep.png": whole for n in range(63)},
    }
    bad = {
        **{f"empty{n}.jpg": (b"", "empty") for n in range(10)},
        **{f"cut{n}.png": (whole[: 1 + n * (len(whole) - 20) // 20], "") for n in range(20)},
        **{f"cut{n}.jpg": (jpeg[: 1 + n * (len(jpeg) // 2) // 20], "") for n in range(20)},
        **{f"moving{n}.png": (encoded(noise, "PNG", **moving), "2 frames") for n in range(5)},
        **{f"flying{n}.webp": (encoded(noise, "WebP", **moving), "2 frames") for n in range(5)},
        **{f"gif{n}.jpg": (encoded(noise, "GIF"), "GIF") for n in range(5)},
        **{f"glass{n}.jpg": (encoded(Image.new("RGBA", (9, 9))), "transparent") for n in range(5)},
        **{f"text{n}.png": (b"not a photo", "") for n in range(5)},
        **{f"bomb{n}.png": (bomb(), "20000x20000") for n in range(5)},
    }
    return good, bad


@pytest.mark.slow
def test_of_200_odd_files_each_is_coloured_or_named_with_its_reason(album, colorize):
    good, bad = odd_photos()
    for name, data in (good | {name: data for name, (data, _) in bad.items()}).items():
        (album / name).parent.mkdir(parents=True, exist_ok=True)
        (album / name).write_bytes(data)
    links = {f"loop{n}.png": f"loop{n}.png" for n in range(10)} | {
        f"gone{n}.jpg": "nowhere" for n in range(10)
    }
    for name, target in links.items():
        (album / name).symlink_to(target)
    os.mkfifo(album / "pipe.png")
    (album / "folder.png").mkdir()
    (album / "circle").symlink_to(album)
    before = files(album)
    assert len(good) + len(bad) + len(links) == 200
    code, said = colorize("album")
    assert code == 2
    assert f"{len(bad) + len(links)} of {len(good) + len(bad) + len(links) + 3}" in said
    reasons = {line.split("album/")[1].split(": ")[0]: line for line in said.splitlines() if "album/" in line}
    assert reasons.keys() == {*bad, *links}
    for name, (_, word) in bad.items():
        assert word in reasons[name]
    made = files()
    assert len(made) == len(good) + 3 + 1
    assert files(album) == before
    code, said = colorize("album")
    assert code == 2
    assert files() == made


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished(album, colorize, monkeypatch):
    original = batch.write_whole

    def full(path, content):
        if path.name != "a.jpg":
            raise InputError("cannot write", received=path) from OSError(28, "No space left on device")
        original(path, content)

    monkeypatch.setattr(batch, "write_whole", full)
    code, said = colorize("album")
    assert code == 2
    assert said.startswith("error: cannot write") or "\nerror: cannot write" in said
    assert files().keys() == {"a.jpg", "colorized.jsonl"}


def test_too_little_memory_for_one_photo_is_told_and_other_errors_are_raised(album, colorize, monkeypatch):
    def fails(message):
        def predict(colorizer, lightness, size):
            if lightness.shape[2] > 40:
                raise RuntimeError(message)
            return original(colorizer, lightness, size)

        return predict

    original = batch.predict
    (album / "large.png").write_bytes(encoded(gradient(64)))
    monkeypatch.setattr(batch, "predict", fails("DefaultCPUAllocator: can't allocate memory: ..."))
    code, said = colorize("album")
    assert code == 2
    assert "large.png" in said
    assert "--size" in said
    assert {"a.jpg", "b.png", "sub/c.png"} < files().keys()
    assert "large.png" not in files()
    monkeypatch.setattr(batch, "predict", fails("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        colorize("album")


def test_a_name_too_long_for_a_result_is_one_photos_failure(album, colorize):
    name = f"{'x' * 250}.png"
    (album / name).write_bytes((album / "b.png").read_bytes())
    code, said = colorize("album")
    assert code == 2
    assert name in said
    assert {"a.jpg", "b.png", "sub/c.png"} < files().keys()


def test_samples_and_uncertainty_are_written(album, colorize):
    code, _ = colorize(
        "album/b.png", "--decode", "coherent", "--samples", "3", "--seed", "1", "--uncertainty"
    )
    assert code == 0
    made = files()
    samples = [made[f"b_sample{n}.png"] for n in range(3)]
    assert len(set(samples)) > 1
    bits = np.load("out/b_entropy.npy")
    assert bits.shape == (2, 2)
    assert bits.min() >= 0
    assert bits.max() <= np.log2(35)
    assert Image.open(io.BytesIO(made["b_entropy.png"])).size == (40, 40)


def test_colours_are_chosen_at_the_photo(album, colorize, tmp_path):
    model = save(tmp_path / "histograms.safetensors", HueChroma())
    code, _ = colorize("album", "--decode-at", "photo", "--uncertainty", model=model)
    assert code == 0
    at_photo = files()
    assert np.load("out/a_entropy.npy").max() <= 10
    gray, colored = lab_of(album / "b.png"), lab_of(Path("out/b.png"))
    assert (gray[:, 0] - colored[:, 0]).abs().max() < 0.5
    code, said = colorize("album", "--uncertainty", model=model)
    assert code == 2
    assert "decode_at" in said
    shutil.rmtree("out")
    assert colorize("album", "--uncertainty", model=model)[0] == 0
    assert files()["b.png"] != at_photo["b.png"]
    assert files()["a_entropy.npy"] == at_photo["a_entropy.npy"]


@pytest.fixture
def warm(tmp_path):
    """A reference of reds, and a gray one."""
    gradient(40).save(tmp_path / "warm.png")
    gradient(40).convert("L").save(tmp_path / "gray.png")
    return tmp_path / "warm.png"


def test_a_reference_lends_its_colours(album, colorize, warm):
    colorize("album/b.png")
    plain = lab_of(Path("out/b.png"))
    found = {}
    for transfer, words in (("energy", ()), ("quantile", ("--transfer", "quantile"))):
        shutil.rmtree("out")
        assert colorize("album/b.png", "--reference", warm, *words)[0] == 0
        found[transfer] = lab_of(Path("out/b.png"))
        settings = json.loads(Path("out/colorized.jsonl").read_text().splitlines()[0])["settings"]
        assert settings["reference"] == sha256(warm.read_bytes()).hexdigest()
        assert (settings["transfer"], settings["bias"]) == (transfer, 0.0)
        assert (found[transfer][:, 0] - plain[:, 0]).abs().max() < 0.8
        assert (found[transfer][:, 1:] - plain[:, 1:]).abs().max() > 5
    assert not torch.equal(found["energy"], found["quantile"])


def test_another_reference_in_the_same_folder_is_an_error(album, colorize, warm):
    assert colorize("album", "--reference", warm)[0] == 0
    before = files()
    assert colorize("album", "--reference", warm, "--transfer", "energy")[0] == 0
    gradient(40).rotate(90).save("other.png")
    for words in (
        (),
        ("--reference", "other.png"),
        ("--reference", warm, "--transfer", "quantile"),
    ):
        code, said = colorize("album", *words)
        assert code == 2
        assert "reference=" in said or "transfer=quantile" in said
    assert files() == before


def test_hues_are_turned_with_samples_and_uncertainty(album, colorize, warm, tmp_path):
    model = save(tmp_path / "histograms.safetensors", HueChroma())
    words = ("--decode", "coherent", "--samples", "2", "--decode-at", "photo", "--uncertainty")
    assert colorize("album/b.png", *words, model=model)[0] == 0
    straight = files()
    shutil.rmtree("out")
    assert colorize("album/b.png", *words, "--bias", "-90", model=model)[0] == 0
    assert files().keys() == straight.keys()
    for name in ("b_sample0.png", "b_sample1.png"):
        assert files()[name] != straight[name]
    shutil.rmtree("out")
    steered = ("--bias", "40", "--reference", warm)
    assert colorize("album/b.png", *words, *steered, model=model)[0] == 0
    assert files()["b_entropy.npy"] != straight["b_entropy.npy"]


def test_what_cannot_be_steered_is_told_before_anything_is_written(album, colorize, warm, tmp_path):
    regression = save(tmp_path / "values.safetensors", ab_regression())
    for words, named in (
        (["--reference", "gone.png"], "gone.png"),
        (["--reference", "gray.png"], "gray.png"),
        (["--reference", "album"], "album"),
        (["--transfer", "energy"], "transfer energy"),
        (["--reference", warm, "--transfer", "both"], "both"),
        (["--bias", "400"], "400"),
        (["--bias", "30"], "bias 30"),
        (["--reference", warm, "--bias", "30"], "bias 30"),
    ):
        code, said = colorize("album", *words)
        assert code == 2
        assert named in said
    code, said = colorize("album", "--reference", warm, model=regression)
    assert code == 2
    assert "quantile" in said
    assert not Path("out").exists()
    assert colorize("album", "--reference", warm, "--transfer", "quantile", model=regression)[0] == 0


def test_of_values_there_is_nothing_to_choose(album, colorize, tmp_path):
    regression = save(tmp_path / "values.safetensors", ab_regression())
    for words in (
        ["--decode", "mode"],
        ["--temperature", "0.5"],
        ["--uncertainty"],
        ["--decode-at", "photo"],
    ):
        code, said = colorize("album", *words, model=regression)
        assert code == 2
        assert "regression" in said
        assert not Path("out").exists()
    assert colorize("album", model=regression)[0] == 0


def test_a_colorizer_is_found_by_file_folder_or_memory(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert find_colorizer(model) == Path(model)
    assert find_colorizer(str(Path(model).parent)) == Path(model)
    with refused("last_colorizer"):
        find_colorizer(None)
    with refused(received="gone"):
        find_colorizer("gone")
    Path("work_dirs").mkdir()
    with refused("colorizer.safetensors", received="work_dirs"):
        find_colorizer("work_dirs")
    Path("work_dirs/last_colorizer").write_text(f"{model}\n")
    assert find_colorizer(None) == Path(model)
    assert model in capsys.readouterr().err
    Path("work_dirs/last_colorizer").write_text(f"{tmp_path}/gone\n")
    with refused("last_colorizer", received=f"{tmp_path}/gone"):
        find_colorizer(None)
