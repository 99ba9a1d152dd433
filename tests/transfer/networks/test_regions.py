import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from pretext.backbones.base import Layer
from transfer.networks.regions import (
    FlooredMatcher,
    GivenProposals,
    RegionAlign,
    RegionMaxPool,
    ScaleAugmentation,
    StridedAnchors,
)


def test_features_of_regions_are_those_of_torchvision():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 9, 10, generator=generator, dtype=torch.float64)
    corners = torch.rand(20, 2, generator=generator, dtype=torch.float64) * 120
    boxes = torch.cat(
        [corners, corners + torch.rand(20, 2, generator=generator, dtype=torch.float64) * 90], dim=1
    )
    # The whole photo, one of no size, and one that leaves it.
    odd = torch.tensor([[0, 0, 160, 144], [5, 5, 5, 5], [-90, 3, 20, 300]], dtype=torch.float64)
    regions = [torch.cat([odd, boxes[:12]]), boxes[12:]]
    for size, samples in ((6, 2), (7, 1)):
        expected = roi_align(maps, regions, size, 1 / 16, samples)
        pooled = RegionAlign(size, Layer("conv5", 5, 16), samples)({"0": maps}, regions, None)
        torch.testing.assert_close(pooled, expected)


def test_offset_positions_are_torchvisions_aligned_ones():
    maps = torch.arange(80.0).view(1, 1, 8, 10).double()
    regions = [torch.tensor([[20.0, 30, 90, 100], [0, 0, 160, 128]], dtype=torch.float64)]
    # torchvision's half pixel is one in its coordinates, where pixel 0 ends at 1; here pixel 0 is centred on 0.
    expected = roi_align(maps, [regions[0] + 0.5], 6, 1 / 16, 2, aligned=True)
    torch.testing.assert_close(
        RegionAlign(6, Layer("conv5_3", 1, 16, 7.5))({"0": maps}, regions, None), expected
    )


def test_a_photo_without_regions_gives_none():
    maps = torch.randn(2, 3, 4, 4)
    pooled = RegionAlign(6, Layer("conv5", 3, 16))(
        {"0": maps}, [torch.zeros(0, 4), torch.tensor([[0.0, 0, 20, 20]])], None
    )
    assert pooled.shape == (1, 3, 6, 6)


def test_anchors_stand_where_positions_are_centred():
    layer = Layer("conv5_3", 1, 16, offset=7.5)
    photos = ImageList(torch.zeros(1, 3, 256, 272), [(256, 272)])
    (anchors,) = StridedAnchors((32, 64), (1.0,), layer)(photos, [torch.zeros(1, 1, 17, 18)])
    anchors = anchors.view(17, 18, 2, 4)
    assert anchors[8, 7].tolist() == [[103.5, 119.5, 135.5, 151.5], [87.5, 103.5, 151.5, 167.5]]
    assert ((anchors[..., :2] + anchors[..., 2:]) / 2)[8, 7, 0].tolist() == [7 * 16 + 7.5, 8 * 16 + 7.5]


def test_background_touches_an_object():
    # IoU of five proposals with two objects.
    overlaps = torch.tensor([[0.6, 0.3, 0.05, 0.1, 0.0], [0.1, 0.2, 0.02, 0.5, 0.0]])
    matcher = FlooredMatcher(0.5, 0.1)
    background, neither = matcher.BELOW_LOW_THRESHOLD, matcher.BETWEEN_THRESHOLDS
    assert matcher(overlaps).tolist() == [0, background, neither, 1, neither]
    assert FlooredMatcher(0.5, 0.0)(overlaps).tolist() == [0, background, background, 1, background]


def test_photos_are_trained_on_at_several_scales_and_tested_at_one():
    transform = ScaleAugmentation((32, 48), 90, 64, 70)
    photo = torch.rand(3, 40, 60)
    target = {"boxes": torch.tensor([[0.0, 0, 30, 20]]), "labels": torch.tensor([1])}
    torch.manual_seed(0)
    sizes = set()
    for _ in range(12):
        images, targets = transform.train()([photo], [dict(target)])
        sizes.add(images.image_sizes[0])
        torch.testing.assert_close(
            targets[0]["boxes"][0, 2:], torch.tensor(images.image_sizes[0]).float()[[1, 0]] / 2
        )
    assert sizes == {(32, 48), (48, 72)}
    # 64 pixels would make the longer side 96.
    assert transform.eval()([photo])[0].image_sizes[0] == pytest.approx((46, 70), abs=1)


def test_given_proposals_follow_their_photos_to_a_new_size():
    target = {"proposals": torch.tensor([[10.0, 20, 30, 40]]), "size": torch.tensor([50, 100])}
    images = ImageList(torch.zeros(1, 3, 128, 224), [(100, 210)])
    (boxes,), losses = GivenProposals()(images, None, [target])
    torch.testing.assert_close(boxes, torch.tensor([[21.0, 40, 63, 80]]))
    assert losses == {}


def test_max_pooling_takes_the_highest_of_a_bin():
    maps = torch.arange(64.0).view(1, 1, 8, 8)
    pooled = RegionMaxPool(2, Layer("conv5", 1, 16))({"0": maps}, [torch.tensor([[0.0, 0, 48, 48]])], None)
    # Positions 0 to 3 of both axes, in two bins a side.
    assert pooled.flatten().tolist() == [9, 11, 25, 27]
