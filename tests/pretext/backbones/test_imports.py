import hashlib
import os
import pickle

import pytest
import torch
import torchvision
from caffe_files import write_caffemodel
from narrow import NARROW_BY, narrow_torchvision
from refusals import refused
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from pretext.__main__ import main
from pretext.backbones import imports
from pretext.backbones.checkpoint import load_backbone
from pretext.backbones.imports import import_backbone
from pretext.color.lab import rgb_to_lightness


def photos(side):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)


def randomize(model):
    """Numbers that show a wrong one: no bias, mean or variance is at its default."""
    generator = torch.Generator().manual_seed(1)
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point() and value.ndim < 2:
            value.normal_(0, 0.3, generator=generator)
    return model.eval()


def normalized(images):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
@torch.no_grad()
def test_torchvisions_networks_compute_the_same_here(name, narrow, tmp_path):
    theirs = randomize(narrow_torchvision(name))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    imported = import_backbone(tmp_path / "weights.pth", f"torchvision-{name}")
    images = photos(224)
    ours = imported.backbone(images, ["pool5", "fc7"])
    maps = theirs.features(normalized(images))
    torch.testing.assert_close(ours["pool5"], maps, atol=1e-4, rtol=1e-4)
    # The last layer is the classifier of ImageNet.
    fc7 = theirs.classifier[:-1](maps.flatten(1))
    torch.testing.assert_close(ours["fc7"].flatten(1), fc7, atol=1e-4, rtol=1e-3)
    assert imported.left_out == ("classifier.6.weight", "classifier.6.bias")


@torch.no_grad()
def test_vgg16_from_caffe_computes_the_same_here(narrow, tmp_path):
    theirs = randomize(narrow_torchvision("vgg16"))
    names = [
        f"conv{block}_{k}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for k in range(1, depth + 1)
    ]
    convs = [layer for layer in theirs.features if isinstance(layer, nn.Conv2d)]
    linears = [layer for layer in theirs.classifier if isinstance(layer, nn.Linear)]
    layers = dict(zip((*names, "fc6", "fc7", "fc8"), (*convs, *linears), strict=True))
    arrays = {name: [layer.weight.numpy(), layer.bias.numpy()] for name, layer in layers.items()}
    write_caffemodel(tmp_path / "net.caffemodel", arrays)
    imported = import_backbone(tmp_path / "net.caffemodel", "vgg16-caffe")
    images = photos(224)
    # Blue, green and red from 0 to 255, less the mean colour.
    bgr = images.flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    maps = theirs.features(bgr)
    ours = imported.backbone(images, ["pool5", "fc7"])
    torch.testing.assert_close(ours["pool5"], maps, atol=1e-3, rtol=1e-3)
    fc7 = theirs.classifier[:-1](maps.flatten(1))
    torch.testing.assert_close(ours["fc7"].flatten(1), fc7, atol=1e-3, rtol=1e-3)
    assert imported.left_out == ("fc8.0", "fc8.1")


@pytest.mark.parametrize(
    ("file", "checkpoint"),
    [
        ("model_best.pth.tar", lambda weights: {"epoch": 9, "state_dict": weights}),
        ("model.pth", lambda weights: {"epoch": 9, "model": weights}),
        ("parallel.pth", lambda weights: {f"module.{name}": value for name, value in weights.items()}),
        # As the ImageNet example of PyTorch trains AlexNet and VGG.
        (
            "features.pth",
            lambda weights: {
                name.replace("features.", "features.module."): value for name, value in weights.items()
            },
        ),
    ],
)
def test_checkpoints_of_trainings_are_read(file, checkpoint, narrow, tmp_path):
    weights = randomize(narrow_torchvision("alexnet")).state_dict()
    torch.save(checkpoint(weights), tmp_path / file)
    imported = import_backbone(tmp_path / file, "torchvision-alexnet")
    torch.testing.assert_close(imported.backbone.conv2.conv.weight, weights["features.3.weight"])
    assert imported.left_out == ("classifier.6.weight", "classifier.6.bias")


