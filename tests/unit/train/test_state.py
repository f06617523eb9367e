"""Optimizer, schedule and generators come back bit for bit, and what differs between two recipes is named."""

import json

import pytest
import torch
from transformers import get_scheduler

from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS, SCHEDULES
from distilbart_mnli.train import state as train_state
from distilbart_mnli.train.device import Device
from distilbart_mnli.train.optimizer import plain_state
from distilbart_mnli.train.recipe import recipe_difference
from distilbart_mnli.train.record import same_keys

NEEDED = {
    "warmup_stable_decay": {"num_decay_steps": 3},
    "cosine_with_min_lr": {"min_lr": 1e-3},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-3},
}


def test_optimizer_states_come_back_bit_for_bit(tmp_path):
    def parameters() -> list[torch.nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        return [torch.nn.Parameter(torch.randn(4, 3, generator=generator)) for _ in range(3)]

    def make(values):
        groups = [{"params": values[:2], "weight_decay": 0.1}, {"params": values[2:], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.1, betas=(0.8, 0.9), fused=True)
        return optimizer, get_scheduler("linear", optimizer, 2, 10)

    def step(values, optimizer, scheduler, number):
        for index, value in enumerate(values):
            value.grad = torch.full_like(value, 0.1 * number + index)
        optimizer.step()
        scheduler.step()

    straight = parameters()
    optimizer, scheduler = make(straight)
    for number in range(6):
        if number == 3:
            groups = train_state.save_optimizer(optimizer, ["a", "b.c", "d/e"], tmp_path / "optimizer.safetensors")
            # Through JSON, as in a checkpoint.
            saved = json.loads(json.dumps([groups, plain_state(scheduler.state_dict())]))
            values = [value.detach().clone() for value in straight]
        step(straight, optimizer, scheduler, number)
    again = [torch.nn.Parameter(value) for value in values]
    optimizer, scheduler = make(again)
    tensors = train_state.load_file(tmp_path / "optimizer.safetensors")
    train_state.load_optimizer(optimizer, ["a", "b.c", "d/e"], tensors, saved[0])
    scheduler.load_state_dict({**scheduler.state_dict(), **saved[1]})
    for number in range(3, 6):
        step(again, optimizer, scheduler, number)
    assert all(torch.equal(one, two) for one, two in zip(straight, again, strict=True))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_goes_on_where_it_was(name):
    def make():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        kwargs = NEEDED.get(name)
        if name == "reduce_lr_on_plateau":
            kwargs = {"patience": 1}
        return optimizer, get_scheduler(name, optimizer, 2, 10, scheduler_specific_kwargs=kwargs)

    def step(optimizer, scheduler) -> float:
        optimizer.step()
        scheduler.step(*[1.0] * (name in FOLLOW_EVALUATIONS))  # a metric that never improves
        return optimizer.param_groups[0]["lr"]

    optimizer, scheduler = make()
    rates = []
    for number in range(9):
        if number == 4:
            saved = json.loads(json.dumps(plain_state(scheduler.state_dict())))
            rate = optimizer.param_groups[0]["lr"]
        rates.append(step(optimizer, scheduler))
    optimizer, scheduler = make()
    optimizer.param_groups[0]["lr"] = rate
    scheduler.load_state_dict({**scheduler.state_dict(), **saved})
    assert [step(optimizer, scheduler) for _ in range(4, 9)] == rates[4:]


def test_random_states_of_twelve_processes_keep_their_order(tmp_path):
    """Twelve, because the names "10" and "2" sort as text in the wrong order."""
    states = [{"cpu": torch.Generator().manual_seed(number).get_state()} for number in range(12)]
    train_state.save_random_states(states, tmp_path / "random_states.safetensors")
    loaded = train_state.load_random_states(tmp_path / "random_states.safetensors")
    assert all(torch.equal(one["cpu"], two["cpu"]) for one, two in zip(states, loaded, strict=True))
    torch.manual_seed(7)
    drawn = torch.rand(3)
    Device(torch.device("cpu")).set_random_state(loaded[7])
    assert torch.equal(torch.rand(3), drawn)


def test_the_difference_of_recipes_is_named():
    then = {"seed": 1, "model": "a" * 64, "dropout": None, "kept": 1}
    now = {"seed": 2, "model": "b" * 64, "dropout": 0.1, "kept": 1}
    expected = f'dropout: null -> 0.1, model: "{"a" * 12}" -> "{"b" * 12}", seed: 1 -> 2'
    assert recipe_difference(then, now) == expected
    assert recipe_difference(then, then) is None


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_the_same_keys_at_its_beginning_and_later(name):
    """What a checkpoint of this release is recognised by."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    kwargs = {"patience": 1} if name == "reduce_lr_on_plateau" else NEEDED.get(name)
    scheduler = get_scheduler(name, optimizer, 2, 10, scheduler_specific_kwargs=kwargs)
    fresh = json.loads(json.dumps([plain_state(scheduler.state_dict()), train_state.group_values(optimizer)]))
    for _ in range(5):
        optimizer.step()
        scheduler.step(*[1.0] * (name in FOLLOW_EVALUATIONS))
    same_keys([plain_state(scheduler.state_dict()), train_state.group_values(optimizer)], fresh, "state")
