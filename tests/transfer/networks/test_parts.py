from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pretext.backbones.checkpoint import build
from pretext.backbones.initializers import he_normal_
from transfer.networks.parts import Conv5, FullyConnected
from transfer.protocols.table import load_stage_config

SETTINGS = load_stage_config(
    "voc-classification",
    overrides=["batch_norm=train", "mixed_precision=None", "fc6_size=3", "fc_channels=8"],
)
FEW = {"channels": (16, 32, 32, 32, 32)}


def random_backbone(architecture="alexnet", **arguments):
    backbone = build(architecture, arguments)
    he_normal_(backbone, 0)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return backbone.eval()


def photos(size=64):
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("architecture", "layer", "channels"),
    [("alexnet", "conv5", 256), ("vgg16", "conv5_3", 512), ("colornet", "conv5", 512)],
)
def test_it_ends_at_the_last_convolution_of_block_5(architecture, layer, channels):
    conv5 = Conv5(build(architecture, {}), SETTINGS, trained=True)
    assert (conv5.layer.name, conv5.out_channels) == (layer, channels)
    assert conv5(photos(32)).shape[1] == channels


@pytest.mark.parametrize(
    ("batch_norm", "trained", "moving"),
    [("train", True, True), ("frozen", True, False), ("train", False, False)],
)
def test_batch_norm_moves_only_where_it_is_trained(batch_norm, trained, moving):
    conv5 = Conv5(random_backbone(**FEW), replace(SETTINGS, batch_norm=batch_norm), trained).train()
    before = {name: value.clone() for name, value in conv5.state_dict().items()}
    conv5(photos())
    changed = {name for name, value in conv5.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == (
        {name for name in before if "running" in name or "tracked" in name} if moving else set()
    )
    learning = {name for name, weight in conv5.named_parameters() if weight.requires_grad}
    assert any(".norm." in name for name in learning) == moving
    assert any(".conv." in name for name in learning) == trained
    conv5.eval()
    assert not any(module.training for module in conv5.modules())


@pytest.mark.parametrize("geometry", ["pretrain", "evaluation"])
def test_the_backbones_own_fc6_and_fc7_give_what_they_gave_in_it(geometry):
    arguments = {"fully_connected": True, "norm": "batch_no_affine", "groups": 2, **FEW}
    published = random_backbone(geometry="evaluation", **arguments)
    backbone = build("alexnet", arguments | {"geometry": geometry})
    backbone.load_state_dict(published.state_dict())
    fully_connected = FullyConnected(backbone.eval(), 32, SETTINGS, True, 0).eval()
    assert (fully_connected.size, fully_connected.out_channels) == (6, 4096)
    with torch.no_grad():
        expected = published(photos(227), ["conv5", "pool5", "fc7"])
        # 13 x 13 positions: adaptive pooling is the network's own.
        pooled = F.adaptive_max_pool2d(expected["conv5"], 6)
        assert torch.equal(pooled, expected["pool5"])
        torch.testing.assert_close(fully_connected(pooled), expected["fc7"].flatten(1), atol=1e-4, rtol=1e-4)
    assert "fc7" in backbone.layer_names


def test_new_layers_follow_from_the_seed_and_drop_only_in_training():
    backbone = random_backbone(**FEW)
    first, same, other = (FullyConnected(backbone, 4, SETTINGS, True, seed) for seed in (1, 1, 2))
    pooled = torch.rand(50, 4, 3, 3)
    features = first.eval()(pooled)
    assert features.shape == (50, 8)
    assert torch.equal(features, same.eval()(pooled))
    assert not torch.equal(features, other.eval()(pooled))
    assert not torch.equal(first.train()(pooled), features)


def test_mixed_precision_returns_float32_near_the_exact_features():
    backbone = random_backbone(**FEW)
    exact = Conv5(backbone, SETTINGS, trained=False)(photos_ := photos())
    mixed = Conv5(backbone, replace(SETTINGS, mixed_precision="bfloat16"), trained=False)(photos_)
    assert mixed.dtype == torch.float32
    assert (mixed - exact).norm() < 0.03 * exact.norm()
