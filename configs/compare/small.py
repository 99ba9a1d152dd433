"""Colorization and split-brain against random and k-means initialisation, three seeds: the papers' tables.

Backbones are made from Imagenette at 128 pixels, without labels, and judged by the linear probe of all layers there
(figure 7 of Zhang et al., ECCV 2016) and by PASCAL VOC at 256 pixels (table 2). fc8 alone has no column: it needs a
backbone with fc6 and fc7 of its own, and AlexNet is pretrained without them here.
"""

backbones = dict(
    random="random:alexnet",
    kmeans=dict(initialize="kmeans", photos="imagenette128/train"),
    kmeans_lab=dict(initialize="kmeans", photos="imagenette128/train", backbone="alexnet:lab"),
    colorization=dict(train="colorization", on="imagenette128", overrides=["init=he"]),
    colorization_kmeans=dict(train="colorization", on="imagenette128", overrides=["init=kmeans"]),
    split_brain_kmeans=dict(train="split_brain", on="imagenette128", overrides=["init=kmeans"]),
)
# What was chosen on a part of train, the same for every row (docs/results.md): batch norm is trained where the
# convolutions are, and the schedules are shorter than the configs'.
stages = {
    "linear-probe": dict(stage="linear-probe", on="imagenette128"),
    "classification-fc6-8": dict(
        stage="voc-classification",
        on="voc256",
        overrides=["train=fc6-8", "epochs=8"],
    ),
    "classification-all": dict(
        stage="voc-classification",
        on="voc256",
        overrides=["train=all", "epochs=8", "batch_norm=train"],
    ),
    "detection": dict(
        stage="voc-detection",
        on="voc256",
        overrides=["epochs=2", "max_test_proposals=150", "batch_norm=train"],
    ),
    "segmentation": dict(stage="voc-segmentation", on="voc256", overrides=["steps=1000"]),
}
seeds = (0, 1, 2)
