import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from pretext.backbones.checkpoint import load_backbone
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
        torch.testing.assert_close(RegionAlign(size, 16, samples)({"0": maps}, regions, None), expected)


def test_a_photo_without_regions_gives_none():
    maps = torch.randn(2, 3, 4, 4)
    pooled = RegionAlign(6, 16)({"0": maps}, [torch.zeros(0, 4), torch.tensor([[0.0, 0, 20, 20]])], None)
    assert pooled.shape == (1, 3, 6, 6)


@pytest.mark.parametrize(("height", "width"), [(256, 288), (272, 256)])
def test_anchors_stand_where_positions_of_conv5_are_centred(height, width):
    backbone = load_backbone("random:alexnet", geometry="pretrain", norm="absorb").backbone
    generator = torch.Generator().manual_seed(0)
    photos = (torch.rand(1, 3, height, width, generator=generator) * 255).requires_grad_()
    features = backbone(photos, ["conv5"])["conv5"]
    (anchors,) = StridedAnchors((32, 64), (1.0,), 16)(ImageList(photos, [(height, width)]), [features])
    anchors = anchors.view(*features.shape[2:], 2, 4)
    assert anchors[8, 7].tolist() == [[96.0, 112, 128, 144], [80.0, 96, 144, 160]]
    # A position reads from as far left of its anchors' centre as right of it, and above as below.
    features[0, :, 8, 7].sum().backward()
    read = photos.grad[0].abs().sum(0).nonzero().float()
    centre = (read.amin(0) + read.amax(0)) / 2
    assert (centre - torch.tensor([128.0, 112.0])).abs().max() <= 2
