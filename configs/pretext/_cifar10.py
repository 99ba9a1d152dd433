"""What the nets of a student study of CIFAR-10 share: "Image Colorization" (Stanford CS230, 2018).

Numbers are those of its code (github.com/1ipeng/CS230_Project, experiments/base_model/params.json and model/). Seven
blocks as in Zhang et al. (ECCV 2016), then three transposed convolutions that bring the map to the photo's size.

Differences from the study: lightness is centred on 50 and divided by 25, there divided by 100; the bin of a colour is
the nearest, there the one below in a and b, half a bin off; photos are mirrored.
"""

name = None
data = "cifar-10-batches-py/train"
init = "he"
view = dict(type="RandomCrop", size=32, resize=32, flip=True, min_scale=1.0)
held_out = 8

backbone = dict(architecture="colornet", input_space="lightness", norm="batch", doublings=3, width=1.0)

batch_size = 128
accumulate = 1
epochs = 20
steps = None
optimizer = dict(type="Adam", lr=1e-3)
schedule = dict(type="Constant", warmup=0.0)
max_grad_norm = None
mixed_precision = "bfloat16"
workers = 2

checkpoint_interval = 100
preview_interval = 200
