import pytest
import torch
from see_through import SeeThrough
from torch import nn

from pretext.methods.base import Method, Scalars


class TwoLosses(Method):
    """Its losses pull one weight each; what it logs besides depends on a third one."""

    name = "two_losses"

    def __init__(self):
        super().__init__(SeeThrough())
        self.weights = nn.Parameter(torch.tensor([2.0, 3.0, 5.0]))

    def forward(self, image, index, mode="loss"):
        first, second, third = self.weights
        return Scalars({"near": first, "far": 10 * second}, {"loss_ratio": third, "ratio": third + 1})


def test_the_losses_alone_are_minimised_whatever_the_scalars_are_called():
    method = TwoLosses()
    total, logged = method.parse_losses(method(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.arange(1)))
    total.backward()
    assert method.weights.grad.tolist() == [1, 10, 0]
    assert logged == {"loss": 32, "near": 2, "far": 30, "loss_ratio": 5, "ratio": 6}
    assert not any(value.requires_grad for value in logged.values())


def test_a_method_without_a_loss_cannot_be_trained():
    with pytest.raises(ValueError, match="not enough values"):
        TwoLosses().parse_losses(Scalars({}, {"accuracy": torch.tensor(1.0)}))


def test_scalars_without_their_kind_are_refused():
    method = TwoLosses()
    with pytest.raises(TypeError, match="Scalars"):
        method.parse_losses({"loss_near": method.weights[0]})
