"""The short cut is exact: logits, gradients and an optimizer step are those of stock transformers.

The reference is always `BartForSequenceClassification` with the same weights on the same input, all dropout at 0.
Tolerances are DESIGN's: 1e-5 relative in float32, 2e-2 under bf16 autocast.
"""

import copy
import json

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import BartForSequenceClassification

from distilbart_mnli.model.bart import ShortCutBart, count_parameters, freeze, last_eos_position, to_stock
from tests.support.tiny import tiny_bart, tiny_config

LENGTHS = (9, 4, 17, 3)
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Largest difference, relative to the largest value."""
    return (found - expected).abs().max() <= tolerance * expected.abs().max()


def pairs(lengths=LENGTHS, side="right", seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of `<s> A </s></s> B </s>` with three eos in every row (stock insists), padded on `side`; and the mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(lengths), max(lengths)), 1)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        text = torch.randint(5, 400, (length,), generator=generator)
        text[0] = 0
        text[-1] = 2
        middle = max(1, length // 2 - 1)
        text[middle] = 2
        if length > 3:
            text[middle + 1] = 2
        place = slice(0, length) if side == "right" else slice(max(lengths) - length, None)
        ids[row, place], mask[row, place] = text, 1
    return ids, mask


def both(decoder_layers=2, attention="sdpa", **config) -> tuple[BartForSequenceClassification, ShortCutBart]:
    """Stock and short-cut models with equal weights (whose biases are not zero, as in a trained model)."""
    config = tiny_config(decoder_layers=decoder_layers, **config)
    torch.manual_seed(0)
    stock = BartForSequenceClassification._from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in stock.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    ours = ShortCutBart._from_config(copy.deepcopy(config), attn_implementation=attention)
    missing, unexpected = ours.load_state_dict(stock.state_dict())
    assert not missing and not unexpected
    assert ours.config._attn_implementation == stock.config._attn_implementation == attention
    return stock.eval(), ours.eval()


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


def test_no_shape_depends_on_the_data():
    """A graph that is exported for symbolic sizes gives the logits of the model at other sizes."""
    _, ours = both(2, "eager")
    ids, mask = pairs()
    sizes = {0: torch.export.Dim("batch", min=2, max=64), 1: torch.export.Dim("length", min=4, max=128)}
    with torch.no_grad():
        exported = torch.export.export(ours, (ids, mask), dynamic_shapes=(sizes, sizes), strict=False)
        other_ids, other_mask = pairs((30, 5, 6, 7, 8, 31, 12))
        assert close(exported.module()(other_ids, other_mask), ours(other_ids, other_mask), 1e-6)


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


# ---------------------------------------------------------------------------------------------------------------------
# Freezing


def trained_for(model: ShortCutBart, steps: int) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    for step in range(steps):
        ids, mask = pairs(seed=step)
        cross_entropy(model(ids, mask), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return optimizer


def test_a_frozen_encoder_has_no_graph_no_gradient_no_state_and_does_not_change():
    _, model = both(2, dropout=0.1)
    freeze(model, encoder=True, embeddings=False)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.model.encoder.state_dict().items()}
    ids, mask = pairs()
    assert model.encode(ids, mask).grad_fn is None
    cross_entropy(model(ids, mask), torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is None for p in model.model.encoder.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    optimizer = trained_for(model, 3)
    frozen = {id(p) for p in model.model.encoder.parameters()}
    assert optimizer.state and not frozen & {id(p) for p in optimizer.state}
    for name, tensor in model.model.encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    # The token table is the encoder's too; the decoder's own positions are not.
    assert not model.model.decoder.embed_tokens.weight.requires_grad
    assert model.model.decoder.embed_positions.weight.requires_grad


def test_freezing_the_embeddings_freezes_the_token_table_and_both_position_tables_only():
    _, model = both(2)
    everything = {name for name, _ in model.named_parameters()}
    freeze(model, encoder=False, embeddings=True)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        "model.shared.weight",
        "model.encoder.embed_positions.weight",
        "model.decoder.embed_positions.weight",
    }
    assert everything - frozen
    trained_for(model, 1)


def test_a_frozen_encoder_runs_without_dropout_while_the_decoder_has_it_unless_asked_otherwise():
    _, model = both(2, dropout=0.5)
    ids, mask = pairs()
    freeze(model, encoder=True, embeddings=True)
    model.train()
    assert torch.equal(model.encode(ids, mask), model.encode(ids, mask))
    assert not torch.equal(model(ids, mask), model(ids, mask))
    assert not model.model.encoder.training and model.model.decoder.training

    _, model = both(2, dropout=0.5)
    freeze(model, encoder=True, embeddings=True, encoder_dropout=True)
    model.train()
    assert not torch.equal(model.encode(ids, mask), model.encode(ids, mask))
    assert model.encode(ids, mask).grad_fn is None
    model.eval()
    assert torch.equal(model.encode(ids, mask), model.encode(ids, mask))


def test_dropout_of_the_last_layer_is_active_in_training_at_the_rates_of_the_configuration():
    """Each of the three rates alone makes two passes differ; none of them does in eval mode."""
    ids, mask = pairs()
    for rate in ("dropout", "attention_dropout", "activation_dropout"):
        _, model = both(1, **{rate: 0.5})
        model.train()
        for module in (model.model.encoder, model.classification_head):
            module.eval()
        encoded = model.encode(ids, mask).detach()
        model.model.decoder.dropout = 0.0  # of the embeddings: what is left is the layer computed at one position
        assert not torch.equal(model(ids, mask, encoded), model(ids, mask, encoded)), rate
        model.eval()
        assert torch.equal(model(ids, mask, encoded), model(ids, mask, encoded)), rate


def test_the_expected_logits_under_attention_dropout_are_those_without():
    """Inverted dropout keeps the mean of the attention's output: what is dropped is scaled back."""
    from distilbart_mnli.model.bart import attend_from_one_position

    _, model = both(1, dropout=0.3)
    attention = model.model.decoder.layers[0].encoder_attn
    states, query = torch.randn(2, 7, 16), torch.randn(2, 1, 16)
    mask = torch.ones(2, 7, dtype=torch.bool)
    with torch.no_grad():
        exact = attend_from_one_position(attention.eval(), query, states, mask)
        attention.train()
        mean = sum(attend_from_one_position(attention, query, states, mask) for _ in range(3000)) / 3000
    assert (mean - exact).abs().max() < 0.1 * exact.abs().max()


