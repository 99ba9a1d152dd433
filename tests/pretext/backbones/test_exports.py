import onnxruntime
import pytest
import torch
import torchvision
from mmcv.cnn import VGG
from mmengine.runner import load_checkpoint
from torch import nn
from torch.nn import functional as F
from trained import photos, trained

from pretext.__main__ import main
from pretext.backbones import VGG16, AlexNet, ColorNet
from pretext.backbones.checkpoint import build
from pretext.backbones.exports import (
    onnx_model,
    openmmlab_checkpoint,
    save_state_dict,
    torchvision_state_dict,
)
from pretext.errors import InputError


def test_torchvision_names_run_in_torchvisions_vgg():
    backbone = trained(VGG16("rgb"))
    theirs = torchvision.models.vgg16_bn(weights=None).features
    weights = {k.removeprefix("features."): v for k, v in torchvision_state_dict(backbone).items()}
    theirs.load_state_dict(weights, strict=True)
    # torchvision's features end in a pool with stride 2, as ours do in the evaluation geometry.
    backbone.geometry = "evaluation"
    x = backbone.prepare(photos(64))
    torch.testing.assert_close(
        theirs.eval()(x), backbone.extract(x, ["pool5"])["pool5"], atol=1e-4, rtol=1e-4
    )


def test_torchvision_names_run_in_torchvisions_alexnet_layout():
    backbone = trained(AlexNet("rgb", geometry="evaluation", groups=1))
    theirs = torchvision.models.alexnet(weights=None).features
    weights = {k.removeprefix("features."): v for k, v in torchvision_state_dict(backbone).items()}
    assert sorted(weights) == sorted(theirs.state_dict())
    channels = {0: (3, 96), 3: (96, 256), 6: (256, 384), 8: (384, 384), 10: (384, 256)}
    for position, (inputs, outputs) in channels.items():
        old = theirs[position]
        theirs[position] = nn.Conv2d(inputs, outputs, old.kernel_size, old.stride, old.padding)
    theirs[0].padding = (0, 0)
    theirs.load_state_dict(weights, strict=True)
    x = backbone.prepare(photos(131))
    torch.testing.assert_close(
        theirs.eval()(x), backbone.extract(x, ["pool5"])["pool5"], atol=1e-4, rtol=1e-4
    )


def test_export_without_a_counterpart_is_refused():
    with pytest.raises(InputError, match="torchvision has no counterpart: received colornet"):
        torchvision_state_dict(ColorNet())


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
@torch.no_grad()
def test_torchvisions_networks_take_fc6_and_fc7_as_matrices(name):
    arguments = {"fully_connected": True, "norm": "none", "geometry": "evaluation"}
    if name == "alexnet":
        arguments |= {"groups": 1, "channels": (64, 192, 384, 256, 256), "conv1_padding": 2}
    backbone = trained(build(name, {"input_space": "rgb", **arguments}))
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    missing, unexpected = theirs.load_state_dict(torchvision_state_dict(backbone), strict=False)
    assert unexpected == []
    assert {key.split(".")[1] for key in missing} == {"6"}  # ImageNet's classes
    x = backbone.prepare(photos(224))
    expected = theirs.classifier[:-1](theirs.features(x).flatten(1))
    torch.testing.assert_close(backbone.extract(x, ["fc7"])["fc7"].flatten(1), expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_detector_of_openmmlab_loads_the_checkpoint(tmp_path):
    backbone = trained(VGG16("rgb"))
    save_state_dict(openmmlab_checkpoint(backbone), tmp_path / "vgg.pth")
    model = nn.Module()
    model.backbone = VGG(16, with_bn=True, out_indices=(3,), with_last_pool=False)
    load_checkpoint(model, str(tmp_path / "vgg.pth"), strict=True)
    x = backbone.prepare(photos(64))
    model.eval()
    features = model.backbone(x)
    expected = F.max_pool2d(backbone.extract(x, ["conv4_3"])["conv4_3"], 2)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [AlexNet, VGG16, ColorNet])
@torch.no_grad()
def test_onnx_computes_the_same(make):
    backbone = trained(make())
    layers = ["conv3", "conv5"] if make is not VGG16 else ["conv3_1", "conv5_3"]
    session = onnxruntime.InferenceSession(onnx_model(backbone, layers, 96))
    for count in (1, 3):
        images = photos(96).float().repeat(2, 1, 1, 1)[:count]
        outputs = session.run(None, {"photos": images.numpy()})
        assert [output.name for output in session.get_outputs()] == layers
        for output, expected in zip(outputs, backbone(images, layers).values(), strict=True):
            torch.testing.assert_close(torch.from_numpy(output), expected, atol=1e-4, rtol=1e-4)


def test_onnx_needs_a_layer_and_room_for_it():
    with pytest.raises(InputError, match="unknown layer of alexnet: received 'conv9'"):
        onnx_model(AlexNet(), ["conv9"], 96)
    with pytest.raises(InputError, match="alexnet cannot look at photos of 8 pixels"):
        onnx_model(AlexNet(geometry="evaluation"), ["conv5"], 8)
    with pytest.raises(InputError, match="size is too small: received -5"):
        onnx_model(AlexNet(), ["conv5"], -5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--format", "caffe", "--out", "a.pth"],
            "unknown format: received 'caffe', allowed are torchvision",
        ),
        (
            ["--format", "onnx", "--out", "a.pth"],
            "unknown ending of an ONNX file: received '.pth', allowed are .onnx",
        ),
        (["--format", "openmmlab", "--out", "a.safetensors"], "received '.safetensors', allowed are .pth"),
    ],
)
def test_other_exports_are_refused(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "random:alexnet", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_an_onnx_file(tmp_path):
    words = ["--format", "onnx", "--layers", "conv1", "--size", "64", "--out", str(tmp_path / "net.onnx")]
    assert main(["export", "random:alexnet", *words]) == 0
    assert onnxruntime.InferenceSession(tmp_path / "net.onnx").get_outputs()[0].name == "conv1"
