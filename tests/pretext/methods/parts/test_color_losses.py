import pytest
from refusals import refused
from small_alexnet import small_alexnet

from pretext.color.spaces import SPACES, AbBins
from pretext.methods import Colorization, Hypercolumn
from pretext.methods.parts.color_losses import LOSSES, ColorLoss


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_has_a_space_that_files_can_hold(loss):
    space = ColorLoss("colorization", loss, prior="imagenet").space
    assert type(space) is SPACES[space.name]


@pytest.mark.parametrize("method", [Colorization, Hypercolumn])
def test_further_arguments_go_to_the_space(method):
    made = method(small_alexnet("lightness"), loss="classification", space={"temperature": 0.5})
    assert isinstance(made.space, AbBins)
    assert made.space.temperature == 0.5
    with refused("loss=l2", "temperature", received={"temperature": 0.5}, allowed="method.space={}"):
        method(small_alexnet("lightness"), loss="l2", space={"temperature": 0.5})
