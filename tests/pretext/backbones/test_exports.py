import onnxruntime
import pytest
import torch
import torchvision
from mmcv.cnn import VGG
from mmengine.runner import load_checkpoint
from narrow import narrow_torchvision
from refusals import refused
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from trained import photos, trained

from pretext.__main__ import main
from pretext.backbones import VGG16, AlexNet, ColorNet
from pretext.backbones.checkpoint import Provenance, build, save_backbone
from pretext.backbones.exports import (
    onnx_model,
    openmmlab_checkpoint,
    save_state_dict,
    torchvision_state_dict,
)


def test_torchvision_names_run_in_torchvisions_vgg(narrow):
    backbone = trained(VGG16("rgb"))
    theirs = narrow_torchvision("vgg16_bn").features
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
    theirs = narrow_torchvision("alexnet").features
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
    with refused("torchvision", received="colornet", allowed=("alexnet", "vgg16")):
        torchvision_state_dict(ColorNet())


def as_torchvision(name):
    """Our network in the form of torchvision's."""
    arguments = {"input_space": "rgb", "fully_connected": True, "norm": "none", "geometry": "evaluation"}
    if name == "alexnet":
        arguments |= {"groups": 1, "channels": (64, 192, 384, 256, 256), "conv1_padding": 2}
    return build(name, arguments)


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_the_sizes_are_those_of_torchvisions_real_networks(name):
    with FakeTensorMode():  # sizes without numbers
        ours = torchvision_state_dict(as_torchvision(name))
        theirs = getattr(torchvision.models, name)(weights=None).state_dict()
    expected = {key: value.shape for key, value in theirs.items() if not key.startswith("classifier.6")}
    assert {key: value.shape for key, value in ours.items()} == expected


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
@torch.no_grad()
def test_torchvisions_networks_take_fc6_and_fc7_as_matrices(name, narrow):
    backbone = trained(as_torchvision(name))
    theirs = narrow_torchvision(name)
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


def check_onnx(model, backbone, layers):
    session = onnxruntime.InferenceSession(model)
    for count in (1, 3):
        images = photos(96).float().repeat(2, 1, 1, 1)[:count]
        outputs = session.run(None, {"photos": images.numpy()})
        assert [output.name for output in session.get_outputs()] == layers
        for output, expected in zip(outputs, backbone(images, layers).values(), strict=True):
            torch.testing.assert_close(torch.from_numpy(output), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "layers"), [("alexnet", ["conv3", "conv5"]), ("vgg16", ["conv3_1", "conv5_3"])]
)
@torch.no_grad()
def test_onnx_computes_the_same(name, layers, narrow):
    backbone = trained(narrow[name]())
    check_onnx(onnx_model(backbone, layers, 96), backbone, layers)


@torch.no_grad()
def test_the_command_writes_an_onnx_file_that_computes_the_same(narrow, tmp_path):
    backbone = trained(ColorNet())
    save_backbone(backbone, tmp_path / "net.safetensors", Provenance("random"))
    words = [str(tmp_path / "net.safetensors"), "--format", "onnx", "--layers", "conv3,conv5", "--size", "96"]
    assert main(["export", *words, "--out", str(tmp_path / "net.onnx")]) == 0
    check_onnx(tmp_path / "net.onnx", backbone, ["conv3", "conv5"])


def test_onnx_needs_a_layer_and_room_for_it():
    with refused("alexnet", received="conv9", allowed="conv5"):
        onnx_model(AlexNet(), ["conv9"], 96)
    with refused("alexnet", "8 pixels"):
        onnx_model(AlexNet(geometry="evaluation"), ["conv5"], 8)
    with refused("size", received=-5):
        onnx_model(AlexNet(), ["conv5"], -5)


@pytest.mark.parametrize(
    ("words", "received", "allowed"),
    [
        (["--format", "caffe", "--out", "a.pth"], "caffe", ["torchvision", "openmmlab", "onnx"]),
        (["--format", "onnx", "--out", "a.pth"], ".pth", [".onnx"]),
        (["--format", "openmmlab", "--out", "a.safetensors"], ".safetensors", [".pth"]),
    ],
)
def test_other_exports_are_refused(words, received, allowed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "random:alexnet", *words]) == 2
    printed = capsys.readouterr().err
    assert all(value in printed for value in [received, *allowed])
    assert list(tmp_path.iterdir()) == []
