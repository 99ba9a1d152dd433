"""What the header's reader knows without torch is what the networks are."""

import pytest

from pretext.backbones.base import INPUT_STATISTICS
from pretext.backbones.checkpoint import ARCHITECTURES, build
from pretext.backbones.header import INPUT_SPACES, LAYERS, layers_of, untrained


def test_it_knows_every_architecture_and_input_space():
    assert set(LAYERS) == set(ARCHITECTURES)
    assert set(INPUT_SPACES) == set(INPUT_STATISTICS)


@pytest.mark.parametrize("name", LAYERS)
def test_it_knows_the_layers_of_an_untrained_backbone(name):
    assert layers_of(f"random:{name}") == build(*untrained(name)).layer_names