class CaffeAlexNet(nn.Module):
    """As models/alexnet_deploy_lab.prototxt of richzhang/colorization has it, with channels divided by ``by``."""

    def __init__(self, by=1):
        super().__init__()
        c1, c2, c3, c4, c5, fc = (channels // by for channels in (96, 256, 384, 384, 256, 4096))
        self.data_l = nn.Conv2d(1, 1, 1)
        self.conv1 = nn.Conv2d(1, c1, 11, stride=4)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1, groups=2)
        self.fc6 = nn.Conv2d(c5, fc, 6)
        self.fc7 = nn.Conv2d(fc, fc, 1)

    def forward(self, lightness):
        def pool(x):
            return F.max_pool2d(x, 3, 2, ceil_mode=True)

        x = pool(F.relu(self.conv1(self.data_l(lightness))))
        x = pool(F.relu(self.conv2(x)))
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        conv5 = F.relu(self.conv5(x))
        return conv5, F.relu(self.fc7(F.relu(self.fc6(pool(conv5)))))


@pytest.mark.parametrize(("inner_products", "old"), [(False, False), (True, False), (True, True)])
@torch.no_grad()
def test_zhangs_alexnet_from_caffe_computes_the_same_here(inner_products, old, narrow, tmp_path):
    theirs = randomize(CaffeAlexNet(by=NARROW_BY))
    # What the authors' rescaling makes of L - 50.
    theirs.data_l.weight.fill_(0.02)
    theirs.data_l.bias.fill_(-0.02 * 50)
    layers = {name: [m.weight.numpy(), m.bias.numpy()] for name, m in theirs.named_children()}
    if inner_products:
        for name in ("fc6", "fc7"):
            layers[name][0] = layers[name][0].reshape(4096 // NARROW_BY, -1)
    write_caffemodel(tmp_path / "net.caffemodel", layers, old)
    imported = import_backbone(tmp_path / "net.caffemodel", "zhang2016-alexnet-caffe")
    images = photos(227)
    conv5, fc7 = theirs(rgb_to_lightness(images))
    ours = imported.backbone(images, ["conv5", "fc7"])
    torch.testing.assert_close(ours["conv5"], conv5, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(ours["fc7"], fc7, atol=1e-4, rtol=1e-3)
    assert imported.left_out == ()


#: (convolutions, channels, stride of the last, dilation) of the colorization net's model1 to model7.
COLORNET = (
    (2, 64, 2, 1), (2, 128, 2, 1), (3, 256, 2, 1), (3, 512, 1, 1), (3, 512, 1, 2), (3, 512, 1, 2), (3, 512, 1, 1),
)  # fmt: skip


class ZhangColorNet(nn.Module):
    """As colorizers/eccv16.py of richzhang/colorization has it, with channels divided by ``by``."""

    def __init__(self, divisor, affine, by=1):
        super().__init__()
        self.divisor, channels = divisor, 1
        for number, (depth, width, stride, dilation) in enumerate(COLORNET, 1):
            width //= by
            layers = []
            for position in range(depth):
                step = stride if position == depth - 1 else 1
                layers += [nn.Conv2d(channels, width, 3, step, dilation, dilation), nn.ReLU()]
                channels = width
            self.add_module(f"model{number}", nn.Sequential(*layers, nn.BatchNorm2d(width, affine=affine)))
        top = 256 // by
        self.model8 = nn.Sequential(
            nn.ConvTranspose2d(channels, top, 4, 2, 1), nn.ReLU(), nn.Conv2d(top, top, 3, padding=1), nn.ReLU(),
            nn.Conv2d(top, top, 3, padding=1), nn.ReLU(), nn.Conv2d(top, 313, 1),
        )  # fmt: skip
        self.model_out = nn.Conv2d(313, 2, 1, bias=False)

    def forward(self, lightness):
        x = (lightness - 50) / self.divisor
        for number in range(1, 8):
            x = self.get_submodule(f"model{number}")(x)
        return x, self.model8[:-1](x)


@torch.no_grad()
def test_zhangs_colorization_net_from_pytorch_computes_the_same_here(narrow, tmp_path):
    theirs = randomize(ZhangColorNet(100, affine=True, by=NARROW_BY))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "net.pth")
    imported = import_backbone(tmp_path / "net.pth", "zhang2016-colornet")
    images = photos(64)
    conv7, conv8 = theirs(rgb_to_lightness(images))
    ours = imported.backbone(images, ["conv7", "conv8"])
    torch.testing.assert_close(ours["conv7"], conv7, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ours["conv8"], conv8, atol=1e-3, rtol=1e-3)
    left = {"model8.6.weight", "model8.6.bias", "model_out.weight"}
    assert {name for name in imported.left_out if "tracked" not in name} == left


def caffe_layers(net):
    """The arrays of a `ZhangColorNet` by the names that Caffe's file has for its layers."""
    layers = {}
    for number in range(1, 9):
        for position, module in enumerate(net.get_submodule(f"model{number}")):
            name = f"conv{number}_{position // 2 + 1}"
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                name = {"conv1_1": "bw_conv1_1", "conv8_4": "conv8_313"}.get(name, name)
                layers[name] = [module.weight, module.bias]
            elif isinstance(module, nn.BatchNorm2d):
                # Caffe has sums, and in a third array the number they are divided by.
                sums = [3 * module.running_mean, 3 * module.running_var, torch.full((1,), 3.0)]
                layers[f"conv{number}_{position // 2}norm"] = sums
    return layers


@torch.no_grad()
def test_zhangs_colorization_net_from_caffe_computes_the_same_here(narrow, tmp_path):
    theirs = randomize(ZhangColorNet(1, affine=False, by=NARROW_BY))
    layers = {name: [array.numpy() for array in arrays] for name, arrays in caffe_layers(theirs).items()}
    write_caffemodel(tmp_path / "net.caffemodel", layers)
    imported = import_backbone(tmp_path / "net.caffemodel", "zhang2016-colornet-caffe")
    images = photos(64)
    conv7, conv8 = theirs(rgb_to_lightness(images))
    ours = imported.backbone(images, ["conv7", "conv8"])
    torch.testing.assert_close(ours["conv7"], conv7, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ours["conv8"], conv8, atol=1e-3, rtol=1e-3)
    assert imported.left_out == ("conv8_313.0", "conv8_313.1")


def real_torchvision(name):
    return lambda: getattr(torchvision.models, name)(weights=None).state_dict()


def real_caffe_alexnet():
    return {
        f"{name}.{k}": array
        for name, layer in CaffeAlexNet().named_children()
        for k, array in enumerate([layer.weight, layer.bias])
    }


def real_caffe_colornet():
    layers = caffe_layers(ZhangColorNet(1, affine=False))
    return {f"{name}.{k}": array for name, arrays in layers.items() for k, array in enumerate(arrays)}


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("torchvision-alexnet", real_torchvision("alexnet")),
        ("torchvision-vgg16", real_torchvision("vgg16")),
        ("zhang2016-alexnet-caffe", real_caffe_alexnet),
        ("zhang2016-colornet", lambda: ZhangColorNet(100, affine=True).state_dict()),
        ("zhang2016-colornet-caffe", real_caffe_colornet),
    ],
)
def test_the_real_networks_have_the_sizes_of_ours(kind, make, monkeypatch):
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in make().items()}
    # One number stands for all of a tensor's, and our weights are not drawn: the sizes alone are looked at.
    monkeypatch.setattr(
        imports, "_read", lambda path: {name: torch.ones(()).expand(s) for name, s in shapes.items()}
    )
    monkeypatch.setattr(nn.modules.conv._ConvNd, "reset_parameters", lambda layer: None)
    backbone = import_backbone("real", kind).backbone
    assert all(bool((weight.flatten()[-1] == 1).all()) for weight in backbone.parameters())


