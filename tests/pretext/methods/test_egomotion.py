import math

import pytest
import torch
from PIL import Image
from refusals import refused
from see_through import SeeThrough
from small_alexnet import small_alexnet
from torch import nn
from torch.nn import functional as F

from pretext.backbones.initializers import he_normal_
from pretext.data.crops import PairCrop
from pretext.data.sampling import Draw, draw_rng
from pretext.data.sources import open_photos
from pretext.methods import Egomotion
from pretext.methods.egomotion import windows
from pretext.training.engine import pretrain


def coordinates(count, height, width):
    """Photos whose red is the column and whose green is the row of each pixel."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([column, row, 0 * row]).to(torch.uint8).expand(count, -1, -1, -1)


def middle(view):
    """The position in the photo, as column and row, that the middle of a window of coordinates shows."""
    return view[:, :2].mean((2, 3))


def direction(view):
    """By how many degrees a window of coordinates is turned clockwise."""
    step = view[:, :2, :, -1].mean(2) - view[:, :2, :, 0].mean(2)
    return torch.rad2deg(torch.atan2(step[:, 1], step[:, 0]))


@pytest.mark.parametrize(("height", "width"), [(100, 100), (80, 120)])
def test_windows_lie_apart_by_the_motion(height, width):
    generator = torch.Generator().manual_seed(0)
    motion = (torch.rand(20, 3, generator=generator) * 2 - 1) * torch.tensor([0.2, 0.2, 30.0])
    around = (torch.rand(20, 2, generator=generator) - 0.5) * 0.05
    first, second = windows(coordinates(20, height, width), motion, around, 0.6)
    shorter = min(height, width)
    assert first.shape == second.shape == (20, 3, 0.6 * shorter, 0.6 * shorter)
    torch.testing.assert_close(middle(second) - middle(first), motion[:, :2] * shorter, atol=1e-3, rtol=0)
    torch.testing.assert_close(direction(second) - direction(first), motion[:, 2], atol=1e-2, rtol=0)
    center = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    torch.testing.assert_close(
        (middle(first) + middle(second)) / 2, center + around * shorter, atol=1e-3, rtol=0
    )


def test_without_motion_both_windows_are_the_photo():
    photos = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    first, second = windows(photos, torch.zeros(2, 3), torch.zeros(2, 2), 0.5)
    torch.testing.assert_close(first, photos[..., 16:48, 16:48].float(), atol=1e-2, rtol=0)
    assert torch.equal(first, second)


def test_the_grid_is_exact_in_half_precision():
    photos, motion = coordinates(4, 64, 64), torch.tensor([[0.1, -0.05, 20.0]]).expand(4, 3)
    expected = windows(photos, motion, torch.zeros(4, 2), 0.6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(windows(photos, motion, torch.zeros(4, 2), 0.6)[1], expected[1])


class Navigator(nn.Module):
    """Says the class of one component of the motion that two windows of coordinates show."""

    def __init__(self, component, limit, bins):
        super().__init__()
        self.component, self.limit, self.bins = component, limit, bins

    def forward(self, both):
        first, second = both.chunk(2, 1)
        shift = (middle(second) - middle(first)) / 64
        motion = [shift[:, 0], shift[:, 1], direction(second) - direction(first)][self.component]
        labels = ((motion + self.limit) / (2 * self.limit) * self.bins).floor().long()
        return 50.0 * F.one_hot(labels, self.bins)


def test_labels_are_the_bins_of_the_true_motion():
    method = Egomotion(SeeThrough(), bins=10, max_shift=0.2, max_rotation=30.0)
    method.heads = nn.ModuleDict(
        {
            "dx": Navigator(0, 0.2, 10),
            "dy": Navigator(1, 0.2, 10),
            "rotation": Navigator(2, 30.0, 10),
        }
    )
    torch.manual_seed(0)
    scalars = method(coordinates(50, 64, 64), torch.arange(50))
    for name in ("dx", "dy", "rotation"):
        assert scalars.logged[f"accuracy_{name}"] == 1
        assert scalars.losses[f"loss_{name}"] < 1e-6


def test_drawn_motions_fill_all_classes(monkeypatch):
    method = Egomotion(SeeThrough(), bins=5)
    drawn, given = [], method.labels
    monkeypatch.setattr(method, "labels", lambda motion: drawn.append(given(motion)) or drawn[-1])
    torch.manual_seed(0)
    method(coordinates(500, 20, 20), torch.arange(500))
    for component in range(3):
        assert (torch.bincount(drawn[0][:, component], minlength=5) > 70).tolist() == [True] * 5


def frame(number, count):
    """A frame of one brightness, which says its number."""
    return Image.new("RGB", (40, 30), (round(number * 250 / count),) * 3)


@pytest.fixture
def frame_pairs(tmp_path):
    """40 pairs; the motion of pair i is (i squared, -i, 3)."""
    lines = []
    for number in range(40):
        frame(number, 40).save(tmp_path / f"{number}a.png")
        frame(40 - number, 40).save(tmp_path / f"{number}b.png")
        lines.append(f"{number}a.png {number}b.png {number**2} {-number} 3\n")
    (tmp_path / "frames.pairs").write_text("".join(lines))
    return open_photos(tmp_path / "frames.pairs")


class Reader(nn.Module):
    """Reads a pair's number from both frames and gives the class it has among 40 pairs in their order."""

    def __init__(self, backwards=False):
        super().__init__()
        self.backwards = backwards

    def forward(self, both):
        first = (both[:, 0, 0, 0] / 250 * 40).round().long()
        assert torch.equal(40 - (both[:, 3, 0, 0] / 250 * 40).round().long(), first)
        label = first * 4 // 40
        return 50.0 * F.one_hot(3 - label if self.backwards else label, 4)


