"""Figure 7 of a study of CIFAR-10 (Stanford CS230, 2018): how often a classifier recognises what models coloured.

The study has one run of each, and so does this grid.
"""

_train = dict(on="cifar10")

backbones = dict(
    # Its blocks are what `transfer` starts from.
    classifier=dict(train="cifar10_classifier", **_train),
    # Names what was coloured, and so sees colours.
    judge=dict(
        train="cifar10_classifier",
        overrides=["name=cifar10_judge", "backbone.input_space=rgb"],
        **_train,
    ),
)
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
stages = dict(
    colors=dict(stage="colorization", overrides=["classifier={judge}/classifier.safetensors"], **_train)
)
seeds = (0,)
