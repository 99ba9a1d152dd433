import math

import pytest
import torch
from refusals import refused
from see_through import SeeThrough
from small_alexnet import small_alexnet
from torch import nn
from torch.nn import functional as F

from pretext.backbones.initializers import he_normal_
from pretext.methods import Jigsaw
from pretext.methods.jigsaw import shuffled
from pretext.methods.parts.patches import tiles_of_cells
from pretext.methods.parts.permutations import distant_permutations


def textures(count, side):
    """Photos whose nine cells differ in the direction and width of their stripes."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cell = row // (side // 3) * 3 + column // (side // 3)
    angle, width = cell % 3 * math.pi / 3, torch.tensor([3.0, 5.0, 9.0])[cell // 3]
    waves = torch.sin(2 * math.pi * (column * angle.cos() + row * angle.sin()) / width)
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return (128 + 100 * waves + 5 * noise).clamp(0, 255).to(torch.uint8)


def test_the_inverse_permutation_puts_the_tiles_back():
    photos = torch.randint(0, 256, (12, 3, 63, 63), dtype=torch.uint8)
    tiles = tiles_of_cells(photos, grid=3, share=1.0)
    permutations = torch.tensor(distant_permutations(12).permutations)
    puzzle = shuffled(tiles, permutations)
    for n in range(12):
        for place in range(9):
            assert torch.equal(puzzle[n, place], tiles[n, permutations[n, place]])
    back = shuffled(puzzle, permutations.argsort(1)).view(12, 3, 3, 3, 21, 21)
    assert torch.equal(back.permute(0, 3, 1, 4, 2, 5).reshape(12, 3, 63, 63), photos)


class Solver(nn.Module):
    """Knows the permutations, and each tile by the width of its brighter left part."""

    def __init__(self, permutations):
        super().__init__()
        self.permutations = [list(one) for one in permutations]

    def forward(self, features):
        labels = [self.permutations.index(one) for one in features.argsort(1).argsort(1).tolist()]
        return 50.0 * F.one_hot(torch.tensor(labels), len(self.permutations))


class LeftPart(nn.Module):
    def forward(self, maps):
        return (maps[:, 0, 0] > 127).float().sum(1, keepdim=True)


def test_the_label_is_the_permutation_of_what_the_backbone_sees():
    # In cell k the first k + 3 columns are bright: normalised tiles still tell, brightness itself does not.
    photo = torch.zeros(3, 45, 45)
    for k in range(9):
        photo[:, k // 3 * 15 : k // 3 * 15 + 15, k % 3 * 15 : k % 3 * 15 + 3 + k] = 200
    method = Jigsaw(SeeThrough(), permutations=20, tile=1.0, channel_shift=0, gray=0.0)
    method.tile_head, method.head = LeftPart(), Solver(distant_permutations(20).permutations)
    scalars = method(photo.to(torch.uint8).expand(40, -1, -1, -1), torch.arange(40))
    assert scalars.logged["accuracy"] == 1
    assert scalars.losses["loss_jigsaw"] < 1e-6


def test_the_backbone_sees_normalised_tiles_one_by_one():
    seen = []

    class Watching(SeeThrough):
        def forward(self, photos, layers):
            seen.append(photos)
            return super().forward(photos, layers)

    photos = 100 + torch.randint(0, 64, (4, 3, 63, 63), dtype=torch.uint8)
    Jigsaw(Watching())(photos, torch.arange(4))
    assert seen[0].shape == (36, 3, 18, 18)  # 0.85 of a cell of 21
    torch.testing.assert_close(seen[0].mean((2, 3)), torch.full((36, 3), 127.5))
    torch.testing.assert_close(seen[0].std((2, 3), correction=0), torch.full((36, 3), 42.5))


@pytest.mark.parametrize(("gray", "shift"), [(1.0, 1), (0.0, 1), (0.0, 0)])
def test_gray_photos_are_gray_and_channels_are_shifted(gray, shift, monkeypatch):
    monkeypatch.setattr("pretext.methods.jigsaw.normalize_each", lambda tiles: tiles)
    seen = []

    class Watching(SeeThrough):
        def forward(self, photos, layers):
            seen.append(photos)
            return super().forward(photos, layers)

    photos = torch.randint(0, 256, (4, 1, 63, 63), dtype=torch.uint8).expand(-1, 3, -1, -1)
    Jigsaw(Watching(), gray=gray, channel_shift=shift)(photos, torch.arange(4))
    equal = bool((seen[0][:, 0] == seen[0][:, 1]).all())
    assert equal == (gray == 1 or shift == 0)


def test_features_of_tiles_are_rectified():
    method = Jigsaw(SeeThrough(), permutations=4)
    seen = []
    method.head.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    method(textures(4, 63), torch.arange(4))
    assert seen[0].min() == 0
    assert seen[0].max() > 0


def test_permutations_are_drawn_for_each_photo_and_each_step():
    photos = textures(8, 63)
    method = Jigsaw(SeeThrough(), permutations=64, tile=1.0, channel_shift=0, gray=0.0)
    drawn = []
    method.head = nn.Linear(9 * 512, 64)
    method.head.register_forward_hook(lambda module, args, out: drawn.append(args[0]))
    for step in (0, 0, 1):
        torch.manual_seed(step)
        method(photos, torch.arange(8))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_every_tile_trains_the_backbone_and_the_heads():
    method = Jigsaw(small_alexnet("rgb"), permutations=4, tile_features=16, head_hidden=16)
    he_normal_(method, 0)
    method(textures(4, 63), torch.arange(4)).losses["loss_jigsaw"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_it_learns_to_solve_puzzles(train_method):
    method = Jigsaw(small_alexnet("rgb"), permutations=4, tile_features=64, head_size=1, head_hidden=64)
    logged = train_method(method, textures(12, 63), steps=15, lr=3e-3)
    assert logged[0]["accuracy"] < 0.7
    assert logged[-1]["accuracy"] == 1


def test_permutations_come_from_a_number_or_a_file(tmp_path):
    nine, four = distant_permutations(10, seed=5), distant_permutations(10, tiles=4)
    nine.save(tmp_path / "nine.json")
    four.save(tmp_path / "four.json")
    given = Jigsaw(SeeThrough(), permutations=str(tmp_path / "nine.json")).table
    assert given.tolist() == [list(one) for one in nine.permutations]
    # A number on the command line is text, as the config's is.
    assert torch.equal(
        Jigsaw(SeeThrough(), permutations="10").table, Jigsaw(SeeThrough(), permutations=10).table
    )
    with refused(tmp_path / "four.json", received=4, allowed=(9,)):
        Jigsaw(SeeThrough(), permutations=str(tmp_path / "four.json"))
    with refused(tmp_path / "gone.json", allowed="python -m pretext permutations"):
        Jigsaw(SeeThrough(), permutations=str(tmp_path / "gone.json"))


@pytest.mark.parametrize(
    ("arguments", "name", "allowed"),
    [
        ({"tile": 0.0}, "tile", "above 0 to 1"),
        ({"gray": 1.5}, "gray", "from 0 to 1"),
        ({"channel_shift": -1}, "channel_shift", "from 0 up"),
        ({"permutations": 1}, "permutations", "from 2 up"),
        ({"head_hidden": -1}, "head hidden", "from 0 up"),
    ],
)
def test_bad_arguments_are_refused(arguments, name, allowed):
    with refused(name, received=next(iter(arguments.values())), allowed=allowed):
        Jigsaw(SeeThrough(), **arguments)
