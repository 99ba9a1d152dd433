"""AlexNet by colorization as "Colorful Image Colorization" (Zhang et al., ECCV 2016) trained it for transfer.

Numbers from the paper's released training files: 450,000 steps of 80 photos of ImageNet, crops of 180 from 256
pixels, the rate 3e-5, lowered in three steps; the rest is as for the colorization net. See
docs/deviations.md for what differs.
"""

base = "zhang2016_vgg"

view.update(size=180)
backbone.update(architecture="alexnet", groups=2, fully_connected=True)
method.update(layer="fc7", target_stride=8)
batch_size = 80
optimizer.update(betas=(0.9, 0.999))
# 3e-5, from 240k on 1e-5, from 300k 3e-6, from 400k 1e-6.
schedule.update(
    milestones=(240 / 450, 300 / 450, 400 / 450), factors=(1 / 3, 1 / 3 * 0.3, 1 / 3 * 0.3 * (1 / 3))
)
