import pytest
import torch

from pretext.backbones import AlexNet
from pretext.errors import InputError
from pretext.targets import at_targets, check_target_stride


@pytest.mark.parametrize("stride", [3, 32])
def test_targets_fall_on_positions(stride):
    conv5 = AlexNet("lightness").layer("conv5")
    check_target_stride(conv5, 8)
    with pytest.raises(
        InputError, match=f"the stride of conv5: received {stride}, allowed are 1, 2, 4, 8, 16"
    ):
        check_target_stride(conv5, stride)


def test_twelve_positions_give_the_authors_twenty_three():
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    upsampled = at_targets(ramp, torch.Size([23, 23]), 2)
    torch.testing.assert_close(upsampled[0, 0, 0], torch.arange(23.0) / 2)


def test_what_lies_beyond_the_last_target_is_cut():
    # 128 pixels give 9 positions, at pixels 0, 16, ..., 128: the last one looks beyond the photo.
    ramp = torch.arange(9.0).expand(1, 1, 9, 9) * 16
    assert at_targets(ramp, torch.Size([8, 8]), 1)[0, 0, 0].tolist() == list(range(0, 128, 16))
    assert at_targets(ramp, torch.Size([16, 16]), 2)[0, 0, 0].tolist() == list(range(0, 128, 8))


def test_a_map_that_is_too_small_is_spread_evenly():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    spread = at_targets(ramp, torch.Size([16, 16]), 2)[0, 0, 0]
    torch.testing.assert_close(spread[1:-1], torch.arange(14.0) / 2 + 0.25)
