"""The short cut is exact: logits, gradients and an optimizer step are those of stock transformers.

The reference is always `BartForSequenceClassification` with the same weights on the same input, all dropout at 0.
Tolerances are those of docs/speed.md: 1e-5 relative in float32, 2e-2 under bf16 autocast.
"""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from distilbart_mnli.model.bart import freeze, last_eos_position
from tests.support.short_cut import LENGTHS, both, close, pairs

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


def autocast(dtype: str):
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")


def gradients(model, logits_of, labels) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    logits = logits_of(model)
    cross_entropy(logits.float(), labels).backward()
    return logits.detach().float(), {name: p.grad.clone() for name, p in model.named_parameters()}


CASES = [
    pytest.param(layers, attention, side, LENGTHS, dtype, id=f"{layers}-{attention}-{side}-{dtype}")
    for layers in (1, 2, 3)
    for attention in ("sdpa", "eager")
    for side in ("right", "left")
    for dtype in ("float32", "bfloat16")
] + [
    pytest.param(2, attention, "right", (lengths,), "float32", id=f"one row of {lengths}, {attention}")
    for attention in ("sdpa", "eager")
    for lengths in (3, 12)
]


@pytest.mark.parametrize(("layers", "attention", "side", "lengths", "dtype"), CASES)
def test_logits_and_gradients_are_those_of_stock(layers, attention, side, lengths, dtype):
    stock, ours = both(layers, attention)
    # Stock counts eos per row and wants the same number in each: the row of 3 tokens has two.
    lengths = [n for n in lengths if n > 3] or lengths
    ids, mask = pairs(lengths, side)
    labels = torch.arange(len(lengths)) % 3
    with autocast(dtype):
        expected, expected_gradients = gradients(stock, lambda m: m(ids, attention_mask=mask).logits, labels)
        found, found_gradients = gradients(ours, lambda m: m(ids, mask), labels)
    assert close(found, expected, TOLERANCE[dtype])
    assert found_gradients.keys() == expected_gradients.keys()
    if dtype == "bfloat16":
        # bf16 rounds every product to 3 digits, so single tensors of a toy differ by more between any two orders of
        # summation; the whole gradient does not.
        flat = [torch.cat([g.flatten() for g in grads.values()]) for grads in (found_gradients, expected_gradients)]
        assert (flat[0] - flat[1]).norm() <= TOLERANCE[dtype] * flat[1].norm()
        return
    for name, gradient in expected_gradients.items():
        if name.endswith("k_proj.bias"):
            # Adding a constant to all scores changes no softmax: the true gradient is 0, the rest is rounding.
            assert found_gradients[name].abs().max() < 1e-6 and gradient.abs().max() < 1e-6, name
        else:
            assert close(found_gradients[name], gradient, TOLERANCE[dtype]), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_one_optimizer_step_is_that_of_stock(layers, attention, dtype):
    stock, ours = both(layers, attention)
    before = both(layers, attention)[0].state_dict()
    ids, mask = pairs([9, 6, 17, 4])
    labels = torch.tensor([0, 2, 1, 1])
    for model, logits_of in ((stock, lambda m: m(ids, attention_mask=mask).logits), (ours, lambda m: m(ids, mask))):
        # Not Adam: its first step is the sign of the gradient, which for a gradient of 0 is the sign of the rounding.
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with autocast(dtype):
            gradients(model, logits_of, labels)
        optimizer.step()
    steps: list[list[torch.Tensor]] = [[], []]
    for (name, expected), found in zip(stock.state_dict().items(), ours.state_dict().values(), strict=True):
        steps[0].append((found - before[name]).flatten())
        steps[1].append((expected - before[name]).flatten())
        if dtype == "float32":
            assert close(found, expected, 1e-5), name
    assert sum(bool(step.any()) for step in steps[1]) > 20
    found, expected = map(torch.cat, steps)
    assert (found - expected).norm() <= TOLERANCE[dtype] * expected.norm()


