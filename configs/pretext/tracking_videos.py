"""Tracking, from a list of tracks that `pretext-transfer tracks` finds in videos (docs/data.md)."""

base = "_alexnet"

# As in the paper hard negatives begin after ten epochs.
method = dict(
    type="tracking",
    layer="conv5",
    margin=0.5,
    negatives=4,
    random_epochs=10,
    num_features=1024,
    flip=True,
    window=None,
    head_size=3,
    head_hidden=512,
)
backbone.update(input_space="rgb")
data = "tracks/list.tracks"
view = dict(type="PairCrop", size=128, resize=144)
epochs = 20
