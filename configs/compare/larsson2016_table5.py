"""Table 5 of "Learning Representations for Automatic Colorization" (Larsson, Maire, Shakhnarovich, ECCV 2016).

Starts, on Imagenette at 128 pixels: random filters, or a classifier of colour photos made gray. The paper's is a VGG-16
trained on ImageNet's labels, and then in gray; this one is an AlexNet that the grid trains on the labels of
Imagenette's training photos, the photos that the colorizer learns from.
"""

_train = dict(train="hypercolumn", on="imagenette128", decoding=["decode_at=photo"])

backbones = dict(classifier=dict(train="supervised", on="imagenette128"))
colorizers = dict(
    gray="gray",
    hue_chroma=dict(**_train),  # from random filters
    from_classifier=dict(overrides=["init={classifier}/backbone.safetensors"], **_train),
)
stages = dict(colors=dict(stage="colorization", on="imagenette128", overrides=["count=1000"]))
seeds = (0,)
