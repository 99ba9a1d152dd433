"""All pretext methods on Imagenette at 128 pixels, three seeds, by the linear probe of all layers.

The same photos, epochs, batches and AlexNet for every method, and untrained backbones for the colours that they see:
lightness (colorization, l_to_ab, hypercolumn, deepcluster), Lab (split_brain, autoencoder), RGB (the others). Each
method starts twice: from random filters, and from filters that k-means fits to the photos, as the papers of Zhang et
al. did.
"""

_methods = (
    *(
        "colorization",
        "l_to_ab",
        "hypercolumn",
        "split_brain",
        "autoencoder",
        "autoencoder_drop50",
        "context",
        "jigsaw",
        "counting",
    ),
    *("rotation", "inpainting", "bigan", "deepcluster", "egomotion", "tracking", "supervised"),
)

backbones = {
    "random": "random:alexnet",
    "random_lab": "random:alexnet:lab",
    "random_rgb": "random:alexnet:rgb",
    "gaussian": dict(initialize="gaussian", photos="imagenette128/train"),
    "gaussian_lab": dict(initialize="gaussian", photos="imagenette128/train", backbone="alexnet:lab"),
    "gaussian_rgb": dict(initialize="gaussian", photos="imagenette128/train", backbone="alexnet:rgb"),
    "kmeans": dict(initialize="kmeans", photos="imagenette128/train"),
    "kmeans_lab": dict(initialize="kmeans", photos="imagenette128/train", backbone="alexnet:lab"),
    "kmeans_rgb": dict(initialize="kmeans", photos="imagenette128/train", backbone="alexnet:rgb"),
    **{
        name + suffix: dict(train=name, on="imagenette128", overrides=[f"init={init}"])
        for init, suffix in (("he", ""), ("kmeans", "_kmeans"))
        for name in _methods
    },
}
stages = {"linear-probe": dict(stage="linear-probe", on="imagenette128")}
seeds = (0, 1, 2)
