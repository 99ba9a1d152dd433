import pytest
import torch
from refusals import refused
from small_alexnet import small_alexnet

from pretext.backbones.initializers import he_normal_
from pretext.methods import Inpainting
from pretext.methods.inpainting import Bottleneck, overlap, random_regions, weighted_error
from pretext.methods.parts.adversarial import Discriminator


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator)


@pytest.fixture
def build(one_thread):
    def build(**arguments):
        small = {"map_size": 4, "decoder_channels": 32, "discriminator_channels": 8}
        method = Inpainting(small_alexnet("rgb"), **small | arguments)
        he_normal_(method, 0)
        return method

    return build


@pytest.mark.parametrize(("side", "begin", "end"), [(128, 32, 96), (96, 24, 72)])
def test_the_central_hole_is_the_square_of_half_the_side(build, side, begin, end):
    hole = build(mask="central").draw_holes(torch.zeros(2, 3, side, side, dtype=torch.uint8))
    expected = torch.zeros(side, side, dtype=torch.bool)
    expected[begin:end, begin:end] = True
    assert hole.shape == (2, 1, side, side)
    assert all(torch.equal(photo[0], expected) for photo in hole)
    assert hole.float().mean() == 0.25


def test_random_regions_are_smooth_shapes_of_a_quarter_anywhere():
    torch.manual_seed(0)
    regions = random_regions(400, 96, 96)
    assert torch.equal(regions.sum((1, 2, 3)), torch.full((400,), 96 * 96 // 4))
    assert not torch.equal(regions[0], regions[1])
    # White noise of this share changes at 0.375 of all neighbours.
    changes = (regions[..., 1:] != regions[..., :-1]).float().mean()
    assert 0 < changes < 0.05
    # Every pixel is hidden in a quarter of the photos, in the corners too: four deviations of 400 draws are 0.087.
    everywhere = regions.float().mean((0, 1))
    assert (everywhere - 0.25).abs().max() < 0.1


def test_random_regions_follow_from_the_seed_and_not_from_autocast():
    torch.manual_seed(3)
    regions = random_regions(4, 64, 64)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(random_regions(4, 64, 64), regions)


@pytest.mark.parametrize("mask", ["central", "random"])
def test_hidden_pixels_do_not_reach_the_encoder(build, image, mask):
    method = build(mask=mask).eval()
    hole = method.draw_holes(image)
    painted = method.paint(image, hole)
    assert torch.equal(method.paint(torch.where(hole, 255 - image, image), hole), painted)
    seen = image.clone()
    seen[:, :, ~hole[0, 0]] = 255 - seen[:, :, ~hole[0, 0]]
    assert not torch.equal(method.paint(seen, hole), painted)
    inputs = method.backbone.prepare(method.hide(image, hole))
    assert inputs[hole.expand_as(inputs)].abs().max() < 1e-6
    kept = ~hole.expand_as(inputs)
    torch.testing.assert_close(inputs[kept], method.backbone.prepare(image)[kept])


def test_the_error_counts_the_hole_once_and_its_rim_ten_times(build):
    method = build(mask="central")
    weights = method.error_weights(method.draw_holes(torch.zeros(1, 3, 128, 128, dtype=torch.uint8)))[0, 0]
    assert weights[32:96, 32:96].eq(1).all()
    assert weights.eq(10).sum() == 78 * 78 - 64 * 64
    assert weights[25, 25] == weights[102, 64] == 10
    assert weights[24, 64] == weights[64, 103] == weights[0, 0] == 0


def test_the_error_counts_random_regions_alone(build):
    hole = random_regions(3, 32, 40)
    assert torch.equal(build(mask="random").error_weights(hole), hole.float())


def test_the_overlap_scales_with_the_photo():
    assert [overlap(side, side) for side in (64, 96, 128, 224)] == [4, 5, 7, 12]


def test_the_error_is_the_weighted_mean_over_what_it_counts():
    torch.manual_seed(0)
    painted, photo = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    weights = torch.tensor([0.0, 1.0, 10.0])[torch.randint(3, (2, 1, 4, 5))]
    means = []
    for n in range(2):
        total, count = 0.0, 0
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    weight = float(weights[n, 0, y, x])
                    total += weight * float(painted[n, c, y, x] - photo[n, c, y, x]) ** 2
                    count += weight > 0
        means.append(total / count)
    error = weighted_error(painted, photo, weights)
    assert float(error) == pytest.approx(sum(means) / 2, rel=1e-5)
    elsewhere = torch.where(weights == 0, painted + 1, painted)
    assert torch.equal(weighted_error(elsewhere, photo, weights), error)


@pytest.mark.parametrize("mask", ["central", "random"])
def test_losses_are_weighted_as_they_say(mask, build, image):
    method = build(mask=mask, adversarial_weight=0.2).eval()
    torch.manual_seed(5)
    losses = method(image, torch.arange(4)).losses
    torch.manual_seed(5)
    hole = method.draw_holes(image)
    painted = method.paint(image, hole)
    photo = image / 127.5 - 1
    error = weighted_error(painted, photo, method.error_weights(hole))
    torch.testing.assert_close(losses["loss_l2"], 0.8 * error)
    shown = painted[..., 12:52, 12:52] if mask == "central" else torch.where(hole, painted, photo)
    fooled = torch.nn.functional.softplus(-method.discriminator(shown)).mean()
    torch.testing.assert_close(losses["loss_adversarial"], 0.2 * fooled)


def test_the_discriminator_sees_the_central_patch_alone(build, image):
    method = build(mask="central").eval()
    seen = []
    method.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method(image, torch.arange(4))
    patch = slice(16 - 4, 48 + 4)
    torch.testing.assert_close(seen[0], (image / 127.5 - 1)[..., patch, patch])
    painted = method.paint(image, method.draw_holes(image))
    assert all(torch.equal(inputs, painted[..., patch, patch]) for inputs in seen[1:])


def test_without_an_adversarial_weight_there_is_no_discriminator(build, image):
    method = build(adversarial_weight=0.0)
    assert not any(isinstance(module, Discriminator) for module in method.modules())
    losses, logged = method(image, torch.arange(4))
    assert losses.keys() == {"loss_l2"}
    assert not logged


def test_the_channelwise_layer_connects_all_positions_of_a_channel_and_no_channels():
    bottleneck = Bottleneck(3, 2, dropout=0.0)
    with torch.no_grad():
        # Nothing is mixed or cut off.
        bottleneck.within.weight.abs_()
        bottleneck.within.bias.abs_()
        bottleneck.across.bias.abs_()
        bottleneck.across.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
    features = torch.rand(1, 3, 2, 2)
    changed = features.clone()
    changed[0, 1, 0, 0] += 1
    difference = bottleneck(changed) - bottleneck(features)
    assert difference[0, 1].gt(0).all()
    assert not difference[0, [0, 2]].any()
    weight = bottleneck.within.weight.detach().view(3, 4, 4)
    expected = [weight[c] @ features[0, c].flatten() for c in range(3)]
    expected = (torch.stack(expected) + bottleneck.within.bias.view(3, 4)).relu()
    torch.testing.assert_close(
        bottleneck(features)[0].flatten(1), (expected + bottleneck.across.bias[:, None]).relu()
    )


def test_it_learns_to_paint_the_colour_around_the_hole(train_method):
    color = torch.tensor([[250, 10, 10], [10, 250, 10], [10, 10, 250]], dtype=torch.uint8)
    image = color.view(3, 3, 1, 1).expand(3, 3, 64, 64)
    method = Inpainting(
        small_alexnet("rgb"), mask="central", map_size=4, decoder_channels=16, discriminator_channels=8
    )
    logged = train_method(method, image, steps=12, lr=3e-3)
    assert logged[-1]["loss_l2"] < 0.25 * logged[0]["loss_l2"]


def test_the_discriminator_learns_to_tell_photos_while_the_painter_stands_still(build, image):
    method = build(mask="central")
    judge = method.discriminator
    optimizer = torch.optim.Adam(judge.parameters(), 5e-3)
    logged = []
    for _ in range(8):
        scalars = method(image, torch.arange(4))
        judge.zero_grad()
        scalars.losses["loss_discriminator"].backward()
        optimizer.step()
        scalars = {**scalars.losses, **scalars.logged}
        logged.append({name: float(value.detach()) for name, value in scalars.items()})
    assert logged[-1]["discriminator_accuracy"] == 1
    assert logged[-1]["loss_discriminator"] < 0.2 * logged[0]["loss_discriminator"]
    assert logged[-1]["loss_adversarial"] > logged[0]["loss_adversarial"]


def test_a_preview_keeps_what_was_seen(build, image):
    method = build(mask="central").eval()
    photo, hidden, painted = method.preview(image).chunk(3, 3)
    hole = method.draw_holes(image).expand_as(image)
    assert torch.equal(photo, image)
    for column in (hidden, painted):
        assert torch.equal(column[~hole], image[~hole])
    mean = (method.backbone.input_mean * 255).round().to(torch.uint8).expand_as(image)
    assert torch.equal(hidden[hole], mean[hole])
    assert not torch.equal(painted[hole], image[hole])


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"mask": "left"}, ("central", "random")),
        ({"adversarial_loss": "hinge"}, ("nonsaturating", "least_squares")),
        ({"adversarial_weight": 1.0}, "from 0 to below 1"),
        ({"dropout": 1.0}, "from 0 to below 1"),
        ({"map_size": 0}, "from 1 up"),
    ],
)
def test_bad_arguments_are_named(arguments, allowed):
    ((name, value),) = arguments.items()
    with refused(name, received=value, allowed=allowed):
        Inpainting(small_alexnet("rgb"), **arguments)


def test_gray_input_is_refused():
    with refused("inpainting", "input_space", received="lightness", allowed=("rgb",)):
        Inpainting(small_alexnet("lightness"))
