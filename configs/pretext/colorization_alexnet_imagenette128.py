"""Colorization of AlexNet on Imagenette at 128 pixels: 6 epochs, about 4 minutes on 2 CPU cores."""

name = None  # what tables call the backbone; None: the method's own name
data = "imagenette128/train"
view = dict(type="RandomCrop", size=128, resize=128, flip=True, min_scale=1.0)
held_out = 8

backbone = dict(
    architecture="alexnet", input_space="lightness", groups=2, fully_connected=False, norm="batch"
)
method = dict(
    type="colorization",
    loss="rebalanced",
    layer="conv5",
    head_channels=0,
    target_stride=8,
    bins="official313",
    neighbors=5,
    sigma=5.0,
    rebalance_mix=0.5,
    prior="data",
    gray_threshold=5.0,
)

batch_size = 64
accumulate = 1
epochs = 6
steps = None
optimizer = dict(type="AdamW", lr=1e-3, weight_decay=0.01)
schedule = dict(name="cosine", warmup=0.1, milestones=())
clip_grad = None
amp = "bfloat16"
workers = 2

checkpoint_interval = 100
preview_interval = 200
