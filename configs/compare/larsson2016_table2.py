"""Table 2 of "Learning Representations for Automatic Colorization" (Larsson, Maire, Shakhnarovich, ECCV 2016).

Layers of the hypercolumn, on Imagenette at 128 pixels: those of the AlexNet, without fc6 and fc7, in place of the
VGG-16's; from random filters. Hue and chroma with fading, chosen at each pixel.
"""

_train = dict(train="hypercolumn", on="imagenette128", decoding=["decode_at=photo"])

colorizers = dict(
    gray="gray",
    hue_chroma=dict(**_train),  # data to conv5
    data_to_conv3=dict(
        overrides=["method.layers=('data','conv1','conv2','conv3')", "name=hypercolumn_data_to_conv3"],
        **_train,
    ),
    conv3_to_conv5=dict(
        overrides=["method.layers=('conv3','conv4','conv5')", "name=hypercolumn_conv3_to_conv5"], **_train
    ),
    conv4_to_conv5=dict(
        overrides=["method.layers=('conv4','conv5')", "name=hypercolumn_conv4_to_conv5"], **_train
    ),
    conv5=dict(overrides=["method.layers=('conv5',)", "name=hypercolumn_conv5"], **_train),
)
stages = dict(colors=dict(stage="colorization", on="imagenette128", overrides=["count=1000"]))
seeds = (0,)
