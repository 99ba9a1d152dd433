"""The VGG-styled colorization net of "Colorful Image Colorization" (Zhang et al., ECCV 2016), section 2.

Numbers from the paper's released training files: crops of 176 from 256 pixels in batches of 40, Adam at 3e-5, a
tenth of it from 225,000 steps on.
"""

name = None  # what tables call the backbone; None: the method's own name
data = "imagenet/train"
init = "kmeans"  # section 3.1
view = dict(type="RandomCrop", size=176, resize=256, flip=True, min_scale=1.0)
held_out = 8

backbone = dict(
    architecture="colornet",
    input_space="lightness",
    norm="batch_no_affine",
    input_mean=(50.0,),
    input_std=(1.0,),
)
method = dict(
    type="colorization",
    loss="rebalanced",
    layer="conv8",
    head_channels=0,
    target_stride=4,
    bins="official313",
    neighbors=10,  # the released layer's; the paper's text says 5
    sigma=5.0,
    rebalance_mix=0.5,
    prior="imagenet",
    gray_threshold=5.0,
)

batch_size = 40
accumulate = 1
epochs = None
steps = 450_000
optimizer = dict(type="Adam", lr=3e-5, betas=(0.9, 0.99), weight_decay=1e-3)
schedule = dict(type="Step", milestones=(225 / 450,), factors=(0.1,))
max_grad_norm = None
mixed_precision = None
workers = 8

checkpoint_interval = 5_000
preview_interval = 10_000
