"""VGG-16 by colorization from hypercolumns: "Learning Representations for Automatic Colorization" (ECCV 2016).

For a GPU: ten epochs of ImageNet at 256 pixels; rates and batches are those of the released training files. These
train for 2 million steps on crops of 352 from photos of 352 to 600 pixels (view.resize_up_to=600), leave out the 96
pixels at a crop's borders (method.border=96), learn the colours of 7 x 7 pixels around a place (method.window=7), and
weigh chroma by lightness (method.space.chroma_weight=release). What differs is in docs/deviations.md.
"""

name = None  # what tables call the backbone; None: the method's own name
data = "imagenet/train"
init = "he"  # the paper's best starts from a classifier made gray: init=FILE
view = dict(type="RandomCrop", size=256, resize=256, flip=True, min_scale=1.0, resize_up_to=None)
held_out = 8

backbone = dict(
    architecture="vgg16",
    input_space="lightness",
    fully_connected=True,
    pool5_stride=2,
    norm="batch_no_affine",  # before the ReLU
)
method = dict(
    type="hypercolumn",
    loss="hue_chroma",
    space=dict(hue_weight=5.0, chroma_weight="paper"),  # of hue_chroma; other losses take method.space={}
    layers=None,  # data, conv1_1 to conv5_3, fc6 and fc7: 12,417 channels
    hidden_channels=1024,
    dropout=0.5,
    places=128,
    border=0,
    window=1,
    stride=4,
    bins="official313",
    neighbors=5,
    sigma=5.0,
    rebalance_mix=0.5,
    prior="data",
    gray_threshold=None,
)

batch_size = 8
accumulate = 1
epochs = 10
steps = None
optimizer = dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4)
# A tenth of the rate from 1 million, from 1.5 and from 1.75 of the release's 2 million steps.
schedule = dict(type="Step", milestones=(0.5, 0.75, 0.875), factors=(0.1, 0.01, 0.001))
max_grad_norm = None
mixed_precision = None
workers = 8

checkpoint_interval = 5_000
preview_interval = 10_000
