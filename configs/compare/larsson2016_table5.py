"""Table 5 of "Learning Representations for Automatic Colorization" (Larsson, Maire, Shakhnarovich, ECCV 2016).

Starts, on Imagenette at 128 pixels, of a VGG-16 with a quarter of the channels: random filters, or a classifier of
colour photos made gray. The paper's was trained on ImageNet's labels, and then in gray; this one the grid trains on the
labels of Imagenette's training photos, the photos that the colorizer learns from.
"""

_train = dict(train="hypercolumn_vgg16", on="imagenette128", decoding=["decode_at=photo"])
_vgg16 = dict(
    architecture="vgg16",
    input_space="rgb",
    fully_connected=True,
    width=0.25,
    pool5_stride=2,
    norm="batch_no_affine",
)

backbones = dict(
    classifier=dict(
        train="supervised",
        on="imagenette128",
        overrides=["name=vgg16_classifier", f"backbone={_vgg16}", "method.layer=fc7"],
    )
)
colorizers = dict(
    gray="gray",
    hue_chroma=dict(overrides=["name=hypercolumn_vgg16"], **_train),  # from random filters; that of table 1
    from_classifier=dict(
        overrides=["name=hypercolumn_vgg16", "init={classifier}/backbone.safetensors"], **_train
    ),
)
stages = dict(colors=dict(stage="colorization", on="imagenette128", overrides=["count=1000"]))
seeds = (0,)
