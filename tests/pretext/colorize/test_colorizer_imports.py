import hashlib

import numpy as np
import pytest
import torch
from caffe_files import write_caffemodel
from narrow import NARROW_BY
from refusals import refused
from torch import nn
from torch.nn import functional as F

from pretext.__main__ import main
from pretext.color.bins import ab_bins
from pretext.colorize.colorizer import load_colorizer
from pretext.colorize.imports import COLORIZER_KINDS, import_colorizer

#: The published net: block, convolution, channels in and out, stride, dilation; from colorizers/eccv16.py and
#: models/colorization_deploy_v2.prototxt of richzhang/colorization. A batch norm ends blocks 1 to 7.
LAYERS = (
    (1, 1, 1, 64, 1, 1), (1, 2, 64, 64, 2, 1),
    (2, 1, 64, 128, 1, 1), (2, 2, 128, 128, 2, 1),
    (3, 1, 128, 256, 1, 1), (3, 2, 256, 256, 1, 1), (3, 3, 256, 256, 2, 1),
    (4, 1, 256, 512, 1, 1), (4, 2, 512, 512, 1, 1), (4, 3, 512, 512, 1, 1),
    (5, 1, 512, 512, 1, 2), (5, 2, 512, 512, 1, 2), (5, 3, 512, 512, 1, 2),
    (6, 1, 512, 512, 1, 2), (6, 2, 512, 512, 1, 2), (6, 3, 512, 512, 1, 2),
    (7, 1, 512, 512, 1, 1), (7, 2, 512, 512, 1, 1), (7, 3, 512, 512, 1, 1),
    (8, 2, 256, 256, 1, 1), (8, 3, 256, 256, 1, 1),
)  # fmt: skip
LAST = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3, 6: 3, 7: 3}
OFFICIAL = ab_bins()
#: How far ab, which are up to 110, may differ: after 22 layers in single precision, two processors differ by 1.5e-4.
KERNELS = {"atol": 1e-3, "rtol": 1e-3}


def draw(*shape, fan_in=2.0):
    return torch.randn(shape) * (2 / fan_in) ** 0.5


