"""What the header's reader knows without torch is what the networks are."""

import pytest
from refusals import refused

from pretext.backbones.base import INPUT_STATISTICS
from pretext.backbones.checkpoint import ARCHITECTURES, build
from pretext.backbones.header import INPUT_SPACES, LAYERS, layers_of, untrained


def test_it_knows_every_architecture_and_input_space():
    assert set(LAYERS) == set(ARCHITECTURES)
    assert set(INPUT_SPACES) == set(INPUT_STATISTICS)


@pytest.mark.parametrize("name", LAYERS)
def test_it_knows_the_layers_of_an_untrained_backbone(name):
    assert layers_of(f"random:{name}") == build(*untrained(name)).layer_names


def test_a_header_that_is_nested_too_deep_is_refused(tmp_path):
    content = b"[" * 100_000
    (tmp_path / "deep.safetensors").write_bytes(len(content).to_bytes(8, "little") + content)
    with refused(tmp_path / "deep.safetensors", allowed="safetensors"):
        layers_of(str(tmp_path / "deep.safetensors"))
