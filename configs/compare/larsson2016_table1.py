"""Table 1 of "Learning Representations for Automatic Colorization" (Larsson, Maire, Shakhnarovich, ECCV 2016).

Output spaces on one network, on Imagenette at 128 pixels: a VGG-16 with a quarter of the channels, from random filters.
Each space is trained once; hue and chroma are decoded in two ways. Colours are chosen at each pixel, as the paper does.
"""

_train = dict(train="hypercolumn_vgg16", on="imagenette128")
_hue_chroma = dict(overrides=["name=hypercolumn_vgg16"], **_train)

colorizers = {
    "gray": "gray",
    "random-photo": "random-photo",
    # One colour and no distribution: it is chosen by the network, and enlarged.
    "l2": dict(overrides=["method.loss=l2", "name=hypercolumn_vgg16_l2"], **_train),
    "lab_marginals": dict(
        overrides=["method.loss=lab_marginals", "name=hypercolumn_vgg16_lab_marginals"],
        decoding=["decode_at=photo"],
        **_train,
    ),
    "lab_joint": dict(
        overrides=["method.loss=lab_joint", "name=hypercolumn_vgg16_lab_joint"],
        decoding=["decode_at=photo"],
        **_train,
    ),
    # With fading, the space's own decoding; and without.
    "hue_chroma": dict(decoding=["decode_at=photo"], **_hue_chroma),
    "hue_chroma_median": dict(colorizer="hue_chroma", decoding=["decode_at=photo", "decode=median"]),
}
stages = dict(colors=dict(stage="colorization", on="imagenette128", overrides=["count=1000"]))
seeds = (0,)
