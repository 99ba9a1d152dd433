"""Writer of Caffe's model files, in the wire format of protocol buffers."""

from pathlib import Path


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def entry(number, content):
    """Return a field of bytes: key, length, content."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array, old=False):
    """Return an array as a BlobProto of ``caffe.proto``."""
    data = entry(5, array.astype("<f4").tobytes())
    if not old:
        return data + entry(7, entry(1, b"".join(map(varint, array.shape))))
    sides = (1,) * (4 - array.ndim) + array.shape
    return b"".join(varint(number << 3) + varint(side) for number, side in enumerate(sides, 1)) + data


def layer(name, arrays, old=False):
    content = entry(4 if old else 1, name.encode()) + b"".join(
        entry(6 if old else 7, blob(a, old)) for a in arrays
    )
    return entry(2 if old else 100, content)


def write_caffemodel(path, layers, old=False):
    """Write arrays by layer, in Caffe's format from before (``old``) or after its change in 2014."""
    Path(path).write_bytes(b"".join(layer(name, arrays, old) for name, arrays in layers.items()))
