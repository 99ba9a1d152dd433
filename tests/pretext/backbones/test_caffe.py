import numpy as np
import pytest
from caffe_files import entry, layer
from refusals import refused

from pretext.backbones.caffe import read_caffemodel

WEIGHTS, BIAS = (
    np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    np.array([0.5, -1.5], dtype=np.float32),
)


def test_weights_are_read_by_the_name_of_their_layer(tmp_path):
    # A name of the net, and a layer without weights, are passed over.
    path = tmp_path / "net.caffemodel"
    path.write_bytes(
        entry(1, b"net") + layer("relu1", []) + layer("conv1", [WEIGHTS, BIAS]) + layer("fc", [WEIGHTS[0, 0]])
    )
    layers = read_caffemodel(path)
    assert list(layers) == ["conv1", "fc"]
    for read, written in zip([*layers["conv1"], *layers["fc"]], [WEIGHTS, BIAS, WEIGHTS[0, 0]], strict=True):
        np.testing.assert_array_equal(read, written)


def test_the_old_format_has_four_sides(tmp_path):
    path = tmp_path / "old.caffemodel"
    path.write_bytes(layer("conv1", [WEIGHTS, BIAS], old=True))
    weights, bias = read_caffemodel(path)["conv1"]
    np.testing.assert_array_equal(weights, WEIGHTS)
    np.testing.assert_array_equal(bias, BIAS.reshape(1, 1, 1, 2))


@pytest.mark.parametrize(
    ("content", "received", "allowed"),
    [
        (b"not a net at all", None, "protocol buffers"),
        (b"", None, "trained net"),
        (layer("conv1", [WEIGHTS])[:-20], None, "protocol buffers"),
        # Two numbers for an array of three; half a number.
        (entry(100, entry(1, b"c") + entry(7, entry(5, b"\0" * 8) + entry(7, entry(1, b"\x03")))), 2, "3"),
        (entry(100, entry(1, b"c") + entry(7, entry(5, b"\0" * 6))), "6 bytes", None),
    ],
    ids=["other", "empty", "cut", "too few numbers", "half a number"],
)
def test_other_files_are_refused(tmp_path, content, received, allowed):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with refused(path, received=received) as info:
        read_caffemodel(path)
    assert allowed is None or allowed in info.value.allowed
    with refused(tmp_path / "gone.caffemodel"):
        read_caffemodel(tmp_path / "gone.caffemodel")