class Constant(nn.Module):
    def forward(self, both):
        return torch.tensor([50.0, 0, 0, 0]).expand(len(both), 4)


def test_frames_have_the_motions_of_their_list(frame_pairs, tmp_path):
    method = Egomotion(SeeThrough(), bins=4)
    method.setup(frame_pairs, tmp_path)
    # Classes are equally frequent: quarters of the pairs, though their motions grow by squares.
    assert torch.bincount(method.labels(method.motions)[:, 0]).tolist() == [10] * 4
    method.heads = nn.ModuleDict({"dx": Reader(), "dy": Reader(backwards=True), "rotation": Constant()})
    view = PairCrop(size=16, resize=20)
    index = torch.tensor([7, 31, 12, 39, 0, 22])
    batch = torch.stack([view(frame_pairs.image(i), draw_rng(0, Draw(0, i))) for i in index.tolist()])
    scalars = method(batch, index)
    for name in ("dx", "dy", "rotation"):
        assert scalars.logged[f"accuracy_{name}"] == 1


def test_frames_need_their_own_view(frame_pairs, tmp_path):
    method = Egomotion(SeeThrough())
    method.setup(frame_pairs, tmp_path)
    with refused(received="32x32 pixels", allowed="PairCrop"):
        method(coordinates(2, 32, 32), torch.arange(2))


def test_tracks_are_not_frames(pair_lists, small_config, tmp_path):
    config = small_config("egomotion_frames")
    for allowed in ("single photos", ".pairs"):
        with refused("egomotion", "tracks", received=str(pair_lists["tracks"]), allowed=allowed):
            pretrain(config, work_dir=tmp_path / "run", data=str(pair_lists["tracks"]))


def test_both_views_train_the_backbone_and_all_heads():
    method = Egomotion(small_alexnet("rgb"), head_hidden=8)
    he_normal_(method, 0)
    photos = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    losses = method(photos, torch.arange(4)).losses
    assert losses.keys() == {"loss_dx", "loss_dy", "loss_rotation"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_it_learns_how_the_camera_moved(train_method):
    # Three blobs, of which one is in the middle.
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blobs = [
        255 * torch.exp(-((column - x) ** 2 + (row - y) ** 2) / 50)
        for x, y in ((31.5, 31.5), (31.5, 20), (44, 31))
    ]
    photos = torch.stack(blobs).to(torch.uint8).expand(32, 3, 64, 64)
    method = Egomotion(small_alexnet("rgb"), bins=2, head_size=3, head_hidden=32)
    logged = train_method(method, photos, steps=30, lr=3e-3)
    first, last = logged[0], logged[-1]
    for name in ("dx", "dy", "rotation"):
        assert last[f"loss_{name}"] < 0.5 * first[f"loss_{name}"]
        assert last[f"accuracy_{name}"] > 0.8


@pytest.mark.parametrize(
    ("arguments", "names", "received", "allowed"),
    [
        ({"bins": 1}, ["bins"], 1, "from 2 up"),
        ({"max_shift": -0.1}, ["max_shift"], -0.1, "from 0.0 up"),
        ({"window": 0.8, "max_shift": 0.3}, ["window", "max_shift", 1.28], (0.8, 0.3, 30.0), "1 in all"),
        ({"window": 0.0}, ["window"], (0.0, 0.2, 30.0), "window above 0"),
        (
            {"window": 0.3, "max_rotation": 120.0},
            ["max_rotation"],
            (0.3, 0.2, 120.0),
            "max_rotation up to 90",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, names, received, allowed):
    with refused(*names, received=received, allowed=allowed):
        Egomotion(SeeThrough(), **arguments)


def test_turned_windows_stay_within_the_photo():
    # The farthest corners at the greatest motions, of the default arguments.
    for signs in ((1, 1, 1), (-1, 1, -1), (1, -1, 1)):
        motion = torch.tensor([[0.2, 0.2, 30.0]]) * torch.tensor(signs)
        for view in windows(coordinates(1, 200, 200), motion, torch.zeros(1, 2), 0.6):
            spread = 0.6 * 200 / 2 * math.sqrt(2)
            corners = view[0, :2, [0, 0, -1, -1], [0, -1, 0, -1]]
            assert ((corners.T - middle(view)).norm(dim=1) > spread - 2).all(), (
                "nothing is cut off at the border"
            )
