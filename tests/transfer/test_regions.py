import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from pretext.backbones.base import Layer
from transfer.regions import RegionAlign, StridedAnchors


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
