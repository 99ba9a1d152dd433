"""What pretraining AlexNet shares in every method, so that methods can be compared.

A config of a method has this as its base; ``configs/data`` says on what it is trained.
"""

name = None  # what tables call the backbone; None: the method's own name
data = None  # where the photos are: configs/data/<data>.py, or --data
init = "he"  # what the filters start from: he, gaussian, kmeans, or a backbone file
view = dict(type="RandomCrop", size=128, resize=128, flip=True, min_scale=1.0)
held_out = 8

backbone = dict(architecture="alexnet", groups=2, fully_connected=False, norm="batch")

batch_size = 64
accumulate = 1
epochs = 6
steps = None
optimizer = dict(type="AdamW", lr=1e-3, weight_decay=0.01)
schedule = dict(type="Cosine", warmup=0.1, warmup_start=0.01)
max_grad_norm = None
mixed_precision = "bfloat16"  # where the device has it
workers = 2

checkpoint_interval = 100
preview_interval = 200
