import pytest
import torch
from refusals import refused
from see_through import SeeThrough
from small_alexnet import small_alexnet
from torch import nn
from torch.nn import functional as F

from pretext.backbones.initializers import he_normal_
from pretext.methods import Context
from pretext.methods.context import STEPS, draw_cells, neighborhoods

#: By label: up-left, up, up-right, left, right, down-left, down, down-right.
DIRECTIONS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


def coordinates(count, side):
    """Photos whose red is the column and whose green is the row of each pixel."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([column, row, 0 * row]).to(torch.uint8).expand(count, -1, -1, -1)


def test_neighbours_lie_a_patch_and_a_gap_away_give_or_take_the_jitter():
    torch.manual_seed(0)
    patches = neighborhoods(coordinates(300, 100), gap=0.5, jitter=0.1)
    size = patches.shape[-1]
    assert size == int(100 / 4.2)
    gap, jitter = size // 2, size // 10
    corner = patches[..., 0, 0].int()
    assert (patches[..., -1, -1].int() == corner + torch.tensor([size - 1, size - 1, 0])).all()
    neighbors = [number for number in range(9) if number != 4]
    for number, (down, right) in zip(neighbors, DIRECTIONS, strict=True):
        offset = corner[:, number] - corner[:, 4]
        for channel, cells in ((0, right), (1, down)):
            error = offset[:, channel] - cells * (size + gap)
            assert set(error.tolist()) == set(range(-2 * jitter, 2 * jitter + 1))
            if cells:  # patches never touch, so no line goes on from one to the other
                assert (offset[:, channel].abs() > size).all()


def test_the_grid_is_anywhere_in_the_photo():
    torch.manual_seed(0)
    patches = neighborhoods(coordinates(400, 101), gap=0.1, jitter=0.0)
    reach = 3 * 31 + 2 * 3
    for channel in range(2):
        assert set(patches[:, 0, channel, 0, 0].tolist()) == set(range(101 - reach + 1))


def test_where_the_second_patch_lies_in_the_photo_does_not_tell_the_label():
    torch.manual_seed(0)
    first = draw_cells(2000)
    second = first + STEPS
    for label, (down, right) in enumerate(DIRECTIONS):
        assert ((second // 3 - first // 3)[:, label] == down).all()
        assert ((second % 3 - first % 3)[:, label] == right).all()
    counts = torch.stack([torch.bincount(second[:, label], minlength=9) for label in range(8)])
    # Each cell is the second one of three labels or more.
    assert (counts > 0).sum(0).tolist() == [3, 5, 3, 5, 8, 5, 3, 5, 3]
    assert (counts.max(0).values / counts.sum(0)).max() < 0.5


class Compass(nn.Module):
    """Says the direction that coordinates in a pair of patches show."""

    def forward(self, pairs):
        offset = pairs[:, 3:5, 0, 0] - pairs[:, :2, 0, 0]
        right, down = (offset / 15).round().clamp(-1, 1).int().unbind(1)
        labels = [DIRECTIONS.index(one) for one in zip(down.tolist(), right.tolist(), strict=True)]
        return 50.0 * F.one_hot(torch.tensor(labels), 8)


def test_the_label_is_where_the_second_patch_lies_from_the_first():
    method = Context(SeeThrough(), color="keep")
    method.head = Compass()
    scalars = method(coordinates(5, 64), torch.arange(5))
    assert scalars.logged["accuracy"] == 1
    assert scalars.losses["loss_context"] < 1e-6


@pytest.mark.parametrize("color", ["drop", "projection", "keep"])
def test_colours_are_dealt_with_before_the_backbone(color):
    seen = []

    class Watching(SeeThrough):
        def forward(self, photos, layers):
            seen.append(photos)
            return super().forward(photos, layers)

    photos = torch.randint(60, 190, (4, 3, 64, 64), dtype=torch.uint8)
    Context(Watching(), color=color)(photos, torch.arange(4))
    red, green, blue = seen[0].float().unbind(1)
    spreads = torch.stack([red, green, blue], 1).std((2, 3))
    assert bool(((spreads > 3).sum(1) == 1).all()) == (color == "drop")
    assert bool((2 * green - red - blue).abs().max() < 0.01) == (color == "projection")
    assert (seen[0].dtype == torch.uint8) == (color == "keep")


def test_both_patches_train_the_backbone_and_the_head():
    method = Context(small_alexnet("rgb"), head_hidden=32)
    he_normal_(method, 0)
    photos = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    method(photos, torch.arange(2)).losses["loss_context"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_it_learns_where_patches_of_a_ramp_lie(train_method):
    # Red grows rightwards and green downwards.
    generator = torch.Generator().manual_seed(0)
    ramps = coordinates(8, 64) * 3 + torch.randint(0, 40, (8, 3, 64, 64), generator=generator)
    method = Context(small_alexnet("rgb"), color="projection", head_size=1, head_hidden=64)
    logged = train_method(method, ramps.to(torch.uint8), steps=40, lr=3e-3)
    assert logged[0]["accuracy"] < 0.5
    assert logged[-1]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"color": "gray"}, ("drop", "projection", "keep")),
        ({"gap": -0.1}, "from 0.0 up"),
        ({"jitter": -0.1}, "from 0.0 up"),
        ({"layer": "conv9"}, ("conv5",)),
    ],
)
def test_bad_arguments_are_refused(arguments, allowed):
    ((name, value),) = arguments.items()
    with refused(name, received=value, allowed=allowed):
        Context(SeeThrough(), **arguments)


def test_photos_that_are_too_small_are_refused():
    with refused("32x32 pixels", "gap=0.5", "jitter=0.07", "patches of 7", allowed="8 pixels"):
        Context(SeeThrough())(coordinates(2, 32), torch.arange(2))
