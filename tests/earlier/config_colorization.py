"""A tiny colorization, classes by their old addresses."""

name = None
data = "photos"
view = {"type": "pretext.data.views.RandomCrop", "size": 64, "resize": 64, "flip": True, "min_scale": 1.0}
held_out = 1
backbone = {
    "architecture": "alexnet",
    "input_space": "lightness",
    "groups": 2,
    "fully_connected": False,
    "norm": "batch",
    "channels": (8, 8, 8, 8, 8),
}
method = {
    "type": "pretext.methods.colorization.Colorization",
    "loss": "rebalanced",
    "layer": "conv5",
    "head_channels": 0,
    "target_stride": 8,
    "bins": "official313",
    "neighbors": 5,
    "sigma": 5.0,
    "rebalance_mix": 0.5,
    "prior": "data",
    "gray_threshold": 5.0,
}
batch_size = 4
accumulate = 1
epochs = None
steps = 6
optimizer = {"type": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.01}
schedule = {"name": "cosine", "warmup": 0.4, "milestones": ()}
clip_grad = None
amp = None
workers = 0
checkpoint_interval = 4
preview_interval = 0
