"""A backbone that passes photos on as they are, so that a test sees what a method makes of them."""

from pretext.backbones.base import Backbone, Layer


class SeeThrough(Backbone):
    """Its only layer gives the photos, as floating point 0..255."""

    architecture = "see_through"

    def __init__(self):
        super().__init__("rgb", "pretrain", "none", None, None)
        self.layers = (Layer("conv5", 3, 1),)

    def forward(self, photos, layers):
        return {"conv5": photos.float()}
