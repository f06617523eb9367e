"""AdamW's groups, and schedules that are what their names say."""

import math

import numpy as np
import pytest
import torch

from distilbart_mnli.model.bart import ShortCutBart, freeze
from distilbart_mnli.train.optimizer import group_parameters, make_schedule
from tests.support.in_process import arguments
from tests.support.tiny import tiny_config


def test_weight_decay_is_on_everything_but_biases_and_layer_norms():
    model = ShortCutBart(tiny_config())
    groups, names = group_parameters(model, 0.01)
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    flat = [parameter for group in groups for parameter in group["params"]]
    assert [id(dict(model.named_parameters())[name]) for name in names] == [id(parameter) for parameter in flat]
    decayed, free = names[: len(groups[0]["params"])], names[len(groups[0]["params"]) :]
    assert all(name.endswith(".weight") and "norm" not in name for name in decayed)
    assert all(name.endswith(".bias") or "layer_norm." in name or "layernorm" in name for name in free)
    assert len(names) == len(set(names)) == len(list(model.parameters()))
    assert (
        sum("norm" in name and name.endswith("weight") for name in free) == 2 * 2 + 2 * 3 + 2
    )  # and both embeddings'
    freeze(model, encoder=True, embeddings=True)
    assert not [name for name in group_parameters(model, 0.01)[1] if "encoder.layers" in name.replace("decoder", "")]


# ---------------------------------------------------------------------------------------------------------------------
# Schedules


def rates(steps: int, **changes) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    args = arguments(model_name_or_path="m", do_train=True, output_dir="o", learning_rate=1.0, **changes)
    schedule = make_schedule(args, optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, lambda t: 1 - t / 10),
        ({"warmup_steps": 4}, lambda t: t / 4 if t < 4 else (10 - t) / 6),
        ({"warmup_steps": 0.25}, lambda t: t / 3 if t < 3 else (10 - t) / 7),  # ceil(0.25 x 10)
        ({"warmup_steps": 1.0}, lambda t: t / 1 if t < 1 else (10 - t) / 9),  # one step, not all of them
        ({"lr_scheduler_type": "constant"}, lambda t: 1),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5}, lambda t: min(1, t / 5)),
        ({"lr_scheduler_type": "cosine"}, lambda t: (1 + math.cos(math.pi * t / 10)) / 2),
        (
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 1}},
            lambda t: (1 + math.cos(2 * math.pi * t / 10)) / 2,
        ),
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 0.0, "power": 2}},
            lambda t: (1 - t / 10) ** 2,
        ),
    ],
)
def test_schedules_are_what_their_names_say(changes, expected):
    np.testing.assert_allclose(rates(10, **changes), [expected(t) for t in range(10)], atol=1e-12)
