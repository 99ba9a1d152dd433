"""The colorization net of Zhang et al. (ECCV 2016) at a quarter of its width: for two CPU cores.

It colours every fourth pixel of a photo, in both directions, where AlexNet colours every sixteenth.
"""

base = "colorization"

backbone = dict(architecture="colornet", input_space="lightness", norm="batch", width=0.25)
method.update(layer="conv8", target_stride=4)
