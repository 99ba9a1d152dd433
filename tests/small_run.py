"""What makes a run small enough for a test."""

#: Overrides that make any pretraining config small enough for a test.
SMALL = [
    "view.size=64",
    "view.resize=64",
    "held_out=2",
    "batch_size=4",
    "epochs=None",
    "steps=2",
    "workers=0",
    "checkpoint_interval=4",
    "preview_interval=100",
]
