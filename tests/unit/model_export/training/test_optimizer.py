"""Two optimizers as one: its state is all that a training needs to go on."""

import copy

import pytest
import torch
from torch import nn

from model_export.training.optimizer import MuonAndAdamW


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def take_steps(trained: nn.Module, optimizer: MuonAndAdamW, first: int, last: int) -> None:
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + first + step))
    for step in range(first, last):
        inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        trained(inputs).square().sum().backward()
        optimizer.step()
        schedule.step()


def test_a_schedule_reaches_both_and_all_parameters_move() -> None:
    trained = model()
    before = copy.deepcopy(trained.state_dict())
    optimizer = MuonAndAdamW(trained, 0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert schedule.get_last_lr() == [0.1, 0.005]
    take_steps(trained, optimizer, 0, 2)
    assert all((trained.state_dict()[name] != value).any() for name, value in before.items())


def test_from_its_state_it_goes_on_as_if_nothing_had_happened() -> None:
    whole = model()
    optimizer = MuonAndAdamW(whole, 0.01)
    take_steps(whole, optimizer, 0, 3)
    other = copy.deepcopy(whole)
    state = copy.deepcopy(optimizer.state_dict())
    take_steps(whole, optimizer, 3, 6)

    again = MuonAndAdamW(other, 0.01)
    again.load_state_dict(state)
    for group in again.param_groups:
        group["lr"] = group["initial_lr"]
    take_steps(other, again, 3, 6)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)


class Scored(nn.Module):
    """A hidden layer and scores of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 8)
        self.class_embed = nn.Linear(8, 2)


def test_the_scores_of_new_classes_learn_faster_and_those_of_an_earlier_version_have_no_group() -> None:
    """A checkpoint of an earlier version has two groups; another number could not be loaded."""
    torch.manual_seed(0)
    assert [group["lr"] for group in MuonAndAdamW(Scored(), 0.001).param_groups] == [0.02, 0.001]
    faster = MuonAndAdamW(Scored(), 0.001, classes=10.0)
    assert [group["lr"] for group in faster.param_groups] == pytest.approx([0.02, 0.001, 0.01])
    assert [len(group["params"]) for group in faster.param_groups] == [1, 1, 2]
