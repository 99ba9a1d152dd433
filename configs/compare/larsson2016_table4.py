"""Table 4 of "Learning Representations for Automatic Colorization" (Larsson, Maire, Shakhnarovich, ECCV 2016).

Histogram transfer from each photo's own true colours, by quantiles (Q) and by the energy (E), on Imagenette at 128
pixels in place of SUN-6. All rows but gray show one colorizer of hue and chroma with fading, that of table 1.
"""

colorizers = dict(
    gray="gray",
    hue_chroma=dict(
        train="hypercolumn_vgg16",
        on="imagenette128",
        overrides=["name=hypercolumn_vgg16"],
        decoding=["decode_at=photo"],
    ),
    quantile=dict(colorizer="hue_chroma", decoding=["decode_at=photo", "true_histogram=quantile"]),
    energy=dict(colorizer="hue_chroma", decoding=["decode_at=photo", "true_histogram=energy"]),
)
stages = dict(colors=dict(stage="colorization", on="imagenette128", overrides=["count=1000"]))
seeds = (0,)
