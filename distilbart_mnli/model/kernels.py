"""Which of torch's kernels compute a model, where its own choice is slow on some processors."""

import contextlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel


def attention_kernels(device_type: str, precision: str) -> contextlib.AbstractContextManager[None]:
    """While open, how scaled_dot_product_attention is computed; for a training step, its backward pass included.

    Under bf16 autocast on a CPU: as two products and a softmax. torch's fused kernel has a backward pass there that
    does not use the processor's bf16 products: it took 43 % of the step of a student with two full decoder layers, and
    without it the step was 1.66 times as fast (32 x 40 tokens, d_model 384, one thread of an AMD EPYC with
    avx512_bf16, torch 2.13; in float32 the two were equal). Everywhere else: what torch chooses.

    Args:
        device_type: as torch.device.type names it.
        precision: "no", "bf16" or "fp16", accelerate's mixed precision.
    """
    if device_type == "cpu" and precision == "bf16":
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()


def supports_bf16(device_type: str) -> bool:
    """Whether the device multiplies bf16 matrices itself; taken for granted of an accelerator that is not CUDA's."""
    if device_type == "cpu":
        # x86: AVX512-BF16 or AMX. Arm: oneDNN answers for the instruction (on x86 it also says yes where it emulates).
        found = torch.cpu.get_capabilities()
        if found.get("architecture") == "x86_64":
            return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device_type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def choose_linear_kernels(model: nn.Module) -> None:
    """Where MKL is slow, let the model's linear layers multiply by oneDNN, in place. Weights and names stay.

    torch leaves float32 products to MKL, which has its AVX-512 kernels for Intel's processors only. On one of AMD that
    has AVX-512, oneDNN's, which torch brings too, are more than twice as fast (230 against 105 billion operations a
    second: 2048 x 384 x 1536, one thread of an AMD EPYC, torch 2.13), and they round in float32 as MKL's do.
    """
    if mkl_lacks_avx512():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDNNLinear  # the same fields, another forward


# Of 4 rows MKL's product was faster (384 x 384: 23 against 34 microseconds), of 16 and more oneDNN's.
FEW_ROWS = 16


class OneDNNLinear(nn.Linear):
    """nn.Linear; in float32 on a CPU, from FEW_ROWS rows on, by oneDNN; in anything else as it is."""

    def forward(self, input: Tensor) -> Tensor:
        by_onednn = (
            not torch.compiler.is_compiling()  # inductor does not take this operator in
            and input.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and self.bias is not None
            and input.dtype == self.weight.dtype == torch.float32
            and input.numel() >= FEW_ROWS * self.in_features
        )
        return OneDNNProduct.apply(input, self.weight, self.bias) if by_onednn else super().forward(input)


class OneDNNProduct(torch.autograd.Function):
    """inputs [..., in_features] x weight [out_features, in_features] + bias, and its gradients."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
        return product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            product(gradient, weight.t()) if ctx.needs_input_grad[0] else None,
            # By MKL: oneDNN copies both transposed operands first (555 instead of 668 MB in all, 12-3 at d_model 256).
            rows.t() @ inputs.reshape(-1, inputs.shape[-1]) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


def pack_linear_layers(modules: Iterable[nn.Module], dtype: torch.dtype) -> bool:
    """For inference on a CPU: let oneDNN multiply linear layers in `dtype`, with weights that it lays out once.

    In place, of float32 modules; the weights cannot be read, saved or trained afterwards. What lies between the
    products stays float32. In float32, results keep their bits (a student of 6-1 layers at d_model 384, AMD EPYC with
    avx512_bf16, torch 2.13: 1.07 times as fast).

    Returns:
        Whether oneDNN is the one to multiply this dtype here; otherwise nothing is changed.
    """
    if not (mkl_lacks_avx512() if dtype == torch.float32 else supports_bf16("cpu") and has_onednn_product()):
        return False
    for module in modules:
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear) and child.bias is not None:
                    setattr(parent, name, PackedLinear(child, dtype))
    return True


class PackedLinear(nn.Module):
    """What a linear layer gives in some dtype, by weights in oneDNN's own order."""

    TOKENS = 1024  # of the products that the order suits best; it holds for any number

    def __init__(self, linear: nn.Linear, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.bias = dtype, nn.Parameter(linear.bias.detach().to(dtype), requires_grad=False)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype), self.TOKENS)

    def forward(self, inputs: Tensor) -> Tensor:
        return product(inputs.to(self.dtype), self.packed, self.bias)


def product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """inputs [..., in] x weight [out, in] transposed (+ bias), by the operator that inductor calls for it."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


def has_onednn_product() -> bool:
    """Whether this torch has the operators that `product` and `PackedLinear` call."""
    names = ("_linear_pointwise", "_reorder_linear_weight")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


@cache
def mkl_lacks_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """True on an AMD processor that has AVX-512, if this torch has oneDNN's product."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not has_onednn_product() or not cpuinfo.exists():
        return False
    return re.search(r"^vendor_id.*AuthenticAMD", cpuinfo.read_text("utf-8", "replace"), re.MULTILINE) is not None