def test_an_import_is_a_backbone_file(narrow, tmp_path, capsys):
    weights = narrow_torchvision("alexnet").state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    words = [str(tmp_path / "weights.safetensors"), "--kind", "torchvision-alexnet", "--method", "imagenet"]
    assert main(["import", *words, "--out", str(tmp_path / "backbone.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert "backbone.safetensors: 14 tensors of" in printed
    assert "weights.safetensors: features.0.weight, features.0.bias, features.3.weight" in printed
    assert "left out: classifier.6.bias, classifier.6.weight" in printed
    loaded = load_backbone(tmp_path / "backbone.safetensors")
    assert (loaded.provenance.method, loaded.provenance.seed) == ("imagenet", None)
    content = (tmp_path / "weights.safetensors").read_bytes()
    assert loaded.provenance.config["file_sha256"] == hashlib.sha256(content).hexdigest()
    assert torch.equal(loaded.backbone.conv1.conv.weight, weights["features.0.weight"])


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def evil(path):
    path.write_bytes(pickle.dumps(Evil(), protocol=2))


def old_evil(path):
    torch.save({"features.0.weight": Evil()}, path)


@pytest.mark.parametrize("write", [evil, old_evil])
def test_a_pickle_that_would_run_something_is_refused(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "weights.pth")
    with refused(tmp_path / "weights.pth", "UnpicklingError", allowed="state dict"):
        import_backbone(tmp_path / "weights.pth", "torchvision-alexnet")
    assert not (tmp_path / "executed").exists()


def without(key):
    return lambda weights: {name: value for name, value in weights.items() if name != key}


@pytest.mark.parametrize(
    ("change", "names", "fields"),
    [
        (
            without("features.3.bias"),
            ["features.3.bias", "conv2.conv.bias", "classifier.1.bias", "and 9 more"],
            {},
        ),
        (
            lambda weights: weights | {"features.3.weight": torch.zeros(12, 4, 3, 3)},
            ["features.3.weight", "conv2.conv.weight"],
            {"received": (12, 4, 3, 3), "allowed": ((12, 4, 5, 5),)},
        ),
        (
            lambda weights: weights | {"features.0.bias": torch.full((4,), torch.nan)},
            ["features.0.bias"],
            {"received": None},
        ),
        (
            lambda weights: weights | {"features.0.bias": torch.zeros(3, 4)},
            ["features.0.bias"],
            {"received": (3, 4), "allowed": ((4,),)},
        ),
        (lambda weights: {0: torch.zeros(2)}, [], {"received": "dict"}),
        (lambda weights: [1, 2], [], {"received": "list"}),
    ],
    ids=["missing", "shape", "not a number", "several rows", "other keys", "list"],
)
def test_another_network_is_refused(change, names, fields, narrow, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(change(narrow_torchvision("alexnet").state_dict()), path)
    with refused(path, *names, **fields):
        import_backbone(path, "torchvision-alexnet")


def test_a_batch_norm_of_caffe_without_statistics_is_refused(narrow, tmp_path):
    layers = caffe_layers(ZhangColorNet(1, affine=False, by=NARROW_BY))
    layers["conv3_3norm"][2] = torch.zeros(1)
    arrays = {name: [array.detach().numpy() for array in arrays] for name, arrays in layers.items()}
    write_caffemodel(tmp_path / "net.caffemodel", arrays)
    with refused(tmp_path / "net.caffemodel", received="conv3_3norm.0"):
        import_backbone(tmp_path / "net.caffemodel", "zhang2016-colornet-caffe")


@pytest.mark.parametrize(
    ("name", "kind", "fields"),
    [
        (
            "weights.pth",
            "torchvision-resnet",
            {"received": "torchvision-resnet", "allowed": tuple(imports.KINDS)},
        ),
        ("weights.onnx", "torchvision-alexnet", {"received": ".onnx", "allowed": ".safetensors"}),
    ],
)
def test_other_requests_are_refused(name, kind, fields, tmp_path):
    with refused(**fields):
        import_backbone(tmp_path / name, kind)


def test_a_missing_file_is_refused(tmp_path):
    with refused(received=tmp_path / "nothing.pth"):
        import_backbone(tmp_path / "nothing.pth", "torchvision-alexnet")
