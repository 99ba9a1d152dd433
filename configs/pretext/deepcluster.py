"""DeepCluster (Caron et al., ECCV 2018), clustered anew before each epoch."""

base = "_alexnet"

# Ten clusters per class, the best number in the paper (figure 2c).
method = dict(
    type="deepcluster",
    layer="conv5",
    clusters=100,
    feature_size=2,
    components=256,
    head_size=3,
    head_hidden=512,
    sampling="clusters",
)
# Section 4.1: crops of random sizes and shapes.
view = dict(type="RandomResizedCrop", size=128, resize=128)
backbone.update(input_space="lightness")
