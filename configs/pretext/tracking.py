"""Tracking (Wang, Gupta, ICCV 2015), with two separate windows of each photo in place of a track."""

base = "_alexnet"

# As in the paper hard negatives begin after ten epochs, which these six never reach: begun after three, they made all
# windows alike.
method = dict(
    type="tracking",
    layer="conv5",
    margin=0.5,
    negatives=4,
    random_epochs=10,
    num_features=1024,
    flip=True,
    window=0.4,
    head_size=3,
    head_hidden=512,
)
backbone.update(input_space="rgb")
