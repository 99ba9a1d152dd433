"""Colorization against random and k-means initialisation on the toy world, by all stages."""

backbones = dict(
    random="random:alexnet",
    kmeans=dict(initialize="kmeans", photos="toyworld/unlabeled", size=96),
    colorization=dict(train="pretext/colorization_alexnet_toyworld"),
)
stages = {
    "linear-probe": dict(stage="linear-probe"),
    "voc-classification": dict(stage="voc-classification"),
    "voc-detection": dict(stage="voc-detection"),
    "voc-segmentation": dict(stage="voc-segmentation"),
}
seeds = (0,)
