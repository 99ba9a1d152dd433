"""Imagenette, ten classes of ImageNet, at 128 pixels."""

pretext = dict(data="imagenette128/train", view=dict(size=128, resize=128))

linear_probe = dict(
    protocol="linear-probe-imagenette128",
    data="imagenette128",
    view=dict(size=128, resize=128),
    epochs=6,
)
colors = dict(data="imagenette128/val")
