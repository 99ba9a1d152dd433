"""CIFAR-10, ten classes of 32x32 photos: the folder cifar-10-batches-py, which is unpacked once (docs/data.md)."""

pretext = dict(data="cifar-10-batches-py/train", view=dict(size=32, resize=32))

linear_probe = dict(
    protocol="linear-probe-cifar10",
    data="cifar-10-batches-py",
    test_split="test",
    view=dict(size=32, resize=32),
)
colors = dict(data="cifar-10-batches-py/test")
