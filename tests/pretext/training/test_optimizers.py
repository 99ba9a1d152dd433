import pytest
import torch
from refusals import refused
from torch import nn

from pretext.training.optimizers import make_optimizer, parameter_groups


@pytest.fixture
def model():
    model = nn.ModuleDict(
        {
            "body": nn.Linear(2, 3),
            "norm": nn.BatchNorm1d(3),
            "head": nn.Linear(3, 1),
            "score": nn.Linear(3, 1),
        }
    )
    model["body"].weight.requires_grad = False
    return model


def described(model, groups):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [
        ([names[p] for p in group["params"]], group["lr"], group.get("weight_decay", "the optimizer's"))
        for group in groups
    ]


def test_weights_come_before_biases_and_norms_which_do_not_decay(model):
    groups = parameter_groups(model.named_parameters(), 0.1, bias_lr_factor=2.0)
    assert described(model, groups) == [
        (["head.weight", "score.weight"], 0.1, "the optimizer's"),
        (["body.bias", "norm.weight", "norm.bias", "head.bias", "score.bias"], 0.2, 0.0),
    ]
    groups = parameter_groups(model.named_parameters(), 0.1, decay_biases=True)
    assert [described(model, groups)[1][1:]] == [(0.1, "the optimizer's")]


def test_parts_with_a_rate_of_their_own_follow_and_empty_groups_are_left_out(model):
    factors = {("head.", "score."): 3.0, "norm.": 0.5, "gone.": 9.0}
    groups = parameter_groups(model.named_parameters(), 1.0, bias_lr_factor=2.0, rate_factors=factors)
    assert described(model, groups) == [
        (["body.bias"], 2.0, 0.0),
        (["head.weight", "score.weight"], 3.0, "the optimizer's"),
        (["head.bias", "score.bias"], 6.0, 0.0),
        (["norm.weight", "norm.bias"], 1.0, 0.0),
    ]


def test_the_config_names_the_optimizer(model):
    spec = {"type": "SGD", "lr": 0.5, "momentum": 0.9, "weight_decay": 0.1}
    optimizer = make_optimizer(spec, model.named_parameters(), bias_lr_factor=2.0)
    assert type(optimizer) is torch.optim.SGD
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.5, 0.9, 0.1),
        (1.0, 0.9, 0.0),
    ]


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({"type": "SGD"}, "optimizer.lr"),
        ({"type": "SGD", "lr": -1.0}, "optimizer.lr"),
        ({"type": "SGD", "lr": 0.1, "beta": 1}, "beta"),
    ],
)
def test_an_optimizer_that_cannot_be_is_told(model, spec, name):
    with refused(name):
        make_optimizer(spec, model.named_parameters())
