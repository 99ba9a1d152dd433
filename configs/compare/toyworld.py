"""All pretext methods on the toy world, 2 epochs each, by the linear probe of all layers."""

backbones = {
    "random": "random:alexnet",
    "random_lab": "random:alexnet:lab",
    "random_rgb": "random:alexnet:rgb",
    "kmeans": dict(initialize="kmeans", photos="toyworld/unlabeled", size=96),
    **{
        name: dict(train=f"pretext/{name}_alexnet_toyworld", overrides=["epochs=2"])
        for name in (
            *("colorization", "l_to_ab", "split_brain", "autoencoder", "autoencoder_drop50"),
            *("context", "jigsaw", "counting", "rotation", "inpainting", "bigan", "deepcluster"),
            *("egomotion", "tracking"),
        )
    },
    # As many photos, of which fewer are labelled.
    "supervised": dict(train="pretext/supervised_alexnet_toyworld", overrides=["epochs=None", "steps=156"]),
}
stages = {"linear-probe": dict(stage="linear-probe")}
seeds = (0,)
