"""The table of `small_photos` for photos in folders of classes, such as Fruits: a classifier of theirs judges, too.

The study's classifier is a VGG trained on the same photos; this one is an AlexNet that the grid trains.
"""

base = "small_photos"

backbones = dict(
    # Names what was coloured, and so sees colours.
    judge=dict(
        train="supervised",
        on="imagenette128",
        overrides=["name=small_photos_judge", "view.size=64", "view.resize=64"],
    ),
)
stages["colors"]["overrides"] = [
    *stages["colors"]["overrides"],
    "classifier={judge}/classifier.safetensors",
]
