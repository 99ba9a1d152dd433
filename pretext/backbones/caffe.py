"""Caffe's model files (``.caffemodel``), read without Caffe: protocol buffers, of which five messages matter."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pretext.errors import InputError

_Field = descriptor_pb2.FieldDescriptorProto
#: The fields of each message as (name, number, type, repeated), from Caffe's ``caffe.proto``. Files from before 2014's
#: change of format have ``layers``.
_MESSAGES: dict[str, list[tuple[str, int, Any, bool]]] = {
    "BlobShape": [("dim", 1, _Field.TYPE_INT64, True)],
    "BlobProto": [
        ("num", 1, _Field.TYPE_INT32, False),
        ("channels", 2, _Field.TYPE_INT32, False),
        ("height", 3, _Field.TYPE_INT32, False),
        ("width", 4, _Field.TYPE_INT32, False),
        # Packed numbers have the wire format of bytes, and reading them as bytes is a hundred times faster.
        ("data", 5, _Field.TYPE_BYTES, False),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, _Field.TYPE_BYTES, False),
    ],
    "LayerParameter": [("name", 1, _Field.TYPE_STRING, False), ("blobs", 7, "BlobProto", True)],
    "V1LayerParameter": [("name", 4, _Field.TYPE_STRING, False), ("blobs", 6, "BlobProto", True)],
    "NetParameter": [("layers", 2, "V1LayerParameter", True), ("layer", 100, "LayerParameter", True)],
}


def read_caffemodel(path: str | Path) -> dict[str, list[npt.NDArray[np.float32]]]:
    """Return the arrays of each layer that has any, by name: a convolution has weights (O, I, kH, kW) and a bias (O,).

    Raises:
        InputError: The file is missing, is not a caffemodel, or has arrays of other sizes than it says.
    """
    net = _net_class()()
    try:
        net.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except DecodeError as error:
        raise InputError(
            f"{path} is not a caffemodel: {error}",
            allowed="name a file of Caffe's binary protocol buffers",
        ) from error
    layers = {
        layer.name: [_array(blob, layer.name, path) for blob in layer.blobs]
        for layer in [*net.layers, *net.layer]
        if layer.blobs
    }
    if not layers:
        raise InputError(
            f"{path} is not a caffemodel: no layer in it has weights", allowed="name a trained net"
        )
    return layers


def _array(blob: Any, layer: str, path: str | Path) -> npt.NDArray[np.float32]:
    content, kind = (blob.data, "<f4") if blob.data else (blob.double_data, "<f8")
    if len(content) % np.dtype(kind).itemsize:
        raise InputError(
            f"{path} is damaged: layer {layer} ends in the middle of a number",
            received=f"{len(content)} bytes",
        )
    values = np.frombuffer(content, kind).astype(np.float32)
    # The old format always has four sides; ones precede those of a vector or a matrix.
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old
    if values.size != np.prod(shape, dtype=np.int64):
        raise InputError(
            f"{path} is damaged: layer {layer} has the wrong count of numbers",
            received=values.size,
            allowed=f"an array of {'x'.join(map(str, shape))} has {np.prod(shape, dtype=np.int64)}",
        )
    return values.reshape(shape)


@cache
def _net_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="caffe_subset.proto", package="caffe_subset", syntax="proto2"
    )
    for message, entries in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in entries:
            field = described.field.add(name=name, number=number)
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{file.package}.{kind}"
            else:
                field.type = kind
                field.options.packed = repeated
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.NetParameter"))
