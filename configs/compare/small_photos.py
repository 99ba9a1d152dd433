"""The table of a study of CelebA and Fruits (Conti and Sterpa): raw accuracy, and how often a classifier is right.

The study has one run of each, and so does this grid. The sizes are 64 pixels; photos are compared as squares.
"""

_train = dict(on="imagenette128", overrides=["view.size=64", "view.resize=64"])

colorizers = {
    **{name: name for name in ("truth", "gray", "random-photo")},
    **{loss: dict(train=f"small_photos_{loss}", **_train) for loss in ("l2", "class", "rebalanced")},
}
stages = dict(colors=dict(stage="colorization", on="imagenette128", overrides=["fit=square", "size=64"]))
seeds = (0,)
