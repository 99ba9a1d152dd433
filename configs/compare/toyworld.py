"""All pretext methods on the toy world at 64 pixels, 100 steps each, by the linear probe of all layers.

What it measures is little, but it takes all methods, from photos to the table, in minutes.
"""

_small = ["view.size=64", "view.resize=64"]
_short = [*_small, "epochs=None", "steps=100"]

backbones = {
    "random": "random:alexnet",
    "random_lab": "random:alexnet:lab",
    "random_rgb": "random:alexnet:rgb",
    "kmeans": dict(initialize="kmeans", photos="toyworld/unlabeled", size=64),
    **{
        name: dict(train=name, on="toyworld", overrides=_short)
        for name in (
            *("colorization", "l_to_ab", "hypercolumn", "split_brain", "autoencoder", "autoencoder_drop50"),
            *("context", "jigsaw", "counting", "rotation", "bigan", "deepcluster"),
            *("egomotion", "tracking", "supervised"),
        )
    },
    # The decoder doubles its map four times, to the photo's size.
    "inpainting": dict(train="inpainting", on="toyworld", overrides=[*_short, "method.map_size=4"]),
}
# All methods start alike, from random filters.
backbones["colorization"].update(overrides=[*_short, "init=he"])
# The last epoch is the one that counts.
stages = {"linear-probe": dict(stage="linear-probe", overrides=[*_small, "evaluations=1"])}
seeds = (0,)