def published_weights(by):
    """Random weights by the layers' names in Caffe: of a convolution (weight, bias), of a norm (mean, variance)."""
    torch.manual_seed(0)
    arrays = {}
    for block, number, inputs, outputs, *_ in LAYERS:
        inputs, outputs = max(inputs // by, 1), outputs // by
        if (block, number) == (8, 2):
            top = 512 // by
            arrays["conv8_1"] = (draw(top, outputs, 4, 4, fan_in=4 * top), 0.1 * draw(outputs))
        name = "bw_conv1_1" if (block, number) == (1, 1) else f"conv{block}_{number}"
        arrays[name] = (draw(outputs, inputs, 3, 3, fan_in=9 * inputs), 0.1 * draw(outputs))
        if LAST.get(block) == number:
            arrays[f"{name}norm"] = (0.5 * torch.rand(outputs), 0.5 + torch.rand(outputs))
    arrays["conv8_313"] = (2 * draw(313, 256 // by, 1, 1, fan_in=256 // by), draw(313))
    return arrays


def published_logits(arrays, data, affine=None):
    """The published net on its own input (N, 1, H, W), written from the table of its layers."""
    x = data
    for block, number, _, _, stride, dilation in LAYERS:
        if (block, number) == (8, 2):
            x = F.relu(F.conv_transpose2d(x, *arrays["conv8_1"], stride=2, padding=1))
        name = "bw_conv1_1" if (block, number) == (1, 1) else f"conv{block}_{number}"
        x = F.relu(F.conv2d(x, *arrays[name], stride, dilation, dilation))
        if LAST.get(block) == number:
            mean, variance = (array.view(1, -1, 1, 1) for array in arrays[f"{name}norm"])
            x = (x - mean) / (variance + 1e-5).sqrt()
            if affine:
                weight, bias = (array.view(1, -1, 1, 1) for array in affine[block])
                x = x * weight + bias
    return F.conv2d(x, *arrays["conv8_313"])


def decoded(probabilities, table):
    return torch.einsum("nqhw,qc->nchw", probabilities, table)


def lightness(height=64, width=48):
    return torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(3)) * 100


def write_caffe(path, arrays, **others):
    """As Caffe writes it: a norm's sums, and what they are divided by."""
    layers = {}
    for name, values in arrays.items():
        values = [value.numpy() for value in values]
        if name.endswith("norm"):
            values = [np.float32(7) * values[0], np.float32(7) * values[1], np.array([7], np.float32)]
        layers[name] = values
    write_caffemodel(path, layers | others)
    return path


def torch_state(arrays, affine, table=OFFICIAL):
    state = {}
    for name, (first, second) in arrays.items():
        block, number = (int(part) for part in name.removeprefix("bw_")[4:].removesuffix("norm").split("_"))
        if name.endswith("norm"):
            prefix = f"model{block}.{2 * number}"
            weight, bias = affine[block]
            state |= {f"{prefix}.weight": weight, f"{prefix}.bias": bias}
            state |= {f"{prefix}.running_mean": first, f"{prefix}.running_var": second}
            state[f"{prefix}.num_batches_tracked"] = torch.tensor(9)
        else:
            position = 6 if number == 313 else 2 * (number - 1)
            state |= {f"model{block}.{position}.weight": first, f"model{block}.{position}.bias": second}
    state["model_out.weight"] = (table.T / 110).view(2, 313, 1, 1)
    return state


def affine_of(arrays):
    torch.manual_seed(1)
    norms = {int(name[4]): arrays[name][0] for name in arrays if name.endswith("norm")}
    return {
        block: (0.5 + torch.rand_like(mean), 0.3 * torch.randn_like(mean)) for block, mean in norms.items()
    }


@torch.no_grad()
def check_caffe(path, by):
    arrays = published_weights(by)
    # Lightness reaches the net as -50..50.
    weight, bias = arrays["bw_conv1_1"]
    arrays["bw_conv1_1"] = (weight / 50, bias)
    # What the authors' files hold in class8_ab does not matter: their code writes the bins over it.
    write_caffe(path, arrays, class8_ab=[np.zeros((2, 313, 1, 1), np.float32), np.zeros(2, np.float32)])
    imported = import_colorizer(path, "zhang2016-colornet-caffe")
    logits = published_logits(arrays, lightness() - 50)
    colors = imported.colorizer(lightness())
    torch.testing.assert_close(colors.ab, decoded((2.606 * logits).softmax(1), OFFICIAL), **KERNELS)
    torch.testing.assert_close(colors.distribution, logits.softmax(1), atol=1e-5, rtol=1e-3)
    assert colors.ab.std() > 1
    assert imported.left_out == ("class8_ab.0", "class8_ab.1")


@torch.no_grad()
def check_torch(path, by):
    arrays = published_weights(by)
    affine = affine_of(arrays)
    torch.save(torch_state(arrays, affine), path)
    imported = import_colorizer(path, "zhang2016-colornet")
    logits = published_logits(arrays, (lightness() - 50) / 100, affine)
    model_out = nn.Conv2d(313, 2, 1, bias=False)
    model_out.weight.copy_((OFFICIAL.T / 110).view(2, 313, 1, 1))
    colors = imported.colorizer(lightness())
    torch.testing.assert_close(colors.ab, 110 * model_out(logits.softmax(1)), **KERNELS)
    torch.testing.assert_close(colors.distribution, logits.softmax(1), atol=1e-5, rtol=1e-3)
    assert colors.ab.std() > 1
    assert torch.equal(imported.colorizer.space.bins, OFFICIAL)
    assert all(name.endswith("num_batches_tracked") for name in imported.left_out)


def test_the_caffe_model_colours_as_the_published_table_of_layers(narrow, tmp_path):
    check_caffe(tmp_path / "net.caffemodel", NARROW_BY)


def test_the_torch_model_colours_as_the_published_table_of_layers(narrow, tmp_path):
    check_torch(tmp_path / "net.pth", NARROW_BY)


@pytest.mark.slow
def test_the_nets_of_full_width_colour_the_same(tmp_path):
    check_caffe(tmp_path / "net.caffemodel", 1)
    check_torch(tmp_path / "net.pth", 1)


def test_the_temperature_in_a_caffe_model_is_taken(narrow, tmp_path):
    arrays = published_weights(NARROW_BY)
    path = write_caffe(tmp_path / "a.caffemodel", arrays, conv8_313_rh=[np.full(313, 2, np.float32)])
    assert import_colorizer(path, "zhang2016-colornet-caffe").colorizer.space.temperature == 0.5
    scales = np.linspace(1, 2, 313).astype(np.float32)
    path = write_caffe(tmp_path / "b.caffemodel", arrays, conv8_313_rh=[scales])
    with refused(path, "conv8_313_rh", received=(1.0, 2.0)):
        import_colorizer(path, "zhang2016-colornet-caffe")


def test_other_colours_in_a_torch_model_are_kept(narrow, tmp_path):
    arrays = published_weights(NARROW_BY)
    torch.save(torch_state(arrays, affine_of(arrays), OFFICIAL + 1), tmp_path / "net.pth")
    bins = import_colorizer(tmp_path / "net.pth", "zhang2016-colornet").colorizer.space.bins
    torch.testing.assert_close(bins, OFFICIAL + 1, atol=1e-4, rtol=0)


@pytest.mark.parametrize("missing", ["model8.6.weight", "model_out.weight", "model5.2.weight"])
def test_a_state_dict_without_a_part_is_refused(missing, narrow, tmp_path):
    arrays = published_weights(NARROW_BY)
    state = torch_state(arrays, affine_of(arrays))
    del state[missing]
    torch.save(state, tmp_path / "net.pth")
    with refused(tmp_path / "net.pth", missing):
        import_colorizer(tmp_path / "net.pth", "zhang2016-colornet")


def test_another_net_is_refused_with_what_is_missing(narrow, tmp_path):
    torch.save({"features.0.weight": torch.zeros(2, 2)}, tmp_path / "net.pth")
    with refused("model1.0.weight", "model1.0.bias", "more", received="features.0.weight"):
        import_colorizer(tmp_path / "net.pth", "zhang2016-colornet")
    with refused(received="torchvision-alexnet", allowed=tuple(COLORIZER_KINDS)):
        import_colorizer(tmp_path / "net.pth", "torchvision-alexnet")


@torch.no_grad()
def test_the_command_writes_a_colorizer_file(narrow, tmp_path, capsys):
    path = write_caffe(tmp_path / "net.caffemodel", published_weights(NARROW_BY))
    out = tmp_path / "colorizer.safetensors"
    words = ["--kind", "zhang2016-colornet-caffe", "--colorizer", "--out", str(out)]
    assert main(["import", str(path), *words]) == 0
    assert "conv8_313.0" in capsys.readouterr().out
    loaded = load_colorizer(out)
    assert loaded.layer.stride == 4
    assert loaded.provenance.method == "zhang2016-colornet-caffe"
    assert loaded.provenance.config["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = import_colorizer(path, "zhang2016-colornet-caffe").colorizer(lightness())
    assert torch.equal(loaded(lightness()).ab, expected.ab)
