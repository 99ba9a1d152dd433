import json

import onnxruntime
import pytest
import torch
from small_alexnet import small_alexnet
from trained import trained

from pretext.__main__ import main
from pretext.backbones import ColorNet
from pretext.backbones.checkpoint import Provenance
from pretext.color.bins import ab_bins
from pretext.color.spaces import AbBins, HueChroma, ab_regression
from pretext.colorize.colorizer import ColorHead, Colorizer, save_colorizer
from pretext.colorize.exports import onnx_colorizer
from pretext.colorize.header import is_colorizer


def a_colorizer(backbone, layer, space):
    channels = backbone.layer(layer).channels
    return trained(Colorizer(backbone, ColorHead(channels, space.channels), space, layer))


@torch.no_grad()
def check_onnx(model, colorizer):
    """Compare a model with the colorizer it was made of, at sizes and batches that it was not traced with."""
    session = onnxruntime.InferenceSession(model)
    for shape in ((1, 1, 96, 64), (3, 1, 75, 101)):
        lightness = torch.rand(shape, generator=torch.Generator().manual_seed(4)) * 100
        expected = [value for value in colorizer(lightness)[:2] if value is not None]
        outputs = session.run(None, {"lightness": lightness.numpy()})
        for output, value in zip(outputs, expected, strict=True):
            # Single precision: either is about 5e-6 of the greatest number away from double precision.
            atol = 2e-5 * value.abs().max().item()
            torch.testing.assert_close(torch.from_numpy(output), value, atol=atol, rtol=1e-4)
    return session


def test_the_command_writes_an_onnx_file_that_computes_the_same(narrow, tmp_path):
    space = AbBins(ab_bins(), temperature=0.5)
    colorizer = a_colorizer(ColorNet(), "conv8", space)
    save_colorizer(colorizer, tmp_path / "c.safetensors", Provenance("colorization"))
    words = [str(tmp_path / "c.safetensors"), "--format", "onnx", "--out", str(tmp_path / "c.onnx")]
    assert main(["export", *words]) == 0
    session = check_onnx(tmp_path / "c.onnx", colorizer)
    assert [output.name for output in session.get_outputs()] == ["ab", "distribution"]
    told = session.get_modelmeta().custom_metadata_map
    assert (told["layer"], told["stride"], told["offset"]) == ("conv8", "4", "0.0")
    assert (told["space"], told["temperature"]) == ("ab_bins", "0.5")
    assert torch.equal(torch.tensor(json.loads(told["bins"])), space.bins)


@pytest.mark.slow
def test_onnx_of_an_alexnet_computes_the_same():
    # Its pools have windows that reach over the edge.
    colorizer = a_colorizer(small_alexnet("lightness"), "conv5", AbBins(ab_bins()))
    check_onnx(onnx_colorizer(colorizer), colorizer)


@pytest.mark.slow
def test_onnx_of_hue_and_chroma_computes_the_same(narrow):
    space = HueChroma()
    colorizer = a_colorizer(ColorNet(), "conv3", space)
    session = check_onnx(onnx_colorizer(colorizer), colorizer)
    assert [output.name for output in session.get_outputs()] == ["ab", "distribution"]
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["centers"]) == pytest.approx(space.centers.tolist())
    assert not {"bins", "temperature"} & told.keys()


@pytest.mark.slow
def test_onnx_of_values_has_no_distribution(narrow):
    colorizer = a_colorizer(ColorNet(), "conv3", ab_regression())
    session = check_onnx(onnx_colorizer(colorizer), colorizer)
    assert [output.name for output in session.get_outputs()] == ["ab"]
    told = session.get_modelmeta().custom_metadata_map
    assert told["space"] == "regression"
    assert not {"bins", "temperature"} & told.keys()


@pytest.mark.parametrize(
    ("words", "received"),
    [
        (["--format", "torchvision", "--out", "a.pth"], "torchvision"),
        (["--out", "a.pth"], ".pth"),
        (["--format", "onnx", "--out", "a.onnx", "--layers", "conv5"], "--layers"),
        (["--format", "onnx", "--out", "a.onnx", "--size", "96"], "--size"),
    ],
)
def test_other_exports_of_a_colorizer_are_refused(words, received, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    colorizer = a_colorizer(small_alexnet("lightness"), "conv5", ab_regression())
    save_colorizer(colorizer, tmp_path / "c.safetensors", Provenance("colorization"))
    assert main(["export", "c.safetensors", *words]) == 2
    assert received in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_only_a_colorizer_file_is_one(tmp_path):
    (tmp_path / "other").write_bytes(b"no header")
    assert not is_colorizer(tmp_path / "other")
    assert not is_colorizer(tmp_path / "gone")
