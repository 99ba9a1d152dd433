"""Figure 7 of a study of CIFAR-10 (Stanford CS230, 2018): how often a classifier recognises what models coloured.

The study has one run of each, and so does this grid.
"""

_train = dict(on="cifar10")

backbones = dict(classifier=dict(train="cifar10_classifier", **_train))
colorizers = dict(
    truth="truth",
    gray="gray",
    regression=dict(train="cifar10_regression", **_train),
    # The likeliest bin of each pixel.
    classification=dict(train="cifar10_classification", decoding=["decode=mode"], **_train),
    annealed=dict(colorizer="classification", decoding=["temperature=0.89"]),
    transfer=dict(
        train="cifar10_classification",
        overrides=["init={classifier}/backbone.safetensors"],
        decoding=["temperature=0.89"],
        **_train,
    ),
)
# EfficientNet-Lite0 knows classes by WordNet ids: it leaves out CIFAR-10's.
_classifier = "efficientnet_lite0"
stages = dict(colors=dict(stage="colorization", overrides=[f"classifier={_classifier}"], **_train))
seeds = (0,)
