"""Small photos of ImageNet at 32 pixels: Tiny ImageNet's to learn colours from, Imagenette's where classes are needed.

tiny64-unlabeled has none of Imagenette's classes.
"""

pretext = dict(data="tiny64-unlabeled", view=dict(size=32, resize=32))
supervised = cifar10_classifier = dict(data="imagenette128/train")

linear_probe = dict(
    protocol="linear-probe-imagenette32", data="imagenette128", view=dict(size=32, resize=32), epochs=6
)
colors = dict(protocol="colorization-imagenette32", data="imagenette128/val", fit="square", size=32)
