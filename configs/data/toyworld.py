"""The toy world, which is rendered when it is first asked for (docs/data.md), at 96 pixels."""

pretext = dict(data="toyworld/unlabeled", view=dict(size=96, resize=96))
supervised = dict(data="toyworld/labeled/train")
egomotion = dict(method=dict(head_size=4))
# Here with a discriminator; Adam's momentum is that of the authors' code.
inpainting = dict(
    method=dict(map_size=6, adversarial_weight=0.001),
    optimizer=dict(betas=(0.5, 0.999)),
)

linear_probe = dict(data="toyworld/labeled")
voc_classification = voc_svm = voc_detection = voc_segmentation = dict(data="toyworld/VOCdevkit")
colors = dict(data="toyworld/labeled/val")