def test_an_adamw_step_is_that_of_stock_where_the_gradient_is_not_zero():
    stock, ours = both(2)
    ids, mask = pairs([9, 6, 17, 4])
    labels = torch.tensor([0, 2, 1, 1])
    kept = {}
    for model, logits_of in ((stock, lambda m: m(ids, attention_mask=mask).logits), (ours, lambda m: m(ids, mask))):
        # Epsilon well above the rounding of a gradient, so that a zero gradient makes a zero step in both.
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, eps=1e-2)
        kept = gradients(model, logits_of, labels)[1]
        optimizer.step()
    assert kept
    for (name, expected), found in zip(stock.state_dict().items(), ours.state_dict().values(), strict=True):
        assert close(found, expected, 1e-5), name


def test_what_stands_in_the_padding_changes_nothing():
    _, ours = both(2)
    ids, mask = pairs()
    other = torch.where(mask.bool(), ids, torch.full_like(ids, 77))
    wider = torch.nn.functional.pad(ids, (0, 8), value=1), torch.nn.functional.pad(mask, (0, 8))
    with torch.no_grad():
        expected = ours(ids, mask)
        assert close(ours(other, mask), expected, 1e-6)
        assert close(ours(*wider), expected, 1e-6)
        for row, length in enumerate(LENGTHS):
            assert close(ours(ids[row : row + 1, :length], mask[row : row + 1, :length]), expected[row], 1e-5)


def test_a_text_with_a_literal_end_token_is_read_at_its_last_one_and_leaves_other_rows_alone():
    stock, ours = both(2)
    ids, mask = pairs([9, 8])
    with torch.no_grad():
        expected = ours(ids, mask)
        ids[0, 2] = 2  # a fourth eos in row 0
        with pytest.raises(ValueError, match="same number of <eos>"):
            stock(ids, attention_mask=mask)
        found = ours(ids, mask)
        alone = stock(ids[:1], attention_mask=mask[:1]).logits
    assert torch.equal(found[1], expected[1])
    assert close(found[:1], alone, 1e-5)
    assert not torch.allclose(found[0], expected[0])


def test_a_text_with_a_literal_pad_token_is_as_in_stock_and_leaves_other_rows_alone():
    stock, ours = both(2)
    ids, mask = pairs([9, 8])
    with torch.no_grad():
        expected = ours(ids, mask)
        ids[0, 2] = 1
        found = ours(ids, mask)
        assert close(found, stock(ids, attention_mask=mask).logits, 1e-5)
    assert torch.equal(found[1], expected[1])


def test_the_last_eos_is_found_by_arithmetic():
    ids = torch.tensor(
        [[0, 5, 2, 2, 6, 2, 1, 1], [0, 2, 2, 7, 8, 9, 9, 2], [1, 1, 0, 2, 2, 7, 2, 1], [5, 5, 5, 5, 5, 5, 5, 5]]
    )
    assert last_eos_position(ids, 2).tolist() == [5, 7, 6, 0]


@pytest.mark.slow
def test_no_shape_depends_on_the_data():
    """A graph that is exported for symbolic sizes gives the logits of the model at other sizes."""
    _, ours = both(2, "eager")
    ids, mask = pairs()
    sizes = {0: torch.export.Dim("batch", min=2, max=64), 1: torch.export.Dim("length", min=4, max=128)}
    with torch.no_grad():
        exported = torch.export.export(ours, (ids, mask), dynamic_shapes=(sizes, sizes), strict=False)
        other_ids, other_mask = pairs((30, 5, 6, 7, 8, 31, 12))
        assert close(exported.module()(other_ids, other_mask), ours(other_ids, other_mask), 1e-6)


@pytest.mark.slow
def test_a_compiled_model_neither_breaks_its_graph_nor_recompiles_for_another_length():
    torch._dynamo.reset()
    _, ours = both(2)
    expected = copy.deepcopy(ours)
    freeze(ours, encoder=True, embeddings=True)
    ours.train()
    expected.train()
    graphs = []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(ours, fullgraph=True, dynamic=True, backend=count)
    for seed, lengths in enumerate([LENGTHS, (20, 7, 8, 30), (5, 6), (40, 41, 50, 12, 33), (64, 9, 5, 5)]):
        ids, mask = pairs(lengths, seed=seed)
        logits = compiled(ids, mask)
        logits.sum().backward()
        assert close(logits.detach(), expected(ids, mask).detach(), 1e-5)
    assert len(graphs) == 1
    torch._dynamo.reset()