def test_gradient_checkpointing_gives_the_same_gradients():
    for layers in (1, 3):
        _, plain = both(layers)
        _, saving = both(layers)
        for model in (plain, saving):
            freeze(model, encoder=True, embeddings=True)
            model.train()
        saving.gradient_checkpointing_enable({"use_reentrant": False})
        ids, mask = pairs()
        for model in (plain, saving):
            cross_entropy(model(ids, mask), torch.tensor([0, 1, 2, 0])).backward()
        for (name, expected), found in zip(plain.named_parameters(), saving.parameters(), strict=True):
            if expected.requires_grad:
                assert torch.allclose(found.grad, expected.grad, rtol=1e-6, atol=1e-9), name


# ---------------------------------------------------------------------------------------------------------------------
# What is saved, what is counted


def test_a_saved_model_is_stock_and_tied(tmp_path):
    _, ours = both(2)
    ids, mask = pairs([9, 6, 17, 4])
    with torch.no_grad():
        expected = ours(ids, mask)
    to_stock(ours).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BartForSequenceClassification"] and "auto_map" not in config
    loaded, info = BartForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tables = [loaded.model.shared, loaded.model.encoder.embed_tokens, loaded.model.decoder.embed_tokens]
    assert len({table.weight.data_ptr() for table in tables}) == 1
    with torch.no_grad():
        assert close(loaded.eval()(ids, attention_mask=mask).logits, expected, 1e-5)
    assert type(to_stock(loaded)) is BartForSequenceClassification


def test_the_stock_view_shares_its_tensors_and_keeps_tied_weights_tied():
    _, ours = both(2)
    stock = to_stock(ours)
    assert stock.model.shared.weight.data_ptr() == ours.model.shared.weight.data_ptr()
    assert stock.model.decoder.embed_tokens.weight.data_ptr() == ours.model.shared.weight.data_ptr()
    assert stock.model.decoder.layers[1].fc1.weight.data_ptr() == ours.model.decoder.layers[1].fc1.weight.data_ptr()


def test_parameters_are_counted_once_each():
    model = tiny_bart()
    state = {name: tensor for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    total = sum(tensor.numel() for tensor in state.values())
    _, ours = both(2)
    assert count_parameters(ours) == (total, total)
    freeze(ours, encoder=True, embeddings=True)
    encoder = sum(t.numel() for n, t in state.items() if n.startswith("model.encoder."))
    tables = state["model.shared.weight"].numel() + state["model.decoder.embed_positions.weight"].numel()
    assert count_parameters(ours) == (total - encoder - tables, total)
