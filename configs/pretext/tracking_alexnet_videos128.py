"""Tracking of AlexNet on tracks of objects (docs/data.md): 128 pixels, hard negatives from epoch 10 on."""

from mmengine.config import read_base

from pretext.data.side_by_side import PairCrop
from pretext.methods.tracking import Tracking

with read_base():
    from .colorization_alexnet_imagenette128 import *

data = "tracks/list.tracks"
view = dict(type=PairCrop, size=128, resize=144)
method = dict(
    type=Tracking,
    layer="conv5",
    margin=0.5,
    negatives=4,
    random_epochs=10,
    num_features=1024,
    flip=True,
    head_size=3,
    head_hidden=512,
)
backbone.update(input_space="rgb")
epochs = 20
