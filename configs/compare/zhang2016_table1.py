"""Table 1 of "Colorful Image Colorization" (Zhang, Isola, Efros, ECCV 2016) on Imagenette at 128 pixels.

The net is the paper's, narrower; L2 is trained from k-means filters and, fine-tuned, from the net of the full method.
"""

_train = dict(train="colorization_colornet", on="imagenette128")
# Of the rows that predict a distribution.
_sweep = dict(decoding=["temperatures=0.01,0.1,0.2,0.38,0.6,0.8,1"])

colorizers = {
    **{name: name for name in ("truth", "gray", "random-photo", "mean-color", "retrieval", "welsh2002")},
    "full": dict(overrides=["name=colornet_full"], **_train, **_sweep),
    "class": dict(overrides=["name=colornet_class", "method.loss=classification"], **_train, **_sweep),
    "l2": dict(overrides=["name=colornet_l2", "method.loss=l2"], **_train),
    "l2_finetuned": dict(
        overrides=["name=colornet_l2_finetuned", "method.loss=l2", "init={full}/backbone.safetensors"],
        **_train,
    ),
}
stages = dict(
    colors=dict(
        stage="colorization",
        on="imagenette128",
        overrides=["count=1000", "gallery=imagenette128/train"],
    )
)
seeds = (0,)
