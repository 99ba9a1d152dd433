"""A tiny rotation with another view and optimiser, classes by their old addresses."""

name = "rotation_tiny"
data = "photos"
view = {
    "type": "pretext.data.views.RandomResizedCrop",
    "size": 64,
    "resize": 72,
    "flip": True,
    "scale": (0.2, 1.0),
    "ratio": (0.75, 1.25),
}
held_out = 0
backbone = {
    "architecture": "alexnet",
    "input_space": "rgb",
    "groups": 1,
    "fully_connected": False,
    "norm": "batch",
    "channels": (8, 8, 8, 8, 8),
}
method = {"type": "pretext.methods.rotation.Rotation", "layer": "conv5", "head_size": 2, "head_hidden": 16}
batch_size = 4
accumulate = 1
epochs = None
steps = 6
optimizer = {"type": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
schedule = {"name": "step", "warmup": 0.0, "milestones": ((5, 0.1),)}
clip_grad = {"max_norm": 10.0}
amp = None
workers = 0
checkpoint_interval = 4
preview_interval = 0
