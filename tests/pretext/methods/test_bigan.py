import pytest
import torch
from refusals import refused
from small_alexnet import small_alexnet

from pretext.backbones import AlexNet
from pretext.backbones.initializers import he_normal_
from pretext.methods import BiGAN
from pretext.methods.parts.adversarial import Discriminator


@pytest.fixture
def image():
    """Photos that are bright at the bottom, each of its own colour."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(20, 200, 64).view(64, 1).expand(4, 3, 64, 64)
    return (ramp + 50 * torch.rand(4, 3, 1, 1, generator=generator)).to(torch.uint8)


@pytest.fixture(params=[(4, 1.0), (2, 2.0)], ids=["64 pixels", "16 pixels"])
def method(request, one_thread):
    doublings, norm = request.param
    method = BiGAN(
        small_alexnet("rgb"),
        code_length=10,
        head_hidden=64,
        generator_channels=32,
        doublings=doublings,
        discriminator_channels=8,
        discriminator_norm=norm,
    )
    he_normal_(method, 0)
    return method.train()


def test_codes_are_uniform_from_minus_one_to_one(method):
    torch.manual_seed(0)
    codes = method.draw_codes(torch.zeros(1000, 3, 1, 1, dtype=torch.uint8))
    assert codes.shape == (1000, 10)
    assert -1 <= codes.min() < -0.99
    assert 0.99 < codes.max() <= 1
    assert abs(codes.mean()) < 0.03
    assert codes.var() == pytest.approx(1 / 3, abs=0.02)


def test_photos_are_reduced_to_the_generators_size_and_range(method):
    flat = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 128, 128)
    reduced = method.reduce(flat)
    side = 4 * 2 ** len([m for m in method.generator.modules() if isinstance(m, torch.nn.Upsample)])
    assert reduced.shape == method.generate(torch.zeros(1, 10).repeat(2, 1))[:1].shape == (1, 3, side, side)
    torch.testing.assert_close(reduced[0, :, 5, 9], torch.tensor([1.0, -1.0, -0.6]))


def test_the_discriminator_gets_pairs_of_photo_and_code(method, image):
    seen = []
    method.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    torch.manual_seed(0)
    method(image, torch.arange(4))
    torch.manual_seed(0)
    code = method.draw_codes(image)
    real, fake = (method.reduce(image), method.encode(image)), (method.generate(code), code)
    # First as the discriminator learns, real and fake; then as the other player does, fake and real.
    for inputs, expected in zip(seen, (real, fake, fake, real), strict=True):
        torch.testing.assert_close(inputs, expected)
    assert [inputs[1].requires_grad for inputs in seen] == [False, False, False, True]
    assert [inputs[0].requires_grad for inputs in seen] == [False, False, True, False]


def learn(method, image, parameters, steps, lr):
    optimizer = torch.optim.Adam(parameters, lr)
    logged = []
    for step in range(steps):
        torch.manual_seed(step)
        scalars = method(image, torch.arange(len(image)))
        method.zero_grad()
        sum(scalars.losses.values()).backward()
        optimizer.step()
        scalars = {**scalars.losses, **scalars.logged}
        logged.append({name: float(value.detach()) for name, value in scalars.items()})
    return logged


def test_the_discriminator_learns_to_tell_pairs_apart_while_the_other_player_stands_still(method, image):
    others = {n: p.detach().clone() for n, p in method.named_parameters() if "discriminator" not in n}
    logged = learn(method, image, method.discriminator.parameters(), 10, 2e-3)
    assert all(entry["discriminator_accuracy"] == 1 for entry in logged[-3:])
    assert logged[-1]["loss_discriminator"] < 0.2 * logged[0]["loss_discriminator"]
    assert logged[-1]["loss_adversarial"] > logged[0]["loss_adversarial"]
    assert all(torch.equal(p, others[n]) for n, p in method.named_parameters() if n in others)


def test_the_discriminator_looks_at_photo_and_code_together(one_thread):
    # The same photos and the same codes on both sides: only which goes with which tells real from fake.
    discriminator = Discriminator(channels=8, code_length=4, hidden=64)
    he_normal_(discriminator, 0)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    signs = torch.tensor([1.0, -1.0])
    photo, code = signs.view(2, 1, 1, 1).expand(2, 3, 16, 16), signs.view(2, 1).expand(2, 4)
    for _ in range(25):
        loss = torch.nn.functional.softplus(
            torch.cat([-discriminator(photo, code), discriminator(photo, -code)])
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
    assert (discriminator(photo, code) > 0).all()
    assert (discriminator(photo, -code) < 0).all()


def test_encoder_and_generator_learn_to_fool_a_discriminator_that_stands_still(method, image):
    learn(method, image, method.discriminator.parameters(), 5, 2e-3)
    makers = [p for name, p in method.named_parameters() if "discriminator" not in name]
    judge = {name: p.detach().clone() for name, p in method.discriminator.named_parameters()}
    logged = learn(method, image, makers, 12, 5e-3)
    assert logged[-1]["loss_adversarial"] < 0.6 * logged[0]["loss_adversarial"]
    # It errs by more than a coin would, 2 ln 2.
    assert logged[0]["loss_discriminator"] < 1 < 1.5 < logged[-1]["loss_discriminator"]
    assert logged[-1]["discriminator_accuracy"] < logged[0]["discriminator_accuracy"]
    assert all(torch.equal(p, judge[name]) for name, p in method.discriminator.named_parameters())


@pytest.mark.slow
def test_generator_and_encoder_become_each_others_inverse_on_photos_of_one_gray(one_thread):
    torch.manual_seed(1)
    method = BiGAN(
        AlexNet("rgb"),
        code_length=1,
        head_size=1,
        head_hidden=32,
        generator_channels=32,
        doublings=2,
        discriminator_channels=8,
    )
    he_normal_(method, 1)

    def errors():
        """Of reconstructed photos to their own and to all photos."""
        photos = torch.arange(0, 256, 4, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
        with torch.no_grad():
            made, given = method.eval().generate(method.encode(photos)), method.reduce(photos)
        method.train()
        distances = (made[:, None] - given).abs().mean((2, 3, 4))
        return distances.diag().mean(), distances.mean()

    own, other = errors()
    assert own > 0.9 * other
    steps = 500
    optimizer = torch.optim.Adam(method.parameters(), 5e-4, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        image = torch.randint(0, 256, (16, 1, 1, 1), dtype=torch.uint8).expand(-1, 3, 32, 32)
        losses = method(image, torch.arange(16)).losses
        method.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        schedule.step()
    own, other = errors()
    assert own < 0.5 * other


def test_a_preview_shows_photo_reconstruction_and_sample(method, image):
    method.eval()
    torch.manual_seed(1)
    photo, reconstruction, sample = method.preview(image).chunk(3, 3)
    assert torch.equal(photo, image)
    torch.manual_seed(1)
    made = [method.generate(method.encode(image)), method.generate(method.draw_codes(image))]
    for column, expected in zip((reconstruction, sample), made, strict=True):
        shown = torch.nn.functional.interpolate(expected.detach(), size=(64, 64), mode="bilinear")
        torch.testing.assert_close(column / 127.5 - 1, shown, atol=0.005, rtol=0)
    assert not torch.equal(sample[0], sample[1])


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"code_length": 0}, "from 1 up"),
        ({"generator_channels": 8}, "from 32 up"),
        ({"doublings": 1}, "from 2 up"),
        ({"adversarial_loss": "hinge"}, ("nonsaturating", "least_squares")),
        ({"discriminator_rate": -1.0}, "from 0.0 up"),
        ({"discriminator_norm": 0.0}, "from 0.1 up"),
    ],
)
def test_bad_arguments_are_named(arguments, allowed):
    ((name, value),) = arguments.items()
    with refused(name, received=value, allowed=allowed):
        BiGAN(small_alexnet("rgb"), **arguments)
