import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from refusals import refused
from small_alexnet import small_alexnet
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from pretext.backbones.initializers import he_normal_
from pretext.config import load_config
from pretext.methods import BiGAN, Inpainting
from pretext.methods.parts.adversarial import Discriminator, adversarial_losses
from pretext.training import engine
from pretext.training.fields import Spec
from pretext.training.settings import PretrainingSettings


class Pairs(nn.Module):
    """A small discriminator of pairs, with batch norm."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, first, second):
        return self.layers(torch.cat([first, second], 1)).squeeze(1)


@pytest.fixture
def players():
    torch.manual_seed(0)
    return SimpleNamespace(
        encoder=nn.Linear(3, 2),
        generator=nn.Linear(2, 3),
        discriminator=Pairs(),
        photo=torch.randn(6, 3),
        code=torch.randn(6, 2),
    )


def naive_losses(scores, kind):
    """Of both players from the scores of real and fake, written from the papers."""
    real, fake = scores
    if kind == "least_squares":
        discriminator = ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2
        return (real**2).mean() / 2 + ((fake - 1) ** 2).mean() / 2, discriminator
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    entropy = F.binary_cross_entropy_with_logits
    return entropy(real, zeros) + entropy(fake, ones), entropy(real, ones) + entropy(fake, zeros)


@pytest.mark.parametrize("kind", ["nonsaturating", "least_squares"])
def test_the_sum_gives_each_player_the_gradient_of_its_own_loss(players, kind):
    real = (players.photo, players.encoder(players.photo))
    fake = (players.generator(players.code), players.code)
    judge = copy.deepcopy(players.discriminator)
    player_loss, _ = naive_losses((judge(*real), judge(*fake)), kind)
    makers = [*players.encoder.parameters(), *players.generator.parameters()]
    expected = list(torch.autograd.grad(player_loss, makers, retain_graph=True))
    detached = [[part.detach() for part in pair] for pair in (real, fake)]
    _, judge_loss = naive_losses((judge(*detached[0]), judge(*detached[1])), kind)
    expected += torch.autograd.grad(judge_loss, list(judge.parameters()))

    losses = adversarial_losses(players.discriminator, real, fake, kind=kind)
    torch.testing.assert_close(losses.player, player_loss)
    torch.testing.assert_close(losses.discriminator, judge_loss)
    (losses.player + losses.discriminator).backward()
    trained = [*makers, *players.discriminator.parameters()]
    for parameter, gradient in zip(trained, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
        assert gradient.any()


def test_real_inputs_that_nobody_makes_are_no_part_of_the_players_loss(players):
    real = (players.photo, players.code)
    fake = (players.generator(players.code), players.code)
    losses = adversarial_losses(players.discriminator, real, fake)
    scores = players.discriminator(*fake)
    torch.testing.assert_close(
        losses.player, F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))
    )


def test_running_statistics_see_each_batch_once(players):
    real = (players.photo, players.encoder(players.photo))
    fake = (players.generator(players.code), players.code)
    alone = copy.deepcopy(players.discriminator)
    alone(*real)
    alone(*fake)
    adversarial_losses(players.discriminator, real, fake)
    for name, buffer in alone.named_buffers():
        torch.testing.assert_close(players.discriminator.get_buffer(name), buffer)
    assert players.discriminator.layers[1].num_batches_tracked == 2


@pytest.mark.parametrize(("kind", "shift"), [("nonsaturating", 0.0), ("least_squares", 0.5)])
def test_accuracy_is_the_share_of_right_answers(kind, shift):
    real, fake = torch.tensor([3.0, -1.0, 2.0]), torch.tensor([-2.0, -0.1, 0.2])
    losses = adversarial_losses(nn.Identity(), [real + shift], [fake + shift], kind=kind)
    assert losses.accuracy == pytest.approx(4 / 6)


def test_losses_are_in_single_precision_under_autocast():
    discriminator = Discriminator(channels=4, code_length=2, hidden=8)
    photo, code = torch.rand(2, 3, 32, 32), torch.rand(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert discriminator(photo, code).dtype == torch.bfloat16
        losses = adversarial_losses(discriminator, [photo, code], [-photo, code.clone().requires_grad_()])
    assert {loss.dtype for loss in losses} == {torch.float32}
    (losses.player + losses.discriminator).backward()
    assert all(parameter.grad.any() for parameter in discriminator.parameters())


@pytest.mark.parametrize("weight_norm", [1.0, 2.0])
def test_every_weight_of_the_discriminator_keeps_its_spectral_norm(one_thread, weight_norm):
    discriminator = Discriminator(channels=8, code_length=4, hidden=16, weight_norm=weight_norm)
    he_normal_(discriminator, 0)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        F.softplus(-discriminator(torch.ones(2, 3, 16, 16), torch.ones(2, 4))).mean().backward()
        optimizer.step()
        # The norm is found by one step of the power iteration in each pass.
        discriminator(torch.zeros(1, 3, 16, 16), torch.zeros(1, 4))
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 8
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert norm == pytest.approx(weight_norm, rel=0.05)


@pytest.mark.parametrize("arguments", [{"cells": 2}, {"code_length": 3, "weight_norm": 1.5}])
def test_weights_that_are_drawn_anew_have_the_norm_at_once(one_thread, arguments):
    discriminator = Discriminator(channels=8, hidden=16, **arguments)
    he_normal_(discriminator, 0)
    for layer in discriminator.eval().modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
            assert norm == pytest.approx(arguments.get("weight_norm", 1.0), rel=0.1)


@pytest.mark.parametrize("doublings", [2, 3, 4])
def test_the_discriminators_last_map_is_as_large_as_it_is_taken_to_be(one_thread, doublings):
    method = BiGAN(small_alexnet("rgb"), doublings=doublings, discriminator_norm=2.0).eval()
    shapes = []
    for layer in method.discriminator.photo:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[2:])))
    method.discriminator(torch.zeros(1, 3, method.side, method.side), torch.zeros(1, 100))
    pooled = next(i for i, m in enumerate(method.discriminator.photo) if isinstance(m, nn.AdaptiveAvgPool2d))
    assert shapes[pooled] == shapes[pooled - 1] == (method.side // 16, method.side // 16)


def test_the_methods_hand_the_norm_on(one_thread):
    for kind in (BiGAN, Inpainting):
        method = kind(small_alexnet("rgb"), discriminator_norm=2.0)
        he_normal_(method, 0)
        last = method.discriminator.eval().get_submodule("head.2").weight
        assert torch.linalg.matrix_norm(last.detach(), 2) == pytest.approx(2.0, rel=0.01)


def test_small_photos_are_refused():
    with refused("discriminator", received="15x20 pixels", allowed="16x16 pixels"):
        Discriminator(channels=8)(torch.zeros(1, 3, 15, 20))


SMALL_BIGAN = {"head_hidden": 64, "generator_channels": 32, "discriminator_channels": 8}
SMALL_INPAINTING = {"map_size": 4, "decoder_channels": 16, "discriminator_channels": 8}
METHODS = [
    (BiGAN, SMALL_BIGAN),
    (Inpainting, {"mask": "central", **SMALL_INPAINTING}),
    (Inpainting, {"mask": "random", **SMALL_INPAINTING}),
]


@pytest.fixture(params=METHODS, ids=["bigan", "central", "random"])
def method(request, one_thread):
    kind, arguments = request.param
    method = kind(small_alexnet("rgb"), discriminator_rate=0.3, **arguments)
    he_normal_(method, 0)
    return method.train()


@pytest.fixture
def image():
    return torch.randint(
        0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def settings(max_grad_norm=None, **optimizer):
    whole = PretrainingSettings.from_config(load_config("pretext", "bigan", "toyworld"))
    return replace(whole, optimizer=Spec(type="AdamW", **optimizer), max_grad_norm=max_grad_norm)


def test_the_rates_keep_their_ratio_and_the_first_is_the_configs(method):
    optimizer = engine._optimizer(method, settings(lr=1e-3))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 1e-3, 0.3e-3, 0.3e-3])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(7):
        optimizer.step()
        scheduler.step()
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([rates[0], rates[0], 0.3 * rates[0], 0.3 * rates[0]])


@pytest.mark.parametrize("optimizer", [{"lr": None}, {"lr": -1.0}, {}])
def test_an_optimiser_needs_a_rate(method, optimizer):
    with refused("optimizer.lr"):
        engine._optimizer(method, settings(**optimizer))


def test_gradients_of_two_players_are_not_clipped_together(method):
    with refused("max_grad_norm", method.name, received=1.0, allowed=(None,)):
        engine._optimizer(method, settings(max_grad_norm=1.0, lr=1e-3))


def step_losses(method, image, step):
    torch.manual_seed(step)
    return dict(method(image, torch.arange(len(image))).losses)


def test_one_optimiser_does_what_two_would(method, image):
    apart = copy.deepcopy(method)
    together = engine._optimizer(method, settings(lr=1e-3, weight_decay=0.1))
    discriminator = dict(apart.discriminator.named_parameters())
    player = {n: p for n, p in apart.named_parameters() if not n.startswith("discriminator")}

    def optimizer(parameters, rate):
        groups = [
            {"params": [p for p in parameters.values() if p.ndim > 1]},
            {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, rate, weight_decay=0.1)

    first, second = optimizer(player, 1e-3), optimizer(discriminator, 0.3e-3)
    begin = {name: p.detach().clone() for name, p in method.named_parameters()}
    for step in range(2):
        together.zero_grad()
        sum(step_losses(method, image, step).values()).backward()
        together.step()
        if step == 0:
            assert all(not torch.equal(p, begin[name]) for name, p in method.named_parameters())
        losses = step_losses(apart, image, step)
        judge = losses.pop("loss_discriminator")
        for parameters, loss in ((player, sum(losses.values())), (discriminator, judge)):
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            for parameter, gradient in zip(parameters.values(), gradients, strict=True):
                parameter.grad = gradient
        first.step()
        second.step()
    for (name, one), other in zip(method.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name, atol=1e-6, rtol=1e-5)


# The project's wrapper passes the same.
@pytest.mark.filterwarnings("ignore:.broadcast_buffers. is deprecated:FutureWarning")
def test_every_parameter_has_a_gradient_in_each_distributed_step(method, image):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        # A parameter without a gradient would make the wrapper refuse the second step.
        wrapped = DistributedDataParallel(method, broadcast_buffers=False)
        for step in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                losses = step_losses(wrapped, image, step)
            sum(losses.values()).backward()
    finally:
        dist.destroy_process_group()
    assert all(torch.isfinite(parameter.grad).all() for parameter in method.parameters())
