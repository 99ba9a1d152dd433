"""An AlexNet that is fast enough to train in a test."""

from pretext.backbones import AlexNet

#: Channels of conv1 to conv5.
CHANNELS = (16, 32, 48, 48, 32)


def small_alexnet(input_space, **arguments):
    """AlexNet with few channels."""
    return AlexNet(input_space, channels=CHANNELS, **arguments)
