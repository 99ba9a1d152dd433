import torch

from pretext.backbones import AlexNet
from pretext.backbones.initializers import he_normal_
from pretext.training.recalibration import recalibrate_batch_norm


def test_whole_photos_have_mean_zero_and_variance_one_behind_every_batch_norm():
    backbone = AlexNet("rgb", channels=(8, 16, 16, 16, 16))
    he_normal_(backbone, 0)
    generator = torch.Generator().manual_seed(0)
    batches = [
        torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=generator) for _ in range(4)
    ]
    # What it was trained on was much darker.
    backbone.train()
    for batch in batches:
        backbone(batch // 8, ["conv5"])
    weights = {name: p.clone() for name, p in backbone.named_parameters()}
    backbone.eval()
    recalibrate_batch_norm(backbone, batches)
    assert not backbone.training
    assert all(torch.equal(p, weights[name]) for name, p in backbone.named_parameters())
    seen = {}
    for name, module in backbone.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.momentum == 0.1
            assert module.num_batches_tracked == 4
            module.register_forward_hook(
                lambda module, args, out, name=name: seen.update({name: out.clone()})
            )
    backbone(torch.cat(batches), ["conv5"])
    assert len(seen) == 5
    for normalised in seen.values():
        mean, variance = normalised.mean((0, 2, 3)), normalised.var((0, 2, 3))
        assert mean.abs().max() < 0.1
        assert (variance - 1).abs().max() < 0.25


def test_the_mean_over_batches_is_that_of_a_plain_loop():
    backbone = AlexNet("rgb", channels=(8, 16, 16, 16, 16))
    he_normal_(backbone, 0)
    batches = [torch.full((2, 3, 32, 32), 40 * k, dtype=torch.uint8) for k in range(1, 4)]
    first = []
    conv = next(module for module in backbone.modules() if isinstance(module, torch.nn.Conv2d))
    conv.register_forward_hook(lambda module, args, out: first.append(out.mean((0, 2, 3))))
    recalibrate_batch_norm(backbone, batches)
    norm = next(module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d))
    torch.testing.assert_close(norm.running_mean, torch.stack(first).mean(0), atol=1e-5, rtol=1e-4)
