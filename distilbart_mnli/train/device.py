"""XLA (TPU): what differs from a CPU or a GPU, in one place. torch_xla is imported only where it is.

An operation on an XLA tensor computes nothing: it is recorded. `sync` compiles what was recorded into one program and
starts it without waiting. A program whose operations and shapes were seen before is taken from a cache; any other is
compiled, which takes seconds on a CPU and minutes on a TPU. So the same few programs have to come again and again:

- Batches are full and come in a few lengths (batching.XLA_BUCKETS), in training and in evaluation.
- One program a micro-batch (`sync` after each), or there would be one for every sequence of lengths in a step.
- Gradients start as zeros and are set back to zeros: the first micro-batch of a step adds to them as the others do.
- No value is looked at between logging steps. transformers looks at every attention mask, to leave out those that mask
  nothing; `use_static_masks` keeps them all.
- What is read, is read tensor by tensor (`to_host`): stacked first, every number of tensors would be a program.

So a training has one program for each length, one for the optimizer's step (its first one, and a learning rate of
exactly 0 or 1, are programs of their own), one for each length in evaluation, and a few small ones: for each length
and number of steps the same. tests/xla counts them.
"""

from typing import Any

import torch
from accelerate.utils import is_torch_xla_available
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

STATIC_ATTENTION = "sdpa_with_every_mask"


def is_xla(device: torch.device) -> bool:
    return device.type == "xla"


def hardware(device: torch.device) -> str:
    """What is behind an XLA device: "TPU", "CPU", ..."""
    import torch_xla.core.xla_model as xm

    return xm.xla_device_hw(device)


def sync() -> None:
    """Compile what was recorded since the last call (or take it from the cache) and start it; does not wait."""
    import torch_xla

    torch_xla.sync()


def place(model: PreTrainedModel, device: torch.device) -> None:
    """Move a model. On XLA its parameters are new ones afterwards: call it before the optimizer is made.

    The token table is then three tables, which the model would train apart; they are tied again.
    """
    model.to(device)
    if is_xla(device):
        model.tie_weights()


def to_host(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Tensors of one shape, stacked, on the CPU; one wait on a CPU or GPU, one small copy a tensor on XLA."""
    if is_xla(tensors[0].device):
        return torch.stack([tensor.cpu() for tensor in tensors])
    return torch.stack(tensors).cpu()


def zero_gradients(parameters: list[nn.Parameter]) -> None:
    """Gradients of zeros, there before the first backward pass."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)


def use_static_masks(model: PreTrainedModel) -> None:
    """Attend as sdpa does, with a mask even where it masks nothing: no look at its values, one program a length."""

    def mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
        return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})

    AttentionInterface.register(STATIC_ATTENTION, sdpa_attention_forward)
    AttentionMaskInterface.register(STATIC_ATTENTION, mask)
    model.set_attn_implementation(STATIC_ATTENTION)


def seed(value: int) -> None:
    """Seed the generators that dropout draws from on this process. (torch.manual_seed leaves XLA's alone.)"""
    torch.manual_seed(value)
    if is_torch_xla_available():
        import torch_xla.core.xla_model as xm

        xm.set_rng_state(value)


def random_state() -> torch.Tensor:
    """The state of XLA's generator, uint64 []: a number that each `sync` turns into the next one."""
    import torch_xla.core.xla_model as xm

    return torch.tensor(xm.get_rng_state(), dtype=torch.uint64)


def set_random_state(state: torch.Tensor) -> None:
    """Undo random_state."""
    import torch_xla.core.xla_model as xm

    xm.set_rng_state(int(state))
