"""AlexNet by colorization as "Colorful Image Colorization" (Zhang et al., ECCV 2016) trained it for transfer.

Numbers from the paper's released training files: 450,000 steps of 80 photos of ImageNet, crops of 180 from 256
pixels, a tenth of the learning rate in four steps. See docs/deviations.md for what differs.
"""

from torch.optim import Adam

from pretext.data.views import RandomCrop
from pretext.methods.colorization import Colorization

data = "imagenet/train"
view = dict(type=RandomCrop, size=180, resize=256, flip=True, min_scale=1.0)
held_out = 8

backbone = dict(
    architecture="alexnet",
    input_space="lightness",
    groups=2,
    fully_connected=True,
    norm="batch_no_affine",
    input_mean=(50.0,),
    input_std=(1.0,),
)
method = dict(
    type=Colorization,
    loss="rebalanced",
    layer="fc7",
    head_channels=0,
    target_stride=8,
    bins="official313",
    neighbors=10,  # the released layer's; the paper's text says 5
    sigma=5.0,
    rebalance_mix=0.5,
    prior="imagenet",
    gray_threshold=5.0,
)

batch_size = 80
accumulate = 1
epochs = None
steps = 450_000
optimizer = dict(type=Adam, lr=3e-5, betas=(0.9, 0.999), weight_decay=1e-3)
# 3e-5, from 240k on 1e-5, from 300k 3e-6, from 400k 1e-6.
schedule = dict(name="step", warmup=0.0, milestones=((240_000, 1 / 3), (300_000, 0.3), (400_000, 1 / 3)))
clip_grad = None
amp = None
workers = 8

checkpoint_interval = 5_000
preview_interval = 10_000
