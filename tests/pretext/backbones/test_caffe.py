import numpy as np
import pytest
from caffe_files import entry, layer

from pretext.backbones.caffe import read_caffemodel
from pretext.errors import InputError

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
    ("content", "message"),
    [
        (b"not a net at all", "is no caffemodel"),
        (b"", "holds no layer with weights"),
        (layer("conv1", [WEIGHTS])[:-20], "is no caffemodel"),
        (
            entry(100, entry(1, b"c") + entry(7, entry(5, b"\0" * 8) + entry(7, entry(1, b"\x03")))),
            "holds 2 numbers for an",
        ),
    ],
)
def test_what_is_no_caffemodel_is_an_error(tmp_path, content, message):
    (tmp_path / "net.caffemodel").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_caffemodel(tmp_path / "net.caffemodel")
    with pytest.raises(InputError, match="cannot read"):
        read_caffemodel(tmp_path / "gone.caffemodel")
