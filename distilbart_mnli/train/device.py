"""What a run computes on: a CPU, a GPU, or XLA (TPU). All that differs between them is said here, in one object.

    device = device_for(accelerator)        # Device, or XLADevice
    device.place(model); device.mark_step(); device.random_state()

An operation on an XLA tensor computes nothing: it is recorded. `mark_step` compiles what was recorded into one program
and starts it without waiting. A program whose operations and shapes were seen before is taken from a cache; any other
is compiled, which takes seconds on a CPU and minutes on a TPU. So the same few programs have to come again and again:

- Batches are full and come in a few lengths (batches.XLA_BUCKETS), in training and in evaluation.
- One program a micro-batch (`mark_step` after each), or there would be one for every sequence of lengths in a step.
- Gradients start as zeros and are set back to zeros: the first micro-batch of a step adds to them as the others do.
- No value is looked at between logging steps. transformers looks at every attention mask, to leave out those that mask
  nothing; XLADevice keeps them all.
- What is read, is read tensor by tensor (`to_host`): stacked first, every number of tensors would be a program.

So a training has one program for each length, one for the optimizer's step (its first one, and a learning rate of
exactly 0 or 1, are programs of their own), one for each length in evaluation, and a few small ones: for each length
and number of steps the same. tests/xla counts them. torch_xla is imported only where it is.
"""

import os
import pickle
import platform
import re
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, is_torch_xla_available
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from distilbart_mnli import processes
from distilbart_mnli.data.batches import XLA_BUCKETS
from distilbart_mnli.model.kernels import mkl_lacks_avx512
from distilbart_mnli.processes import warn_once

STATIC_ATTENTION = "sdpa_with_every_mask"

FLOAT32_ONLY = {
    "mps": "Apple's GPU: this run computes in float32",
    # accelerate's bf16 there is XLA_USE_BF16, which made the weights bf16 too and is to go away in torch_xla 2.8.
    "xla": "XLA: this run computes in float32 (a TPU multiplies in bf16 by itself)",
}
"""Types of devices without autocast, and what to say of it."""


