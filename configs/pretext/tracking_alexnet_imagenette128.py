"""Tracking of AlexNet on Imagenette at 128 pixels: 6 epochs, two separate windows of each photo in place of a track."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

# As in the paper hard negatives begin after ten epochs, that is never: after three, all windows became alike.
method = dict(
    type="tracking",
    layer="conv5",
    margin=0.5,
    negatives=4,
    random_epochs=10,
    num_features=1024,
    flip=True,
    window=0.4,
    head_size=3,
    head_hidden=512,
)
backbone.update(input_space="rgb")
