import torch
from refusals import refused
from small_alexnet import small_alexnet

from pretext.methods import Rotation
from pretext.methods.rotation import rotations


def test_label_k_is_the_photo_turned_k_times():
    image = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    turned, labels = rotations(image)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for k in range(4):
        assert torch.equal(turned[labels == k], torch.rot90(image, k, (2, 3)))
    # A quarter turn counterclockwise takes the right column to the top row.
    assert torch.equal(turned[2, :, 0], image[0, :, :, -1])


def test_it_learns_which_way_is_up(train_method):
    # Photos that are bright at the top.
    ramp = torch.linspace(250, 5, 64).view(64, 1).expand(8, 3, 64, 64)
    image = (ramp + torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 5).to(torch.uint8)
    logged = train_method(Rotation(small_alexnet("rgb"), head_hidden=64), image, steps=15, lr=3e-3)
    assert logged[0]["accuracy"] < 1
    assert logged[-1]["accuracy"] == 1
    assert logged[-1]["loss_rotation"] < 0.3 * logged[0]["loss_rotation"]


def test_views_that_are_not_square_are_refused():
    with refused("square", received="4x6 pixels"):
        rotations(torch.zeros(1, 3, 4, 6, dtype=torch.uint8))