class Device:
    """A CPU or a GPU."""

    static_shapes = False
    """Whether every batch must have the same number of rows, and gradients keep their memory."""
    buckets: tuple[int, ...] = ()
    """The only padded lengths; empty: any."""
    no_encoder_cache: str | None = None
    """Why there is no encoder cache here."""
    agree_steps = 1
    """In every which step the processes ask each other whether one was signalled."""
    every_rank_loads = False
    """Whether every process reads a checkpoint's weights; else the first one's travel when the model is wrapped."""

    def __init__(self, torch_device: torch.device):
        self.torch_device = torch_device

    @property
    def is_cuda(self) -> bool:
        return self.torch_device.type == "cuda"

    def __str__(self) -> str:
        """ "cuda:0 (NVIDIA H100, 79 GiB)", "cpu (2 threads a process, 2 cores)"."""
        if self.is_cuda:
            found = torch.cuda.get_device_properties(self.torch_device)
            return f"{self.torch_device} ({found.name}, {found.total_memory / 2**30:.0f} GiB)"
        if self.torch_device.type == "cpu":
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            return f"cpu ({counted(torch.get_num_threads(), 'thread')} a process, {counted(cores, 'core')})"
        return str(self.torch_device)

    def decides_bits(self) -> dict[str, Any]:
        """What the last bits of a result depend on here, beside what is computed and the libraries."""
        if self.is_cuda:
            found = {"device": torch.cuda.get_device_name(self.torch_device), "cuda": torch.version.cuda}
            return {**found, "float32_products": torch.get_float32_matmul_precision()}
        return {
            "device": f"{self.torch_device.type}: {processor_name()}",
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "linear_kernels": "oneDNN" if mkl_lacks_avx512() else "torch's choice",
        }

    def place(self, model: PreTrainedModel) -> None:
        """Move a model here, before its optimizer is made."""
        model.to(self.torch_device)

    def keep_shapes_static(self, model: PreTrainedModel) -> None:
        """Prepare a model whose operations must not depend on values; they may here."""

    def mark_step(self) -> None:
        """Start what was recorded; nothing is recorded here."""

    def to_host(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape, stacked, on the CPU; one wait."""
        return torch.stack(tensors).cpu()

    def prepare_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Before the first backward pass."""

    def seed(self, value: int) -> None:
        """Seed the generators that dropout draws from on this process."""
        torch.manual_seed(value)

    def random_state(self) -> dict[str, torch.Tensor]:
        """The generators that dropout draws from on this process, by name."""
        states = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state()
        return states

    def set_random_state(self, states: dict[str, torch.Tensor]) -> None:
        """Undo random_state."""
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"])


class XLADevice(Device):
    """A TPU, or whatever else torch_xla computes on."""

    static_shapes = True
    buckets = XLA_BUCKETS
    no_encoder_cache = "XLA has no encoder cache"
    agree_steps = 10  # the question goes through the devices, and the hosts wait for them
    every_rank_loads = True  # nothing wraps the model, and all processes see the same disk

    def __str__(self) -> str:
        import torch_xla.core.xla_model as xm

        return f"{self.torch_device} ({xm.xla_device_hw(self.torch_device)})"

    def decides_bits(self) -> dict[str, Any]:
        import torch_xla.core.xla_model as xm

        return {"device": xm.xla_device_hw(self.torch_device)}

    def place(self, model: PreTrainedModel) -> None:
        """Its parameters are new ones afterwards, the token table three, which would be trained apart: tied again."""
        model.to(self.torch_device)
        model.tie_weights()

    def keep_shapes_static(self, model: PreTrainedModel) -> None:
        """Attend as sdpa does, with a mask even where it masks nothing: no look at values, one program a length."""

        def mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
            return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})

        AttentionInterface.register(STATIC_ATTENTION, sdpa_attention_forward)
        AttentionMaskInterface.register(STATIC_ATTENTION, mask)
        model.set_attn_implementation(STATIC_ATTENTION)

    def mark_step(self) -> None:
        """Compile what was recorded since the last call (or take it from the cache) and start it; does not wait."""
        import torch_xla

        torch_xla.sync()

    def to_host(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([tensor.cpu() for tensor in tensors])

    def prepare_gradients(self, parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.mark_step()

    def seed(self, value: int) -> None:
        import torch_xla.core.xla_model as xm

        super().seed(value)
        xm.set_rng_state(value)

    def random_state(self) -> dict[str, torch.Tensor]:
        import torch_xla.core.xla_model as xm

        # A number, uint64 [], that each `mark_step` turns into the next one.
        return {**super().random_state(), "xla": torch.tensor(xm.get_rng_state(), dtype=torch.uint64)}

    def set_random_state(self, states: dict[str, torch.Tensor]) -> None:
        import torch_xla.core.xla_model as xm

        super().set_random_state(states)
        if "xla" in states:
            xm.set_rng_state(int(states["xla"]))


def device_for(accelerator: Accelerator) -> Device:
    """The device of this process."""
    if accelerator.distributed_type != DistributedType.XLA:
        return Device(accelerator.device)
    if accelerator.num_processes > 1:
        processes.exchange = _rendezvous
    return XLADevice(accelerator.device)


def _rendezvous(value: object) -> list:
    import torch_xla.core.xla_model as xm

    # XLA's processes have no torch process group; its rendezvous carries bytes. Pickled, as in torch's own
    # all_gather_object: random states and moments are tensors, and the bytes come from this run's processes alone.
    return [pickle.loads(found) for found in xm.rendezvous("gather_objects", pickle.dumps(value))]


# ---------------------------------------------------------------------------------------------------------------------
# Before there is one


def choose_device_type(use_cpu: bool, world_size: int) -> str:
    """ "cpu", "cuda", "mps", "xla", ...: what this process will compute on."""
    if is_torch_xla_available():
        if use_cpu and os.environ.get("PJRT_DEVICE") != "CPU":
            warn_once("use_cpu: accelerate takes XLA wherever torch_xla is installed; USE_TORCH_XLA=0 keeps it out")
        return "xla"
    if use_cpu or not torch.accelerator.is_available():
        return "cpu"
    found = torch.accelerator.current_accelerator()
    assert found is not None
    if found.type == "mps" and world_size > 1:
        return "cpu"  # Apple's GPU has no communication library; several processes can only meet on the CPU
    return found.type


def is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class of its own for it, the CPU's allocator only a message."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor is called; where the system does not say, its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def counted(number: int, noun: str = "process") -> str:
    """ "1 process", "2 processes", "4 threads"."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number} {noun if number == 1 else plural}"
