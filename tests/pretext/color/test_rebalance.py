import math

import pytest
import torch
from refusals import refused

from pretext.color import losses
from pretext.color.bins import SoftEncoder, ab_bins, to_dense
from pretext.color.losses import l2_loss, soft_cross_entropy
from pretext.color.prior import imagenet_prior
from pretext.color.rebalance import gray_mask, rebalance_weights


def example(photos=3, bins=313, neighbors=5, side=4, dtype=torch.float64):
    """Logits that require a gradient, soft targets and pixel weights."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(photos, bins, side, side, dtype=dtype, generator=generator).mul_(3).requires_grad_()
    chosen = torch.rand(photos, bins, side, side, generator=generator).topk(neighbors, dim=1).indices
    weights = torch.rand(photos, neighbors, side, side, dtype=dtype, generator=generator)
    pixel_weights = torch.rand(photos, side, side, dtype=dtype, generator=generator) * 5
    return logits, chosen, weights / weights.sum(1, keepdim=True), pixel_weights


def dense_cross_entropy(logits, indices, weights):
    """Equation 2 as it stands: -sum over all bins of target * log softmax, per pixel."""
    return -(to_dense(indices, weights, logits.shape[1]) * torch.log_softmax(logits, dim=1)).sum(dim=1)


def test_loss_is_that_of_a_loop_over_pixels():
    logits, indices, weights, pixel_weights = example(photos=2, bins=7, neighbors=3, side=2)
    total = 0.0
    for n in range(2):
        for y in range(2):
            for x in range(2):
                scores = [logits[n, q, y, x].item() for q in range(7)]
                partition = sum(math.exp(score) for score in scores)
                for k in range(3):
                    probability = math.exp(scores[indices[n, k, y, x]]) / partition
                    total -= (pixel_weights[n, y, x] * weights[n, k, y, x]).item() * math.log(probability)
    loss = soft_cross_entropy(logits, indices, weights, pixel_weights)
    assert loss.item() == pytest.approx(total / 8, abs=1e-12)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("neighbors", [1, 5, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_equals_dense(dtype, neighbors, inplace):
    logits, indices, weights, pixel_weights = example(neighbors=neighbors, dtype=dtype)
    expected = (dense_cross_entropy(logits, indices, weights) * pixel_weights).mean()
    (expected_grad,) = torch.autograd.grad(expected, logits)
    loss = soft_cross_entropy(logits * 1, indices, weights, pixel_weights, inplace)
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (grad - expected_grad).abs().max() < 1e-7


def test_without_pixel_weights_every_pixel_counts_once():
    logits, indices, weights, _ = example()
    expected = dense_cross_entropy(logits, indices, weights)
    assert soft_cross_entropy(logits, indices, weights).item() == pytest.approx(expected.mean().item())


@pytest.mark.parametrize("photos_at_once", [1, 2, 7])
def test_result_does_not_depend_on_the_pieces(monkeypatch, photos_at_once):
    threads = torch.get_num_threads()
    logits, indices, weights, pixel_weights = example(photos=3 * threads)
    expected = (dense_cross_entropy(logits, indices, weights) * pixel_weights).mean()
    monkeypatch.setattr(losses, "_TARGETS_AT_ONCE", threads * indices[0].numel() * (photos_at_once - 1))
    loss = soft_cross_entropy(logits, indices, weights, pixel_weights)
    assert loss.item() == pytest.approx(expected.item())
    grads = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    assert (grads[0] - grads[1]).abs().max() < 1e-12


def test_channels_last_logits():
    logits, indices, weights, pixel_weights = example()
    expected = (dense_cross_entropy(logits, indices, weights) * pixel_weights).mean()
    last = logits.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    loss = soft_cross_entropy(last, indices, weights, pixel_weights)
    assert loss.item() == pytest.approx(expected.item())
    grads = [torch.autograd.grad(value, leaf)[0] for value, leaf in ((loss, last), (expected, logits))]
    assert (grads[0] - grads[1]).abs().max() < 1e-12


def test_weighted_loss_has_the_gradient_of_the_gradient_only_hack():
    # The released Caffe code logs the unweighted loss and multiplies its gradient by the weights.
    logits, indices, weights, pixel_weights = example()
    entropy = dense_cross_entropy(logits, indices, weights)
    (plain,) = torch.autograd.grad(entropy.mean(), logits)
    (grad,) = torch.autograd.grad(soft_cross_entropy(logits, indices, weights, pixel_weights), logits)
    assert (grad - plain * pixel_weights.unsqueeze(1)).abs().max() < 1e-15


def test_uniform_logits_give_the_logarithm_of_the_number_of_bins():
    _, indices, weights, _ = example()
    loss = soft_cross_entropy(torch.zeros(3, 313, 4, 4), indices, weights.float())
    assert loss.item() == pytest.approx(math.log(313), abs=1e-5)


@pytest.mark.parametrize("inplace", [False, True])
def test_huge_logits_stay_finite(inplace):
    logits, indices, weights, _ = example(dtype=torch.float32)
    huge = (logits.detach().sign() * 1e4).requires_grad_()
    loss = soft_cross_entropy(huge * 1, indices, weights, inplace=inplace)
    loss.backward()
    expected = dense_cross_entropy(huge.detach().double(), indices, weights.double()).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert huge.grad.isfinite().all()


def test_half_precision_logits_are_computed_in_float32():
    logits, indices, weights, pixel_weights = example(dtype=torch.float32)
    rounded = logits.detach().bfloat16().requires_grad_()
    loss = soft_cross_entropy(rounded, indices, weights, pixel_weights, inplace=True)
    loss.backward()
    exact = rounded.detach().float().requires_grad_()
    expected = soft_cross_entropy(exact, indices, weights, pixel_weights)
    expected.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()
    assert rounded.grad.dtype == torch.bfloat16
    assert torch.equal(rounded.grad, exact.grad.bfloat16())


def test_two_half_batches_average_to_the_whole_batch():
    logits, indices, weights, pixel_weights = example(photos=4)
    pixel_weights[:2] = 0  # a normaliser that counted weights would differ between the halves
    whole = soft_cross_entropy(logits, indices, weights, pixel_weights)
    halves = [
        soft_cross_entropy(logits[part], indices[part], weights[part], pixel_weights[part])
        for part in (slice(0, 2), slice(2, 4))
    ]
    assert sum(halves).item() / 2 == pytest.approx(whole.item())


def test_without_gradients_the_logits_are_left_alone():
    logits, indices, weights, _ = example()
    before = logits.detach().clone()
    with torch.no_grad():
        loss = soft_cross_entropy(logits, indices, weights, inplace=True)
    assert not loss.requires_grad
    assert torch.equal(logits.detach(), before)
    assert loss.item() == pytest.approx(dense_cross_entropy(logits, indices, weights).mean().item())


def test_a_second_backward_is_an_error_and_never_a_wrong_gradient():
    logits, indices, weights, _ = example()
    loss = soft_cross_entropy(logits, indices, weights)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second backward pass through soft_cross_entropy"):
        loss.backward()


@pytest.mark.parametrize("inplace", [False, True])
def test_a_scaled_loss_has_a_scaled_gradient(inplace):
    logits, indices, weights, pixel_weights = example()
    expected = (dense_cross_entropy(logits, indices, weights) * pixel_weights).mean() * 0.25
    loss = soft_cross_entropy(logits * 1, indices, weights, pixel_weights, inplace) * 0.25
    grads = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    assert (grads[0] - grads[1]).abs().max() < 1e-12


def test_using_overwritten_logits_is_an_error():
    leaf, indices, weights, _ = example()
    logits = leaf * 1
    loss = soft_cross_entropy(logits, indices, weights, inplace=True) + logits.sum()
    with pytest.raises(RuntimeError, match="logits were used after soft_cross_entropy overwrote them"):
        loss.backward()


def test_overwriting_what_another_gradient_needs_is_an_error():
    leaf, indices, weights, _ = example()
    loss = soft_cross_entropy(leaf.sigmoid(), indices, weights, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gray_photos_have_no_gradient():
    logits, _, _, _ = example()
    ab = torch.tensor([[4.9, -5.0], [0.0, 5.1], [-5.1, 0.0]], dtype=torch.float64)[:, :, None, None]
    ab = ab * torch.eye(4, dtype=torch.float64)  # most pixels gray, some near the threshold
    mask = gray_mask(ab)
    assert mask.tolist() == [0, 1, 1]
    indices, weights = SoftEncoder(ab_bins()).encode(ab)
    bin_weights = rebalance_weights(imagenet_prior().probabilities)
    soft_cross_entropy(logits, indices, weights, bin_weights[indices[:, 0]] * mask[:, None, None]).backward()
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1:].flatten(1) != 0).any(dim=1).all()


def test_weights_of_the_published_prior():
    prior = imagenet_prior()
    weights = rebalance_weights(prior.probabilities)
    assert weights.min().item() == pytest.approx(0.0965, abs=5e-5)
    assert weights.max().item() == pytest.approx(6.175, abs=5e-4)
    assert weights.mean().item() == pytest.approx(5.175, abs=5e-4)
    assert weights.median().item() == pytest.approx(5.999, abs=5e-4)
    bins = prior.bins.tolist()
    for color, expected in {(10, 10): 0.383, (20, 30): 1.514, (50, 50): 4.764, (60, -100): 6.143}.items():
        assert weights[bins.index(list(color))].item() == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("skip_empty", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_mean_weight_is_one_and_empty_bins_stay_finite(mix, alpha, skip_empty):
    prior = torch.tensor([0.5, 0.3, 0.0, 0.2, 0.0], dtype=torch.float64)
    weights = rebalance_weights(prior, mix, alpha, skip_empty)
    assert weights.isfinite().all()
    assert (prior * weights).sum().item() == pytest.approx(1)
    assert weights[2] == weights.max()
    uniform = (prior > 0) / 3 if skip_empty else torch.full((5,), 0.2, dtype=torch.float64)
    expected = [((1 - mix) * prior[i] + mix * uniform[i]).item() ** -alpha for i in (0, 1, 3)]
    scale = sum(prior[i].item() * value for i, value in zip((0, 1, 3), expected, strict=True))
    assert weights[[0, 1, 3]].tolist() == pytest.approx([value / scale for value in expected])


def test_only_the_proportions_of_the_prior_matter():
    prior = imagenet_prior().probabilities
    assert torch.allclose(rebalance_weights(prior * 1000), rebalance_weights(prior))


@pytest.mark.parametrize(
    ("name", "received"), [("mix", 1.5), ("mix", -0.1), ("mix", math.nan), ("alpha", -1.0)]
)
def test_bad_rebalancing_is_refused(name, received):
    with refused(name) as info:
        rebalance_weights(torch.tensor([0.5, 0.5]), **{name: received})
    assert info.value.received is received


@pytest.mark.parametrize(
    ("prior", "values"),
    [([0.0, 0.0], "0.0 to 0.0"), ([1.5, -0.5], "-0.5 to 1.5"), ([math.nan, 1.0], "nan to nan")],
)
def test_weights_of_what_is_not_a_distribution_are_refused(prior, values):
    with pytest.raises(ValueError, match=values):
        rebalance_weights(torch.tensor(prior))


def test_l2_loss_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    pred, ab = torch.randn(2, 2, 2, 3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.tensor([1.0, 0.0], dtype=torch.float64)
    total = masked = 0.0
    for n in range(2):
        for y in range(3):
            for x in range(4):
                distance = sum((pred[n, c, y, x] - ab[n, c, y, x]).item() ** 2 for c in range(2)) / 2
                total += distance
                masked += distance * mask[n].item()
    assert l2_loss(pred, ab).item() == pytest.approx(total / 24)
    assert l2_loss(pred, ab, mask).item() == pytest.approx(masked / 24)
    assert torch.autograd.gradcheck(l2_loss, (pred, ab, mask))
