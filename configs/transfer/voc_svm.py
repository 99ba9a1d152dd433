"""VOC classification by linear SVMs on frozen features, for small photos (the toy world by default).

Goyal et al. (ICCV 2019) resize photos to 227 pixels and try 26 costs.
"""

protocol = "voc-svm-short"
data = "toyworld/VOCdevkit"
year = 2007
train_split = "train"
test_split = "val"
layers = "all"

geometry = "evaluation"
# Photos are resized whole to a square of this side, in pixels.
size = 128
reduction = dict(type="AdaptiveAveragePool")

# For each class the cost is that of the best average precision in cross-validation on the training split.
costs = (0.01, 0.1, 1.0)
folds = 3
positive_weight = 2.0
tolerance = 1e-4
max_iterations = 2000
# Shortens them.
scale = 1.0

batch_size = 32
# bfloat16 where the CPU or GPU has instructions for it, or None.
mixed_precision = "bfloat16"
# Loads photos, and trains as many machines side by side.
workers = 2
