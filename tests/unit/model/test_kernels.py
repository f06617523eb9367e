"""oneDNN's products in place of MKL's: the same numbers in float32, and only where they are meant to be used."""

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from distilbart_mnli.model import kernels
from distilbart_mnli.model.bart import ShortCutBart, freeze, to_stock
from tests.support.short_cut import both, close, pairs
from tests.support.tiny import tiny_bart

if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    pytest.skip("this torch has no oneDNN", allow_module_level=True)


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, ...]]:
    """As on an AMD processor with AVX-512; the shapes of what oneDNN multiplies."""
    seen: list[tuple[int, ...]] = []
    product = kernels.product
    monkeypatch.setattr(kernels, "mkl_lacks_avx512", lambda: True)
    monkeypatch.setattr(kernels, "FEW_ROWS", 1)

    def watched(inputs, *rest):
        seen.append(tuple(inputs.shape))
        return product(inputs, *rest)

    monkeypatch.setattr(kernels, "product", watched)
    return seen


@pytest.mark.parametrize("wanted", [(True, True, True), (False, True, True), (True, False, False)])
@pytest.mark.parametrize("shape", [(7, 24), (3, 5, 24), (2, 1, 24)])
def test_a_product_and_its_gradients_are_those_of_float64(calls, shape, wanted):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator, dtype=torch.float64) for size in (shape, (40, 24), (40,))]
    ours = [t.float().requires_grad_(is_wanted) for t, is_wanted in zip(tensors, wanted, strict=True)]
    reference = [t.clone().requires_grad_(is_wanted) for t, is_wanted in zip(tensors, wanted, strict=True)]
    upstream = torch.randn(40, *shape[:-1], generator=generator, dtype=torch.float64).movedim(0, -1)  # not contiguous
    found = kernels.OneDNNProduct.apply(*ours)
    expected = linear(*reference)
    found.backward(upstream.float())
    expected.backward(upstream)
    assert len(calls) == 1 + wanted[0]
    assert close(found.double(), expected, 1e-5)
    for tensor, other in zip(ours, reference, strict=True):
        assert (tensor.grad is None) == (other.grad is None)
        if tensor.grad is not None:
            assert other.grad is not None and close(tensor.grad.double(), other.grad, 1e-5)


def test_a_classifier_computes_what_stock_computes(calls):
    """Logits, and the gradients of a student whose encoder is frozen."""
    stock, ours = both(2)
    freeze(ours, encoder=True, embeddings=True)
    ids, mask = pairs((9, 6, 17, 4))
    labels = torch.tensor([0, 1, 2, 1])
    found = ours(ids, mask)
    cross_entropy(found, labels).backward()
    used = len(calls)
    expected = stock(input_ids=ids, attention_mask=mask).logits
    cross_entropy(expected, labels).backward()
    assert used > 0 and len(calls) == used  # stock's own products are left alone
    assert close(found, expected, 1e-5)
    theirs = dict(stock.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient, other = parameter.grad, theirs[name].grad
        if name.endswith("k_proj.bias") and parameter.requires_grad:
            # Adding a constant to all scores changes no softmax: the true gradient is 0, the rest is rounding.
            assert gradient.abs().max() < 1e-6 and other.abs().max() < 1e-6, name
        elif parameter.requires_grad:
            assert close(gradient, other, 1e-5), name
    calls.clear()
    with torch.no_grad():
        assert close(ours(ids, mask), stock(input_ids=ids, attention_mask=mask).logits, 1e-5)
    assert calls


def layers(inputs: int, outputs: int, bias: bool = True) -> torch.nn.Sequential:
    model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=bias))
    kernels.choose_linear_kernels(model)
    return model


def test_nothing_is_changed_where_torch_chooses_better(calls, monkeypatch):
    inputs = torch.randn(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layers(4, 5)(inputs).dtype == torch.bfloat16
    layers(4, 5).double()(inputs.double())
    layers(4, 5).to("meta")(inputs.to("meta"))
    layers(4, 5, bias=False)(inputs)
    monkeypatch.setattr(kernels, "FEW_ROWS", 4)
    layers(4, 5)(inputs)
    assert calls == []
    monkeypatch.setattr(kernels, "mkl_lacks_avx512", lambda: False)
    assert type(layers(4, 5)[0]) is torch.nn.Linear


def test_a_saved_model_does_not_name_the_layers(calls):
    ours = ShortCutBart(tiny_bart().config)
    assert any(type(module) is kernels.OneDNNLinear for module in ours.modules())
    assert not any(type(module) is kernels.OneDNNLinear for module in to_stock(ours).modules())


@pytest.mark.parametrize(
    ("vendor", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
        ("AuthenticAMD", "DEFAULT", False),  # as on another kind of processor
        (None, "AVX512", False),
    ],
)
def test_only_amd_with_avx512_is_meant(tmp_path, monkeypatch, vendor, capability, expected):
    cpuinfo = tmp_path / "cpuinfo"
    if vendor is not None:
        cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 26\n", encoding="ascii")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert kernels.mkl_lacks_avx512.__wrapped__(cpuinfo) is expected


def test_gradient_checkpointing_computes_with_the_same_kernels_again(calls):
    """Its backward pass has the products of the plain one, and those of the decoder's layers once more."""
    ids, mask = pairs((9, 6))
    counts, gradients = [], []
    for checkpointing in (False, True):
        ours = both(3)[1].train()
        freeze(ours, encoder=True, embeddings=True)
        if checkpointing:
            ours.gradient_checkpointing_enable({"use_reentrant": False})
        calls.clear()
        states = ours.encode(ids, mask)
        encoder = len(calls)
        logits = ours(ids, mask, states)
        decoder = len(calls) - encoder - 2  # without the head's two layers
        calls.clear()
        logits.sum().backward()
        counts.append(len(calls))
        gradients.append([p.grad for p in ours.parameters() if p.grad is not None])
    assert encoder and counts[1] == counts[0] + decoder
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_packed_layers_give_what_they_gave(monkeypatch, dtype, tolerance):
    """For every number of rows; what has no bias stays as it is."""
    monkeypatch.setattr(kernels, "mkl_lacks_avx512", lambda: True)
    monkeypatch.setattr(kernels, "supports_bf16", lambda device_type: True)
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.Linear(40, 8, bias=False))
    inputs = [torch.randn(shape) for shape in ((1, 24), (3, 5, 24), (2000, 24))]
    with torch.inference_mode():
        expected = [plain[0].double()(rows.double()) for rows in inputs]
        plain.float()
        assert kernels.pack_linear_layers([plain], dtype)
        assert [type(layer) for layer in plain] == [kernels.PackedLinear, torch.nn.Linear]
        for rows, values in zip(inputs, expected, strict=True):
            found = plain[0](rows)
            assert found.dtype == dtype and close(found.double(), values, tolerance)
    monkeypatch.setattr(kernels, "mkl_lacks_avx512", lambda: False)
    assert not kernels.pack_linear_layers([torch.nn.Sequential(torch.nn.Linear(24, 40))], torch.float32)
